//! Raw calls with right and wrong arguments in any order, beside a model that knows each frame's
//! truth: what is right is done, what is wrong is refused and told, and no frame of another owner
//! ever changes.

use std::collections::BTreeMap;

use tailpin::{Block, FrameRange, GetError, Order, Pfn, Protocol, REF_LIMIT, RawBlock, Request, Zone};

use crate::common::{Heard, Random};

const FRAMES: u64 = 1024;
const STEPS: usize = 300;
const SEEDS: u64 = 300;

/// A block that was: where, how large, and a number of its own.
type Was = (u64, u8, u64);

/// What the model knows of a live block.
#[derive(Clone, Debug)]
struct Live {
    order: u8,
    refs: u64,
    generation: u8,
    /// A handle has it: no raw call may change it.
    others: bool,
    /// Every block that it is all or part of and of which there may be tokens.
    was: Vec<Was>,
    /// How often a split has made it smaller in its present generation.
    splits: u32,
}

struct Model<'z, P: Protocol> {
    zone: &'z Zone<'z, P>,
    heard: &'z Heard,
    random: Random,
    live: BTreeMap<u64, Live>,
    handles: Vec<Block<'z, P>>,
    /// Every token there ever was.
    tokens: Vec<RawBlock>,
    numbers: u64,
}

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn frames(token: RawBlock) -> std::ops::Range<u64> {
    let start = token.pfn().get();
    start..start.saturating_add(token.order().frames())
}

impl<'z, P: Protocol> Model<'z, P> {
    fn begins(&mut self, head: Pfn, order: Order, others: bool) {
        let number = self.number();
        let (was, generation) = (vec![(head.get(), order.get(), number)], self.generation(head.get()));
        let live = Live { order: order.get(), refs: 1, generation, others, was, splits: 0 };
        assert!(self.live.insert(head.get(), live).is_none());
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn generation(&self, head: u64) -> u8 {
        self.zone.state(Pfn::new(head)).unwrap().generation
    }

    /// The pieces that the token stands for, if it is right.
    fn right(&self, token: RawBlock) -> Option<Vec<u64>> {
        let first = self.live.get(&token.pfn().get()).filter(|live| live.generation == token.generation())?;
        // Or of the first half of what it was, the first quarter and so on: a caller that has the
        // whole has these.
        let is_it = |was: &&Was| was.0 == token.pfn().get() && was.1 >= token.order().get();
        let was = first.was.iter().rev().find(is_it)?;
        let (mut pieces, mut at) = (Vec::new(), token.pfn().get());
        while at < frames(token).end {
            let live = self.live.get(&at).filter(|live| live.was.contains(was))?;
            pieces.push(at);
            at += 1 << live.order;
        }
        (at == frames(token).end && token.pfn().is_aligned(token.order())).then_some(pieces)
    }

    /// Whether the call would be right in all its parts, but not by one who may: that can't be
    /// told. A frame that was split more than once is believed about what it was.
    fn is_untold(&self, token: RawBlock) -> bool {
        let first = self.live.get(&token.pfn().get());
        let split_often = first.is_some_and(|live| live.splits > 1 && token.order().get() > live.order);
        match self.right(token) {
            Some(pieces) => pieces.iter().any(|piece| self.live[piece].others),
            None => split_often,
        }
    }

    fn some_token(&mut self) -> RawBlock {
        let any = self.random.below(self.tokens.len().max(1) as u64) as usize;
        let old = self.tokens.get(any).copied();
        let heads: Vec<u64> = self.live.keys().copied().collect();
        let head = heads.get(self.random.below(heads.len().max(1) as u64) as usize).copied().unwrap_or(0);
        let of = self.live.get(&head).map_or(0, |live| live.order);
        let generation = self.generation(head);
        match self.random.below(9) {
            0..3 => old.unwrap_or(RawBlock::from_parts(Pfn::new(head), order(of), generation)),
            3 | 4 => RawBlock::from_parts(Pfn::new(head), order(of), generation),
            5 => RawBlock::from_parts(Pfn::new(head), order(self.random.below(7) as u8), generation),
            6 => RawBlock::from_parts(Pfn::new(head), order(of), generation.wrapping_sub(1) & 63),
            7 => {
                let frame = self.random.below(FRAMES);
                let wild = RawBlock::from_parts(Pfn::new(frame), order(0), 0).pfn();
                RawBlock::from_parts(wild, order(self.random.below(10) as u8), self.generation(frame))
            }
            _ => {
                let far = [FRAMES, FRAMES - 1, 1 << 52, 1 << 63, u64::MAX - 7, u64::MAX];
                let far = far[self.random.below(6) as usize];
                RawBlock::from_parts(Pfn::new(far), order([0, 1, 3, 9, 18][self.random.below(5) as usize]), 0)
            }
        }
    }

    /// Does something with a token; `does` says whether the model would have it done, and changes
    /// the model then.
    fn with_token(
        &mut self,
        token: RawBlock,
        call: impl FnOnce(&Self) -> bool,
        does: impl FnOnce(&mut Self, Vec<u64>) -> Option<bool>,
    ) {
        if self.is_untold(token) {
            return;
        }
        let told = self.heard.count();
        let right = self.right(token);
        let done = call(self);
        let expected = right.and_then(|pieces| does(self, pieces));
        assert_eq!(done, expected == Some(true), "{token:?}");
        // What is wrong is told, what is refused for another reason is not.
        assert_eq!(self.heard.count() - told, usize::from(expected.is_none()), "{token:?}");
    }

    fn get(&mut self) {
        let token = self.some_token();
        let n = [0, 1, 2, REF_LIMIT - 1, REF_LIMIT, 1 << 63, u64::MAX - 3, u64::MAX]
            [self.random.below(8) as usize];
        let call = |model: &Self| match model.zone.raw().get_many(token, n) {
            Ok(()) => true,
            Err(GetError::CountLimit | GetError::NotInUse) => false,
        };
        self.with_token(token, call, |model, pieces| {
            // Classic has room for more; the others are far beyond either limit.
            let limit = if P::REARRANGES { REF_LIMIT } else { 1 << 31 };
            let fits = |piece: &u64| model.live[piece].refs.checked_add(n).is_some_and(|refs| refs <= limit);
            let fits = pieces.iter().all(fits);
            if fits {
                pieces.iter().for_each(|piece| model.live.get_mut(piece).unwrap().refs += n);
            }
            Some(fits)
        });
    }

    fn put(&mut self) {
        let token = self.some_token();
        let n = [0, 1, 1, 1, 2, REF_LIMIT, 1 << 63, u64::MAX][self.random.below(8) as usize];
        let call = |model: &Self| model.zone.raw().put_many(token, n).is_ok();
        self.with_token(token, call, |model, pieces| {
            if pieces.iter().any(|piece| model.live[piece].refs < n) {
                return None;
            }
            for piece in pieces {
                model.live.get_mut(&piece).unwrap().refs -= n;
                if model.live[&piece].refs == 0 {
                    model.live.remove(&piece);
                }
            }
            Some(true)
        });
    }

    /// The token if it is the only reference to one block.
    fn only(&self, token: RawBlock, pieces: &[u64]) -> Option<u64> {
        let live = &self.live[&pieces[0]];
        (live.order == token.order().get() && live.refs == 1).then_some(pieces[0])
    }

    fn free(&mut self) {
        let token = self.some_token();
        let call = |model: &Self| model.zone.raw().free(token).is_ok();
        self.with_token(token, call, |model, pieces| {
            let head = model.only(token, &pieces)?;
            model.live.remove(&head).map(|_| true)
        });
    }

    fn adopt(&mut self) {
        let token = self.some_token();
        if self.is_untold(token) {
            return;
        }
        let block = self.zone.raw().adopt(token).ok();
        let done = block.is_some();
        self.handles.extend(block);
        let told = self.heard.count() - usize::from(!done);
        let expected = self.right(token).and_then(|pieces| self.only(token, &pieces));
        assert_eq!((done, self.heard.count() - told), (expected.is_some(), usize::from(!done)), "{token:?}");
        if let Some(head) = expected {
            self.live.remove(&head);
            self.begins(token.pfn(), token.order(), true);
        }
    }

    fn split(&mut self) {
        let (token, target) = (self.some_token(), self.random.below(5) as u8);
        let call = |model: &Self| model.zone.raw().split(token, order(target)).is_ok();
        self.with_token(token, call, |model, pieces| {
            for piece in pieces {
                model.split_piece(piece, target);
            }
            Some(true)
        });
    }

    fn split_piece(&mut self, head: u64, target: u8) {
        let whole = self.live[&head].clone();
        if whole.order <= target {
            return;
        }
        for at in (head..head + (1 << whole.order)).step_by(1 << target) {
            let (number, generation) = (self.number(), self.generation(at));
            let mut piece = Live { order: target, generation, splits: 0, ..whole.clone() };
            piece.was.push((at, target, number));
            if at == head {
                piece.splits = whole.splits + 1;
                assert_eq!(piece.generation, whole.generation, "the first piece keeps its generation");
            }
            self.live.insert(at, piece);
        }
    }

    fn split_around(&mut self) {
        let token = self.some_token();
        let page = token.pfn().get().wrapping_add(self.random.below(20));
        let call = |model: &Self| model.zone.raw().split_around(token, Pfn::new(page), Order::PAGE).is_ok();
        self.with_token(token, call, |model, _| {
            if !frames(token).contains(&page) {
                return Some(false);
            }
            loop {
                let (head, live) = model.live.range(..=page).next_back().unwrap();
                let (head, of) = (*head, live.order);
                if of == 0 {
                    return Some(true);
                }
                model.split_piece(head, of - 1);
            }
        });
    }

    fn merge(&mut self) {
        let near = self.some_token();
        if near.pfn().get() >= FRAMES {
            return;
        }
        let of = order(self.random.below(6) as u8);
        let head = near.pfn().head(of);
        let raw = self.zone.raw();
        let mut row: Vec<RawBlock> = raw.tokens(FrameRange::block(head, of)).collect();
        if self.random.below(3) == 0 {
            let bad = self.random.below(row.len() as u64) as usize;
            row[bad] = self.some_token();
        }
        let mine = |token: &RawBlock| {
            let pieces = self.right(*token)?;
            (pieces.len() == 1 && !self.live[&pieces[0]].others).then_some(*token)
        };
        // Of a row that is right but for its owner nothing can be told.
        if row.iter().any(|token| self.is_untold(*token)) {
            return;
        }
        let fits = row.windows(2).all(|two| frames(two[0]).end == two[1].pfn().get());
        let total: u64 = row.iter().map(|token| token.order().frames()).sum();
        let whole = total.is_power_of_two() && row[0].pfn().get().is_multiple_of(total);
        let right =
            row.iter().all(|token| mine(token).is_some_and(|token| self.live[&token.pfn().get()].refs == 1));
        let merged = raw.merge(row.iter().copied());
        assert_eq!(merged.is_ok(), fits && whole && right, "{row:?}");
        if let Ok(token) = merged {
            self.tokens.push(token);
            if row.len() > 1 {
                let kept = self.live[&token.pfn().get()].was.clone();
                row.iter().for_each(|token| assert!(self.live.remove(&token.pfn().get()).is_some()));
                self.begins(token.pfn(), token.order(), false);
                // It still is part of what it was part of before it was split off.
                let live = self.live.get_mut(&token.pfn().get()).unwrap();
                live.was.extend(kept.into_iter().filter(|was| was.0 != token.pfn().get()));
            }
        } else {
            // Blocks may have been split to pages on the way.
            for token in row.iter().filter(|token| token.order() < Order::HUGE) {
                let head = token.pfn().get();
                let order_now = self.zone.state(token.pfn()).map(|state| state.order.get());
                if self.live.get(&head).is_some_and(|live| Some(live.order) != order_now) {
                    assert_eq!(order_now, Some(0));
                    self.split_piece(head, 0);
                }
            }
        }
    }

    /// A pin, puts of all pins there are not, and its put.
    fn pin(&mut self) {
        let raw = self.zone.raw();
        let mine: Vec<(u64, u8)> = self
            .live
            .iter()
            .filter(|(_, live)| !live.others)
            .map(|(head, live)| (*head, live.order))
            .collect();
        let Some(&(head, of)) = mine.get(self.random.below(mine.len().max(1) as u64) as usize) else {
            return;
        };
        let pinned = head + self.random.below(1 << of);
        raw.pin(Pfn::new(pinned)).unwrap();
        for page in (head..head + (1 << of)).filter(|page| *page != pinned) {
            raw.unpin(Pfn::new(page)).unwrap_err();
        }
        raw.unpin(Pfn::new(pinned)).unwrap();
        raw.unpin(Pfn::new(pinned)).unwrap_err();
    }

    fn step(&mut self) {
        let of = self.random.below(6) as u8;
        match self.random.below(16) {
            0..3 => {
                if let Ok(token) = self.zone.raw().alloc(Request::new(order(of))) {
                    self.begins(token.pfn(), token.order(), false);
                    self.tokens.push(token);
                }
            }
            3 | 4 => {
                if let Ok(block) = self.zone.alloc(order(of)) {
                    self.begins(block.pfn(), block.order(), true);
                    self.handles.push(block);
                }
            }
            5 if !self.handles.is_empty() => {
                let any = self.random.below(self.handles.len() as u64) as usize;
                let block = self.handles.swap_remove(any);
                self.live.remove(&block.pfn().get());
            }
            6 => {
                let token = self.zone.raw().token(Pfn::new(self.random.below(FRAMES)));
                self.tokens.push(token);
            }
            7 => self.get(),
            8 | 9 => self.put(),
            10 => self.free(),
            11 => self.adopt(),
            12 => self.split(),
            13 if P::REARRANGES => self.split_around(),
            14 if P::REARRANGES => self.merge(),
            _ => self.pin(),
        }
    }

    /// Every live block is just as the model has it.
    fn check(&self) {
        for (head, live) in &self.live {
            let state = self.zone.state(Pfn::new(*head)).unwrap();
            let now = (state.order.get(), state.refs, state.generation, state.pins);
            assert_eq!(
                now,
                (live.order, live.refs, live.generation, 0),
                "block {head:#x}: {state}, {live:?}"
            );
            let last = Pfn::new(head + (1 << live.order) - 1);
            assert_eq!(self.zone.head_of(last), Some((Pfn::new(*head), order(live.order))));
        }
    }

    fn finish(mut self) {
        self.handles.clear();
        self.live.retain(|_, live| !live.others);
        for (head, live) in std::mem::take(&mut self.live) {
            let token = RawBlock::from_parts(Pfn::new(head), order(live.order), live.generation);
            self.zone.raw().put_many(token, live.refs).unwrap();
        }
        let audit = self.zone.audit();
        assert_eq!((audit.violations(), self.zone.used_frames()), (0, 0), "{audit}");
    }
}

fn raw_calls<P: Protocol>(zone: &Zone<'_, P>, heard: &Heard, seed: u64) {
    let mut model = Model {
        zone,
        heard,
        random: Random::new(seed),
        live: BTreeMap::new(),
        handles: Vec::new(),
        tokens: Vec::new(),
        numbers: 0,
    };
    for _ in 0..STEPS {
        model.step();
        model.check();
    }
    model.finish();
}

#[test]
fn no_wrong_raw_call_changes_what_is_not_the_callers() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        on_both!(FRAMES, raw_calls, seed);
    }
}
