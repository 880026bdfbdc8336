//! A page is found by its number in the middle of a merge; and a tail is to leave service in the
//! middle of a split.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::common::between::{FRAMES, LockFree, TestWord, World, order, with_before};
use crate::common::hooked::words;
use proptest::prelude::*;
use tailpin::{
    BlockLife, BlockRefs, Checked, Class, FrameMask, FrameRange, FrameWords, FreeSink, Kind, MergeError,
    Misuse, OneWord, Order, Pfn, Rearrange, Zone, ZoneConfig, ZoneLayout, ZoneMemory,
};

type FoundIn<'m> = Zone<'m, OneWord<'m, TestWord>>;

/// What a block is taken apart to before it is merged.
#[derive(Clone, Copy, Debug)]
enum Pieces {
    Pages,
    Blocks(u8),
    /// One page, and the rest in pieces as large as possible.
    Around(u64),
}

#[derive(Clone, Copy, Debug)]
struct Case {
    whole: u8,
    pieces: Pieces,
    /// Pins on pages, taken before.
    pins: &'static [u64],
    /// The block that is found, and the page that is pinned after that.
    found: (u64, u8),
    pinned: u64,
}

/// The block is found and the page pinned before access `k` of the merge. False if there are not so
/// many.
fn found_before(case: Case, k: u64) -> bool {
    let what = (case, k);
    let world = World::new::<LockFree>();
    let (other, got) = (Rc::clone(&world), Rc::new(Cell::new((false, false))));
    let getting = Rc::clone(&got);
    let (head, of) = (Pfn::new(case.found.0), order(case.found.1));
    world.with::<LockFree, _>(|zone: &FoundIn<'_>| {
        let block = zone.alloc(order(case.whole)).unwrap();
        assert_eq!(block.pfn(), Pfn::new(0), "{what:?}");
        let pieces = match case.pieces {
            Pieces::Pages => block.split().unwrap(),
            Pieces::Blocks(to) => block.split_to(order(to)).unwrap(),
            Pieces::Around(page) => block.split_around(page, Order::PAGE).unwrap(),
        };
        let pins: Vec<_> = case.pins.iter().map(|&page| zone.try_pin(Pfn::new(page)).unwrap()).collect();
        let merged = Cell::new(None);
        let reached = with_before(
            k,
            || merged.set(Some(pieces.merge())),
            move || {
                other.with::<LockFree, _>(|zone: &FoundIn<'_>| {
                    let block = zone.try_block(head, of).map(std::mem::forget).is_ok();
                    let page = zone.try_pin(Pfn::new(case.pinned)).map(std::mem::forget).is_ok();
                    getting.set((block, page));
                });
            },
        );
        let (found, pinned) = got.get();
        match merged.take().unwrap() {
            Ok(whole) => {
                // Where it is the whole that was found, it may be shared.
                assert!(!found || of == whole.order(), "{what:?}: taken in with a reference");
                drop(whole);
            }
            Err((pieces, error)) => {
                assert!(found && matches!(error, MergeError::Shared { .. }), "{what:?}: {error}");
                drop(pieces);
            }
        }
        if found {
            let raw = zone.raw();
            raw.tokens(FrameRange::block(head, of)).for_each(|token| raw.put_many(token, 1).unwrap());
        }
        drop(pins);
        if pinned {
            zone.raw().unpin(Pfn::new(case.pinned)).unwrap();
        }
        let audit = zone.audit();
        assert_eq!((zone.used_frames(), audit.violations(), audit.free), (0, 0, FRAMES), "{what:?}: {audit}");
        reached
    })
}

#[test]
fn a_piece_that_is_found_during_a_merge_is_not_taken_in() {
    let small = |pieces| Case { whole: 3, pieces, pins: &[], found: (0, 0), pinned: 0 };
    let mut refused = 0;
    for pieces in [Pieces::Pages, Pieces::Blocks(1), Pieces::Blocks(2), Pieces::Around(0), Pieces::Around(7)]
    {
        for pins in [&[][..], &[1], &[6], &[4, 5]] {
            for found in [(0, 0), (1, 0), (7, 0), (6, 1), (0, 2), (4, 2)] {
                for pinned in [1, 5, 7] {
                    let case = Case { pins, found, pinned, ..small(pieces) };
                    let mut k = 0;
                    while found_before(case, k) {
                        k += 1;
                    }
                    refused += k;
                }
            }
        }
    }
    assert!(refused > 0);
    // Of 2 MiB, and of more.
    for (whole, pieces) in [(9, Pieces::Pages), (9, Pieces::Blocks(8)), (10, Pieces::Around(700))] {
        for found in [(0, 0), (300, 0), (256, 8), (701, 0), (0, 9)] {
            let case = Case { whole, pieces, pins: &[600], found, pinned: 511 };
            let mut k = 0;
            while found_before(Case { pins: if whole > 9 { case.pins } else { &[] }, ..case }, k) {
                k += if k < 20 { 1 } else { 97 };
            }
        }
    }
}

/// Frames of a block that left service.
#[derive(Default)]
struct Left(Mutex<Vec<u64>>);

impl FreeSink for Left {
    fn freed_block(&self, _: Pfn, _: Order) {}
    fn freed_frames(&self, _: Pfn, _: &FrameMask) {}
    fn freed_offline(&self, frame: Pfn) {
        self.0.lock().unwrap().push(frame.get());
    }
    fn misuse(&self, misuse: &Misuse) {
        panic!("{misuse}");
    }
}

/// A thread that marks frame 3 is stopped before its access `k`. Then the frame becomes a tail of a
/// block, whose split into halves begins, and the thread goes on before access `j` of the split.
/// Whether there were so many accesses of each.
fn marked_during_a_split(k: u64, j: u64) -> (bool, bool) {
    let words: Vec<TestWord> = words(512);
    let (protocol, left) = (|| OneWord::<TestWord>::new(&words, Pfn::new(0)), Left::default());
    let (stopped, is_stopped) = channel();
    let (go, goes) = channel();
    let (done, is_done) = channel();
    let frame = Pfn::new(3);
    let (marked, reached) = std::thread::scope(|scope| {
        let (protocol, left) = (&protocol, &left);
        let marker = scope.spawn(move || {
            let stop = move || {
                stopped.send(true).unwrap();
                // Without a message where the split has fewer accesses: then it is over.
                let _ = goes.recv();
            };
            let mut marked = false;
            let stops = with_before(k, || marked = protocol().mark_hwpoison(frame, left), stop);
            let _ = done.send(()); // Nothing waits for it where the split is over.
            (marked, stops)
        });
        let stops = is_stopped.recv().is_ok();
        let owner = protocol();
        owner.prepare(Pfn::new(0), order(2)).unwrap();
        owner.publish(Pfn::new(0), order(2), Class::Splittable);
        let split = || owner.split(FrameRange::block(Pfn::new(0), order(2)), order(1), left).unwrap();
        let go_on = move || {
            if stops {
                go.send(()).unwrap();
            }
            is_done.recv().unwrap();
        };
        let reached = with_before(j, split, go_on);
        (marker.join().unwrap().0, (stops, reached))
    });
    let owner = protocol();
    for half in [0, 2].map(Pfn::new) {
        let pins = owner.audit_block(half, order(1), &mut |frame, finding| {
            panic!("{frame}: {finding}: stopped before {k}, went on before {j}")
        });
        assert_eq!(pins, 0, "stopped before {k}, went on before {j}");
    }
    owner.put_block(Pfn::new(0), order(2), &left);
    let kind = owner.state(frame).kind;
    assert_eq!(kind == Kind::Offline, marked, "{kind:?}: stopped before {k}, went on before {j}");
    assert_eq!(*left.0.lock().unwrap(), if marked { &[3][..] } else { &[] });
    reached
}

#[test]
fn a_tail_that_is_to_leave_service_ends_a_heads_only_split() {
    let mut k = 0;
    loop {
        let mut j = 0;
        let stops = loop {
            let (stops, reached) = marked_during_a_split(k, j);
            if !reached {
                break stops;
            }
            j += 1;
        };
        if !stops {
            break;
        }
        k += 1;
    }
    assert!(k > 3, "it looks at the frame, for its head, and again");
}

proptest! {
    /// A merge is refused as long as another reference to a piece is there, keeps all that callers
    /// have, and is done once it is gone.
    #[test]
    fn a_merge_is_refused_as_long_as_a_piece_is_found(
        target in 0_u8..4,
        found in prop::collection::btree_set(0_u64..16, 0..4),
        pinned in prop::collection::vec(0_u64..16, 0..4),
    ) {
        let ranges = [FrameRange::new(Pfn::new(0), 512)];
        let layout = ZoneLayout::new(&ranges, 1).unwrap();
        let memory = ZoneMemory::for_layout(&layout);
        let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
        let block = zone.alloc(order(4)).unwrap();
        let (frames, head) = (block.frames(), block.pfn());
        let pins: Vec<_> = pinned.iter().map(|page| block.pin(*page).unwrap()).collect();
        let pieces = block.split_to(order(target)).unwrap();
        let heads: BTreeSet<_> = found.iter().map(|page| head.offset(*page).head(order(target))).collect();
        let others: Vec<_> = heads.iter().map(|at| zone.try_block(*at, order(target)).unwrap()).collect();
        let whole = match pieces.merge() {
            Ok(whole) => {
                prop_assert!(others.is_empty());
                whole
            }
            Err((pieces, why)) => {
                let shared = matches!(why, MergeError::Shared { head } if heads.contains(&head));
                prop_assert!(shared, "{}", why);
                prop_assert_eq!(pieces.frames(), frames);
                for at in &heads {
                    let state = zone.state(*at).unwrap();
                    prop_assert_eq!((state.order, state.refs), (order(target), 2));
                }
                drop(others);
                pieces.merge().map_err(|(_, why)| why).unwrap()
            }
        };
        prop_assert_eq!((whole.pfn(), whole.order()), (head, order(4)));
        for pin in &pins {
            prop_assert_eq!(pin.head(), (head, order(4)));
        }
        drop(whole);
        let kept: BTreeSet<_> = pinned.iter().collect();
        prop_assert_eq!(zone.used_frames(), kept.len() as u64);
        drop(pins);
        prop_assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
    }
}
