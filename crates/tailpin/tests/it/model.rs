//! Random programs against a plain sequential model, the same for both protocols.
//!
//! The model keeps what a person would: pieces with references, pages with pins. After each program
//! the real zone must agree with it frame by frame, and the audit must find nothing.

use crate::common;

use std::collections::BTreeMap;

use proptest::prelude::*;
use tailpin::{Block, GetError, MergeError, Order, PageRef, Pfn, Protocol, Request, SplitError, Zone};

const FRAMES: u64 = 4 * 512;

#[derive(Clone, Debug)]
enum Op {
    Alloc { order: u8, unsplittable: bool },
    CloneBlock { block: usize },
    DropBlock { block: usize },
    Pin { block: usize, index: u64 },
    ClonePin { pin: usize },
    DropPin { pin: usize },
    TryPin { frame: u64 },
    SplitTo { block: usize, order: u8 },
    SplitAround { block: usize, index: u64, order: u8 },
    Merge { block: usize, order: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    let order = prop_oneof![3 => Just(0u8), 4 => 1u8..9, 4 => Just(9u8), 1 => 10u8..12];
    let which = any::<usize>;
    prop_oneof![
        6 => (order, prop::bool::weighted(0.1)).prop_map(|(order, unsplittable)| Op::Alloc { order, unsplittable }),
        2 => which().prop_map(|block| Op::CloneBlock { block }),
        6 => which().prop_map(|block| Op::DropBlock { block }),
        8 => (which(), any::<u64>()).prop_map(|(block, index)| Op::Pin { block, index }),
        2 => which().prop_map(|pin| Op::ClonePin { pin }),
        6 => which().prop_map(|pin| Op::DropPin { pin }),
        4 => (0..FRAMES).prop_map(|frame| Op::TryPin { frame }),
        3 => (which(), 0u8..10).prop_map(|(block, order)| Op::SplitTo { block, order }),
        3 => (which(), any::<u64>(), 0u8..4).prop_map(|(block, index, order)| Op::SplitAround { block, index, order }),
        5 => (which(), 1u8..12).prop_map(|(block, order)| Op::Merge { block, order }),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    order: u8,
    refs: u64,
    unsplittable: bool,
}

/// The plain model.
struct Model {
    pieces: BTreeMap<u64, Piece>,
    pins: BTreeMap<u64, u64>,
    rearranges: bool,
}

impl Model {
    fn piece_of(&self, frame: u64) -> Option<(u64, Piece)> {
        let (head, piece) = self.pieces.range(..=frame).next_back()?;
        (frame < head + (1 << piece.order)).then_some((*head, *piece))
    }

    fn pins_in(&self, head: u64, order: u8) -> u64 {
        self.pins.range(head..head + (1 << order)).map(|(_, n)| n).sum()
    }

    fn used(&self) -> u64 {
        self.pieces.values().map(|piece| 1u64 << piece.order).sum()
    }

    /// What happens once a piece may have lost its last reference or pin.
    fn settle(&mut self, head: u64) {
        let piece = self.pieces[&head];
        if piece.refs > 0 {
            return;
        }
        if self.pins_in(head, piece.order) == 0 {
            self.pieces.remove(&head);
        } else if self.rearranges && !piece.unsplittable && piece.order > 0 {
            self.pieces.remove(&head);
            for (&page, _) in self.pins.range(head..head + (1 << piece.order)) {
                self.pieces.insert(page, Piece { order: 0, refs: 0, unsplittable: false });
            }
        }
    }

    fn heads(&self, start: u64, frames: u64) -> Vec<u64> {
        self.pieces.range(start..start + frames).map(|(head, _)| *head).collect()
    }

    fn drop_block(&mut self, start: u64, frames: u64) {
        for head in self.heads(start, frames) {
            self.pieces.get_mut(&head).unwrap().refs -= 1;
            self.settle(head);
        }
    }

    fn unpin(&mut self, page: u64) {
        let pins = self.pins.get_mut(&page).unwrap();
        *pins -= 1;
        if *pins == 0 {
            self.pins.remove(&page);
        }
        let (head, _) = self.piece_of(page).unwrap();
        self.settle(head);
    }

    fn cut(&mut self, head: u64, order: u8) {
        let piece = self.pieces.remove(&head).unwrap();
        for at in (head..head + (1 << piece.order)).step_by(1 << order) {
            self.pieces.insert(at, Piece { order, ..piece });
        }
    }

    fn split_to(&mut self, start: u64, frames: u64, order: u8) {
        for head in self.heads(start, frames) {
            if self.pieces[&head].order > order {
                self.cut(head, order);
            }
        }
    }

    fn split_around(&mut self, page: u64, order: u8) {
        while let Some((head, piece)) = self.piece_of(page)
            && piece.order > order
        {
            self.cut(head, piece.order - 1);
        }
    }
}

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn run<'z, P: Protocol>(zone: &'z Zone<'z, P>, heard: &common::Heard, ops: &[Op]) {
    let mut model = Model { pieces: BTreeMap::new(), pins: BTreeMap::new(), rearranges: P::REARRANGES };
    let mut blocks: Vec<Block<'z, P>> = Vec::new();
    let mut pins: Vec<PageRef<'z, P>> = Vec::new();
    for (step, op) in ops.iter().enumerate() {
        apply(zone, &mut model, &mut blocks, &mut pins, op);
        assert_eq!(zone.used_frames(), model.used(), "used frames after {op:?}");
        if step % 8 == 7 {
            compare(zone, &model);
        }
    }
    compare(zone, &model);
    let audit = zone.audit();
    assert_eq!(audit.violations(), 0, "{audit}");
    drop((blocks, pins));
    let audit = zone.audit();
    assert_eq!((audit.violations(), audit.free), (0, FRAMES), "{audit}");
    assert_eq!(zone.free_pageblocks(), FRAMES / 512);
    assert_eq!(heard.count(), 0);
}

fn compare<P: Protocol>(zone: &Zone<'_, P>, model: &Model) {
    for frame in 0..FRAMES {
        let expected = model.piece_of(frame);
        let found = zone.head_of(Pfn::new(frame)).map(|(head, order)| (head.get(), order.get()));
        assert_eq!(found, expected.map(|(head, piece)| (head, piece.order)), "head of {frame}");
        if let Some((head, piece)) = expected
            && head == frame
        {
            let state = zone.state(Pfn::new(frame)).unwrap();
            assert_eq!(state.refs, piece.refs, "references of {frame}: {state}");
        }
    }
}

fn apply<'z, P: Protocol>(
    zone: &'z Zone<'z, P>,
    model: &mut Model,
    blocks: &mut Vec<Block<'z, P>>,
    pins: &mut Vec<PageRef<'z, P>>,
    op: &Op,
) {
    let pick = |index: usize, len: usize| (len > 0).then(|| index % len);
    match *op {
        Op::Alloc { order: o, unsplittable } => {
            let request = Request::new(order(o));
            let request = if unsplittable { request.unsplittable() } else { request };
            match zone.alloc_with(request) {
                Ok(block) => {
                    let head = block.pfn().get();
                    let overlap = (head..head + (1 << o)).any(|frame| model.piece_of(frame).is_some());
                    assert!(!overlap, "{block:?} was in use");
                    assert_eq!(head % (1 << o), 0);
                    model.pieces.insert(head, Piece { order: o, refs: 1, unsplittable });
                    blocks.push(block);
                }
                Err(error) => {
                    // Only right if no aligned run is free.
                    let free = |frame| model.piece_of(frame).is_none();
                    let run = (0..FRAMES).step_by(1 << o).any(|head| (head..head + (1 << o)).all(free));
                    assert!(!run, "{error} although there is one");
                }
            }
        }
        Op::CloneBlock { block } => {
            let Some(i) = pick(block, blocks.len()) else { return };
            let block = blocks[i].clone();
            for head in model.heads(block.pfn().get(), block.frames().frames()) {
                model.pieces.get_mut(&head).unwrap().refs += 1;
            }
            blocks.push(block);
        }
        Op::DropBlock { block } => {
            let Some(i) = pick(block, blocks.len()) else { return };
            let block = blocks.swap_remove(i);
            model.drop_block(block.pfn().get(), block.frames().frames());
        }
        Op::Pin { block, index } => {
            let Some(i) = pick(block, blocks.len()) else { return };
            let pin = blocks[i].pin(index % blocks[i].order().frames()).unwrap();
            *model.pins.entry(pin.pfn().get()).or_default() += 1;
            pins.push(pin);
        }
        Op::ClonePin { pin } => {
            let Some(i) = pick(pin, pins.len()) else { return };
            pins.push(pins[i].clone());
            *model.pins.get_mut(&pins[i].pfn().get()).unwrap() += 1;
        }
        Op::DropPin { pin } => {
            let Some(i) = pick(pin, pins.len()) else { return };
            model.unpin(pins.swap_remove(i).pfn().get());
        }
        Op::TryPin { frame } => match zone.try_pin(Pfn::new(frame)) {
            Ok(pin) => {
                assert!(model.piece_of(frame).is_some(), "{frame} is free, yet was pinned");
                *model.pins.entry(frame).or_default() += 1;
                pins.push(pin);
            }
            Err(error) => {
                assert_eq!(error, GetError::NotInUse);
                assert!(model.piece_of(frame).is_none(), "{frame} is in use, yet was refused");
            }
        },
        Op::SplitTo { block, order: o } => {
            let Some(i) = pick(block, blocks.len()) else { return };
            let block = blocks.swap_remove(i);
            let (start, frames) = (block.pfn().get(), block.frames().frames());
            match block.split_to(order(o)) {
                Ok(pieces) => {
                    model.split_to(start, frames, o);
                    blocks.extend(pieces);
                }
                Err((block, error)) => {
                    let unsplittable = model.piece_of(start).unwrap().1.unsplittable;
                    assert!(
                        matches!(error, SplitError::Unsplittable { .. }) && unsplittable
                            || error == SplitError::NotSupported && !P::REARRANGES && o > 0
                    );
                    blocks.push(block);
                }
            }
        }
        Op::SplitAround { block, index, order: o } => {
            let Some(i) = pick(block, blocks.len()) else { return };
            let block = blocks.swap_remove(i);
            let index = index % block.order().frames();
            let page = block.pfn().get() + index;
            match block.split_around(index, order(o)) {
                Ok(pieces) => {
                    model.split_around(page, o);
                    blocks.extend(pieces);
                }
                Err((block, error)) => {
                    let unsplittable = model.piece_of(page).unwrap().1.unsplittable;
                    assert!(
                        matches!(error, SplitError::Unsplittable { .. }) && unsplittable
                            || error == SplitError::NotSupported && !P::REARRANGES
                    );
                    blocks.push(block);
                }
            }
        }
        Op::Merge { block, order: o } => merge(model, blocks, block, o),
    }
}

/// Merges the aligned range around a block, if the handles at hand tile it.
fn merge<'z, P: Protocol>(model: &mut Model, blocks: &mut Vec<Block<'z, P>>, around: usize, o: u8) {
    if blocks.is_empty() {
        return;
    }
    let start = blocks[around % blocks.len()].pfn().get() & !((1 << o) - 1);
    let mut tiles = Vec::new();
    let mut at = start;
    while at < start + (1 << o) {
        let tile = blocks.iter().find(|block| block.pfn().get() == at && block.order().get() <= o);
        let Some(tile) = tile else { return };
        tiles.push(tile.frames());
        at = tile.frames().end.get();
    }
    // Two handles may begin at the same frame, so each is known by where it ends as well.
    let taken: Vec<_> = tiles
        .into_iter()
        .map(|frames| {
            let i = blocks.iter().position(|block| block.frames() == frames).unwrap();
            blocks.swap_remove(i)
        })
        .collect();
    let mut taken = taken.into_iter();
    let mut run = taken.next().unwrap().into_pieces();
    for block in taken {
        run.append(block).unwrap();
    }
    let heads = model.heads(start, 1 << o);
    let alone = heads.iter().all(|head| model.pieces[head].refs == 1 && !model.pieces[head].unsplittable);
    let whole = heads.len() == 1;
    match run.merge() {
        Ok(block) => {
            assert!(P::REARRANGES || whole);
            assert!(alone, "merged what others refer to");
            for head in heads {
                model.pieces.remove(&head);
            }
            model.pieces.insert(start, Piece { order: o, refs: 1, unsplittable: false });
            blocks.push(block);
        }
        Err((run, error)) => {
            assert!(!alone || !P::REARRANGES, "{error}");
            assert!(error != MergeError::NotABlock);
            blocks.extend(run);
        }
    }
}

/// 1024 programs, or as many as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 1024 };
    ProptestConfig { cases, max_shrink_iters: 20_000, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn one_word_agrees_with_the_model(ops in prop::collection::vec(op(), 1..250)) {
        on_one!(OneWord, FRAMES, run, &ops);
    }

    #[test]
    fn classic_agrees_with_the_model(ops in prop::collection::vec(op(), 1..250)) {
        on_one!(Classic, FRAMES, run, &ops);
    }
}
