//! One operation is interrupted before each of its accesses to shared memory, and another is done
//! there in whole.
//!
//! No thread is needed for that: the words themselves start the other operation. After each pair
//! the words must agree with each other, every page must have exactly the pins that were taken, and
//! once everybody has given back what they have, each frame must have come back exactly once.

use crate::common::hooked;

use std::cell::RefCell;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Mutex;

use hooked::{Access, Hook, words};
use tailpin::{
    BlockLife, BlockRefs, Checked, Class, FrameMask, FrameRange, FrameWords, FreeSink, GetError, Kind,
    Misuse, OneWord, Order, PagePin, Pfn, Pins, Rearrange,
};

const BASE: Pfn = Pfn::new(0x800);
/// More accesses than any pair makes. Beyond them something goes round for ever.
const ENDLESS: u64 = 300_000;

/// What is to happen at which access.
#[derive(Default)]
struct Script {
    made: u64,
    interrupt: Option<(u64, Box<dyn FnOnce()>)>,
}

thread_local! {
    static SCRIPT: RefCell<Script> = RefCell::default();
}

/// Interrupts.
struct Interrupts;

impl Hook for Interrupts {
    fn before(_: Access, _: usize) {
        let interrupt = SCRIPT.with_borrow_mut(|script| {
            script.made += 1;
            assert!(script.made < ENDLESS, "it never ends");
            match script.interrupt.take() {
                Some((0, act)) => Some(act),
                Some((left, act)) => {
                    script.interrupt = Some((left - 1, act));
                    None
                }
                None => None,
            }
        });
        if let Some(act) = interrupt {
            act();
        }
    }
}

type Word = hooked::Word<Interrupts>;

/// Counts how often each frame came back.
#[derive(Default)]
struct Freed(Mutex<Vec<u64>>);

impl FreeSink for Freed {
    fn freed_block(&self, head: Pfn, order: Order) {
        self.0
            .lock()
            .unwrap()
            .extend(FrameRange::block(head, order).iter().map(|frame| frame.get() - BASE.get()));
    }
    fn freed_frames(&self, pageblock: Pfn, frames: &FrameMask) {
        self.0.lock().unwrap().extend(frames.iter().map(|index| pageblock.get() - BASE.get() + index));
    }
    fn freed_offline(&self, frame: Pfn) {
        self.0.lock().unwrap().push(frame.get() - BASE.get());
    }
    fn misuse(&self, misuse: &Misuse) {
        panic!("{misuse}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Pin(u64),
    /// One more where the oldest pin is.
    PinAgain,
    /// Gives back the oldest pin.
    Unpin,
    /// The same by number and checked.
    RawUnpin,
    GetBlock,
    PutBlock,
    Split(u8),
    SplitAround(u64),
    Merge,
    Poison(u64),
    HeadOf(u64),
}

use Act::{GetBlock, HeadOf, Merge, Pin, PinAgain, Poison, PutBlock, RawUnpin, Split, SplitAround, Unpin};

/// One block, and what is held of it.
#[derive(Clone, Copy, Debug)]
struct Scene {
    order: u8,
    /// References to the whole.
    refs: u64,
    pins: &'static [u64],
    /// Split to this order before.
    pieces: Option<u8>,
    /// Split before the pins were taken, not after: so the other tails of pinned pieces are at
    /// rest.
    rested: bool,
    class: Class,
}

const SMALL: Scene =
    Scene { order: 2, refs: 2, pins: &[], pieces: None, rested: false, class: Class::Splittable };

struct World {
    words: Vec<Word>,
    freed: Freed,
    whole: FrameRange,
    order: Order,
    refs: RefCell<u64>,
    pins: RefCell<Vec<PagePin>>,
    poisoned: RefCell<Vec<u64>>,
    merging: bool,
}

impl World {
    fn new(scene: Scene, used: bool, merging: bool) -> Rc<Self> {
        let order = Order::new(scene.order).unwrap();
        let world = Self {
            words: words(order.frames().max(512) as usize),
            freed: Freed::default(),
            whole: FrameRange::block(BASE, order),
            order,
            refs: RefCell::new(1),
            pins: RefCell::default(),
            poisoned: RefCell::default(),
            merging,
        };
        if used {
            world.live_once();
        }
        world.protocol().prepare(BASE, order).unwrap();
        world.protocol().publish(BASE, order, scene.class);
        (1..scene.refs).for_each(|_| world.act(GetBlock));
        let split = || scene.pieces.into_iter().for_each(|order| world.act(Split(order)));
        if scene.rested {
            split();
        }
        scene.pins.iter().for_each(|&page| world.act(Pin(page)));
        if !scene.rested {
            split();
        }
        Rc::new(world)
    }

    /// An earlier life, after which tails still record its order: a larger one, or the same where
    /// pageblocks are whole.
    fn live_once(&self) {
        let order = self.order.max(Order::new(3).unwrap());
        let protocol = self.protocol();
        protocol.prepare(BASE, order).unwrap();
        protocol.publish(BASE, order, Class::Splittable);
        for page in [1, 2, 3, 7, order.frames() - 1] {
            let held = protocol.try_get(BASE.offset(page), &self.freed).unwrap();
            protocol.put(held, &self.freed);
        }
        protocol.put_block(BASE, order, &self.freed);
        self.freed.0.lock().unwrap().clear();
    }

    fn protocol(&self) -> OneWord<'_, Word> {
        OneWord::new(&self.words, BASE)
    }

    fn act(&self, act: Act) {
        let (protocol, owner) = (self.protocol(), &self.freed);
        // A holder has had a reference all the time.
        let sure = || !self.merging && *self.refs.borrow() > 0;
        match act {
            Pin(page) => match protocol.try_get(BASE.offset(page), owner) {
                Ok(counted) => {
                    let held = counted.pin();
                    assert_eq!(held.page, BASE.offset(page));
                    assert!(std::ptr::eq(counted.word(), protocol.word_at(held.counted_at)));
                    self.pins.borrow_mut().push(held);
                }
                Err(error) => {
                    assert!(!sure() && error == GetError::NotInUse, "pin of a page in use: {error}")
                }
            },
            Unpin | RawUnpin => {
                // The other may have been faster.
                if self.pins.borrow().is_empty() {
                    return;
                }
                let held = self.pins.borrow_mut().remove(0);
                if act == Unpin {
                    protocol.put(protocol.counted(held), owner);
                } else {
                    protocol.raw_put(held.page, owner).unwrap();
                }
            }
            PinAgain => {
                if self.pins.borrow().is_empty() {
                    return;
                }
                // Its own until then: no other thread may give it back.
                let held = self.pins.borrow_mut().remove(0);
                protocol.get(protocol.counted(held), owner).unwrap();
                self.pins.borrow_mut().extend([held, held]);
            }
            GetBlock => {
                protocol.get_block(BASE, self.order, owner).unwrap();
                *self.refs.borrow_mut() += 1;
            }
            PutBlock => {
                *self.refs.borrow_mut() -= 1;
                protocol.put_block(BASE, self.order, owner);
            }
            Split(to) => protocol.split(self.whole, Order::new(to).unwrap(), owner).unwrap(),
            SplitAround(page) => {
                protocol.split_around(self.whole, BASE.offset(page), Order::PAGE, owner).unwrap();
            }
            Merge => {
                protocol.merge(BASE, self.order, owner).unwrap();
                assert_eq!(protocol.head_of(self.whole.iter().last().unwrap()), Some((BASE, self.order)));
            }
            Poison(page) => {
                let done = protocol.mark_hwpoison(BASE.offset(page), owner);
                assert!(done || !sure(), "a page in use is poisoned");
                if done {
                    self.poisoned.borrow_mut().push(page);
                }
            }
            HeadOf(page) => {
                let page = BASE.offset(page);
                match protocol.head_of(page) {
                    Some((head, order)) => assert!(FrameRange::block(head, order).contains(page)),
                    None => assert!(!sure(), "a page in use has a head"),
                }
            }
        }
    }

    /// What must hold when nothing is under way.
    fn check(&self, what: &dyn Debug) {
        let protocol = self.protocol();
        let (mut at, mut pinned) = (self.whole.start, 0);
        while at < self.whole.end {
            let state = protocol.state(at);
            at = match state.kind {
                Kind::Page | Kind::Head => {
                    pinned += protocol.audit_block(at, state.order, &mut |frame, finding| {
                        panic!("{frame}: {finding}: {what:?}")
                    });
                    assert_eq!(state.refs, *self.refs.borrow(), "references of {at}: {what:?}");
                    at.offset(state.order.frames())
                }
                kind => {
                    assert!(*self.refs.borrow() == 0, "{at} is {kind:?}: {what:?}");
                    at.offset(1)
                }
            };
        }
        let mut pages: Vec<_> = self.pins.borrow().iter().map(|held| held.counted_at).collect();
        pages.sort();
        pages.dedup();
        assert_eq!(pinned, pages.len() as u64, "pinned pages: {what:?}");
    }

    fn end(&self, what: &dyn Debug) {
        while *self.refs.borrow() > 0 {
            self.act(PutBlock);
        }
        self.check(what);
        while !self.pins.borrow().is_empty() {
            self.act(Unpin);
        }
        let mut freed = self.freed.0.lock().unwrap().clone();
        freed.sort_unstable();
        assert!(freed.into_iter().eq(0..self.whole.frames()), "each frame comes back once: {what:?}");
        for &page in self.poisoned.borrow().iter() {
            let kind = self.protocol().state(BASE.offset(page)).kind;
            assert_eq!(kind, Kind::Offline, "what is poisoned leaves service: {what:?}");
        }
    }
}

/// `first` with `then` before its k-th access. False if it has no k-th.
fn pair(scene: Scene, used: bool, first: Act, then: Act, k: u64) -> bool {
    let what = (scene, used, first, then, k);
    SCRIPT.set(Script::default());
    let world = World::new(scene, used, first == Merge || then == Merge);
    let other = Rc::clone(&world);
    SCRIPT.set(Script { made: 0, interrupt: Some((k, Box::new(move || other.act(then)))) });
    world.act(first);
    let reached = SCRIPT.with_borrow_mut(|script| script.interrupt.take()).is_none();
    world.check(&what);
    world.end(&what);
    reached
}

/// Every pair, everywhere; in long operations everywhere at the beginning and here and there after
/// it.
fn pairs(scene: Scene, firsts: &[Act], thens: &[Act]) {
    let has_what_it_needs =
        |act: &&Act| !matches!(act, PinAgain | Unpin | RawUnpin) || !scene.pins.is_empty();
    for &first in firsts.iter().filter(has_what_it_needs) {
        for &then in thens.iter().filter(has_what_it_needs) {
            for used in [false, true] {
                let mut k = 0;
                while pair(scene, used, first, then, k) {
                    k += if k < 40 { 1 } else { 61 };
                }
                assert!(k > 0, "{first:?} accesses something");
            }
        }
    }
}

#[test]
fn pins_meet_everything_that_an_owner_may_do() {
    let firsts = [
        Pin(1),
        Pin(0),
        PinAgain,
        Unpin,
        RawUnpin,
        GetBlock,
        PutBlock,
        Split(0),
        Split(1),
        SplitAround(3),
        Poison(3),
    ];
    let thens = [Pin(1), Pin(3), Unpin, GetBlock, PutBlock, Split(0), Split(1), Poison(1), HeadOf(3)];
    for pins in [&[][..], &[0], &[1], &[3, 1], &[1, 1]] {
        pairs(Scene { pins, ..SMALL }, &firsts, &thens);
    }
    // What has recorded an order before, in larger pieces.
    for pins in [&[1][..], &[3, 2]] {
        pairs(Scene { pins, pieces: Some(1), ..SMALL }, &firsts[..8], &thens);
    }
}

#[test]
fn the_last_reference_meets_pins_that_come_and_go() {
    let thens = [Pin(1), Pin(3), Unpin, RawUnpin, HeadOf(3), Poison(2)];
    for pins in [&[][..], &[0], &[1], &[3, 1], &[0, 2]] {
        for pieces in [None, Some(1), Some(0)] {
            pairs(Scene { refs: 1, pins, pieces, ..SMALL }, &[PutBlock], &thens);
            pairs(
                Scene { refs: 1, pins, pieces, ..SMALL },
                &[Pin(1), Unpin, RawUnpin, Poison(3)],
                &[PutBlock],
            );
        }
    }
}

#[test]
fn a_merge_meets_pins_that_come_and_go() {
    let others = [Pin(1), Pin(3), Pin(2), Unpin, RawUnpin, HeadOf(3), Poison(3)];
    for pins in [&[][..], &[0], &[1], &[3, 1], &[0, 2], &[2, 3]] {
        for pieces in [Some(1), Some(0)] {
            for rested in [false, true] {
                let scene = Scene { refs: 1, pins, pieces, rested, ..SMALL };
                pairs(scene, &[Merge], &others);
                pairs(scene, &[Pin(3), Unpin, HeadOf(3), Poison(3)], &[Merge]);
            }
        }
    }
}

#[test]
fn an_unsplittable_block_counts_at_its_head() {
    let acts = [Pin(1), Pin(0), Unpin, RawUnpin, GetBlock, PutBlock, HeadOf(3)];
    for pins in [&[][..], &[1], &[3, 0]] {
        pairs(Scene { pins, class: Class::Unsplittable, ..SMALL }, &acts, &acts);
        let last = Scene { refs: 1, pins, class: Class::Unsplittable, ..SMALL };
        pairs(last, &[PutBlock], &[Pin(1), Unpin, RawUnpin]);
        pairs(last, &[Pin(1), Unpin], &[PutBlock]);
    }
}

/// The second 2 MiB of 4 MiB, and its own pages.
const LARGE: Scene =
    Scene { order: 10, refs: 2, pins: &[], pieces: None, rested: false, class: Class::Splittable };

#[test]
fn a_block_above_2_mib_is_a_tree() {
    let firsts = [Pin(600), Pin(512), Unpin, GetBlock, PutBlock, Split(9), Poison(600), HeadOf(600)];
    let thens = [Pin(600), Pin(7), Pin(512), Unpin, Split(9), PutBlock, HeadOf(700)];
    for pins in [&[][..], &[600], &[512], &[601, 512], &[0, 7]] {
        pairs(Scene { pins, ..LARGE }, &firsts, &thens);
    }
}

#[test]
fn a_block_above_2_mib_dies_and_is_merged_under_pins() {
    let thens = [Pin(600), Pin(7), Unpin, RawUnpin];
    for pins in [&[][..], &[600], &[512, 7]] {
        pairs(Scene { refs: 1, pins, ..LARGE }, &[PutBlock], &thens);
        pairs(Scene { refs: 1, pins, pieces: Some(9), ..LARGE }, &[Merge], &thens);
        pairs(Scene { refs: 1, pins, pieces: Some(9), ..LARGE }, &[Pin(600), Unpin], &[Merge]);
    }
}

#[test]
fn two_mib_come_back_to_rest_only_where_nobody_holds() {
    for pins in [&[][..], &[300], &[0, 511]] {
        let scene = Scene { order: 9, refs: 1, pins, pieces: Some(0), ..LARGE };
        pairs(scene, &[Merge], &[Pin(300), Unpin, Poison(300)]);
        pairs(Scene { pieces: Some(8), ..scene }, &[Merge], &[Pin(300), Pin(1), Unpin]);
        pairs(Scene { pieces: Some(8), ..scene }, &[Pin(300), Unpin], &[Merge]);
    }
}
