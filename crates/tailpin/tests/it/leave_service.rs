//! A frame is to leave service while something else is in the middle of happening to it, and the
//! other way round.
//!
//! Before each access that an operation makes to shared memory the other one runs from beginning to
//! end. Whatever the frame was at that moment, once all is given back it is out of service, is
//! counted once, and no request is served with it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::common::between::{
    FRAMES, LockFree, Locked, TestWord, Tested, World, ZoneOf, and_before, on_cpu, with_before,
};
use tailpin::{Block, FrameMask, FrameRange, OneWord, Order, Pfn, Protocol, Request, SetAside, Zone};

fn set_aside<T: Tested>(world: &World, frame: u64) -> SetAside {
    on_cpu(1, || world.with::<T, _>(|zone| zone.set_aside(Pfn::new(frame))))
}

/// What moves pages from the pool to where they are claimed, or takes the last pin after the last
/// reference: while a thread is stopped in the middle of that, setting aside may have to be asked
/// for again.
const MOVES: [&str; 3] =
    ["a page from the store", "the last reference goes while a page is pinned", "the same of 4 MiB"];

/// All is given back: the frame is out of service, and nothing else is.
fn end<T: Tested>(world: &World, said: SetAside, frame: u64, what: &str) {
    let said = if said == SetAside::AskAgain && MOVES.iter().any(|moves| what.contains(moves)) {
        // It may have left by now.
        match set_aside::<T>(world, frame) {
            SetAside::NotInService => SetAside::Done,
            said => said,
        }
    } else {
        said
    };
    assert!(matches!(said, SetAside::Done | SetAside::WhenFreed), "{what}: {said:?}");
    while !world.kept.borrow().is_empty() {
        world.give::<T>();
    }
    world.with::<T, _>(|zone| {
        let pages: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::PAGE).ok()).collect();
        assert!(pages.iter().all(|page| page.pfn().get() != frame), "{what}: {said:?}, handed out again");
        assert_eq!((pages.len() as u64, zone.set_aside_frames()), (FRAMES - 1, 1), "{what}: {said:?}");
        drop(pages);
        let pageblocks: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::HUGE).ok()).collect();
        assert_eq!(pageblocks.len(), 3, "{what}");
        drop(pageblocks);
        let audit = zone.audit();
        assert_eq!(
            (audit.violations(), audit.set_aside, audit.free),
            (0, 1, FRAMES - 1),
            "{what}: {said:?}: {audit}"
        );
    });
}

/// Something that happens to frames.
struct Deed {
    name: &'static str,
    before: fn(&World),
    act: fn(&World),
    /// Frames to be set aside.
    frames: &'static [u64],
}

/// The frame is set aside before access `k` of the deed. False if there are not so many.
fn in_the_middle<T: Tested>(deed: &Deed, frame: u64, k: u64) -> bool {
    let world = World::new::<T>();
    (deed.before)(&world);
    let said = Rc::new(Cell::new(None));
    let (other, saying) = (Rc::clone(&world), Rc::clone(&said));
    with_before(k, || (deed.act)(&world), move || saying.set(Some(set_aside::<T>(&other, frame))));
    let reached = said.get().is_some();
    if let Some(said) = said.get() {
        end::<T>(&world, said, frame, &format!("{}, frame {frame} before access {k}", deed.name));
    }
    reached
}

/// The deed is done before access `k` of setting the frame aside.
fn around<T: Tested + 'static>(deed: &Deed, frame: u64, k: u64) -> bool {
    let world = World::new::<T>();
    (deed.before)(&world);
    let (other, act, said) = (Rc::clone(&world), deed.act, Cell::new(None));
    let reached = with_before(k, || said.set(Some(set_aside::<T>(&world, frame))), move || act(&other));
    let what = format!("setting frame {frame} aside, {} before access {k}", deed.name);
    end::<T>(&world, said.get().unwrap(), frame, &what);
    reached
}

/// Each of the first accesses, and fewer of the later ones, which are the same for many frames.
fn accesses() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(0), |k| Some(k + 1 + k / 60))
}

fn everywhere<T: Tested + 'static>(deed: &Deed) {
    for &frame in deed.frames {
        let middle = accesses().take_while(|k| in_the_middle::<T>(deed, frame, *k)).count();
        let around = accesses().take_while(|k| around::<T>(deed, frame, *k)).count();
        assert!(middle > 0 && around > 0, "{} and frame {frame} touch shared memory", deed.name);
    }
}

macro_rules! deed {
    ($name:expr, $before:expr, $act:expr, $frames:expr) => {
        Deed { name: $name, before: $before, act: $act, frames: $frames }
    };
}

fn pages<T: Tested>() -> Vec<Deed> {
    vec![
        deed!("a page from the store", |_| {}, |w| w.take::<T>(&[0]), &[0, 1, 63]),
        deed!(
            "an uncoalesced page",
            |w| {
                w.take::<T>(&[0, 0]);
                w.give::<T>()
            },
            |w| w.take::<T>(&[0]),
            &[1, 2]
        ),
        deed!("a page is freed", |w| w.take::<T>(&[0, 0]), |w| w.give::<T>(), &[0, 1]),
        deed!(
            "a page is freed, taken, freed and taken",
            |w| w.take::<T>(&[0, 0]),
            |w| {
                w.give::<T>();
                w.take::<T>(&[0]);
                w.give::<T>();
                w.take::<T>(&[0])
            },
            &[1]
        ),
        deed!(
            "uncoalesced pages are drained",
            |w| {
                w.take::<T>(&[0, 0, 0]);
                w.give::<T>()
            },
            |w| w.with::<T, _>(|zone| zone.drain()),
            &[0, 1, 2, 9]
        ),
        deed!(
            "many pages",
            |w| {
                w.take::<T>(&[0, 0, 0]);
                w.give::<T>();
                w.with::<T, _>(|zone| zone.drain())
            },
            |w| w
                .with::<T, _>(|zone| drop(zone.alloc_many(Request::new(Order::PAGE), 5).collect::<Vec<_>>())),
            &[2, 4, 30]
        ),
        deed!(
            "frames are claimed and given back",
            |w| w.take::<T>(&[0]),
            |w| w.with::<T, _>(|zone| {
                zone.drain();
                drop(zone.claim(Pfn::new(0), &FrameMask::from_words([!0, 0, !0, 0, 0, 0, 0, 0])))
            }),
            &[5, 130]
        ),
        deed!(
            "a pageblock is claimed and given back",
            |_| {},
            |w| w.with::<T, _>(|zone| drop(zone.claim_pageblock(Pfn::new(512)))),
            &[512, 700]
        ),
    ]
}

#[test]
fn pages_that_change_hands_leave_service() {
    for deed in pages::<LockFree>() {
        everywhere::<LockFree>(&deed);
    }
    for deed in pages::<Locked>() {
        everywhere::<Locked>(&deed);
    }
}

#[test]
fn blocks_that_change_hands_leave_service() {
    type T = LockFree;
    let deeds = [
        deed!("8 frames from a whole pageblock", |_| {}, |w| w.take::<T>(&[3]), &[0, 5, 63, 64]),
        deed!("8 frames", |w| w.take::<T>(&[3]), |w| w.take::<T>(&[3]), &[8, 13, 20]),
        deed!("8 frames are freed", |w| w.take::<T>(&[3]), |w| w.give::<T>(), &[0, 5, 63]),
        deed!("64 frames", |_| {}, |w| w.take::<T>(&[6]), &[0, 40, 70]),
        deed!("64 frames are freed", |w| w.take::<T>(&[6]), |w| w.give::<T>(), &[0, 40]),
        deed!("2 MiB from the store", |_| {}, |w| w.take::<T>(&[9]), &[0, 300, 512]),
        deed!("2 MiB are freed", |w| w.take::<T>(&[9]), |w| w.give::<T>(), &[0, 300]),
        deed!(
            "2 MiB are taken, freed and taken",
            |w| {
                w.take::<T>(&[9]);
                w.give::<T>()
            },
            |w| {
                w.take::<T>(&[9]);
                w.give::<T>();
                w.take::<T>(&[9])
            },
            &[0, 300]
        ),
        deed!(
            "an uncoalesced pageblock is used in part",
            |w| {
                w.take::<T>(&[9, 9, 9]);
                w.give::<T>();
            },
            |w| w.take::<T>(&[4]),
            &[1024, 1100, 1400]
        ),
        deed!("4 MiB", |_| {}, |w| w.take::<T>(&[10]), &[0, 300, 512, 700]),
        deed!("4 MiB are freed", |w| w.take::<T>(&[10]), |w| w.give::<T>(), &[0, 300, 512, 700]),
    ];
    deeds.iter().for_each(everywhere::<T>);
}

type TestBlock<'z, 'm> = Block<'z, OneWord<'m, TestWord>>;

/// Takes a block, does something to it and gives it back.
fn whole(w: &World, order: u8, act: impl FnOnce(TestBlock<'_, '_>)) {
    w.with::<LockFree, _>(|zone| act(zone.alloc(Order::new(order).unwrap()).unwrap()));
}

#[test]
fn frames_of_blocks_that_change_shape_leave_service() {
    type T = LockFree;
    fn split(order: u8, to: u8) -> impl Fn(&World) {
        move |w| {
            whole(w, order, |block| drop(block.split_to(Order::new(to).unwrap()).unwrap()));
        }
    }
    let deeds = [
        deed!("a split to pages", |_| {}, |w| split(6, 0)(w), &[0, 5, 63]),
        deed!("a split to smaller blocks", |_| {}, |w| split(9, 3)(w), &[0, 5, 8, 300]),
        deed!(
            "a split to smaller blocks of one that was split",
            |w| split(9, 2)(w),
            |w| split(9, 3)(w),
            &[5, 8, 301]
        ),
        deed!("a split to 2 MiB", |_| {}, |w| split(10, 9)(w), &[0, 300, 512, 700]),
        deed!(
            "the last reference goes while a page is pinned",
            |_| {},
            |w| {
                whole(w, 6, |block| {
                    let pin = block.pin(7).unwrap();
                    drop(block);
                    drop(pin);
                });
            },
            &[0, 7, 9]
        ),
        deed!(
            "the same of 4 MiB",
            |_| {},
            |w| {
                whole(w, 10, |block| {
                    let pin = block.pin(7).unwrap();
                    drop(block);
                    drop(pin);
                });
            },
            &[7, 300, 512, 700]
        ),
        deed!(
            "a merge of blocks",
            |_| {},
            |w| {
                whole(w, 6, |block| drop(block.split_to(Order::new(2).unwrap()).unwrap().merge().unwrap()));
            },
            &[0, 1, 5, 62]
        ),
        deed!(
            "a merge of pages",
            |_| {},
            |w| {
                whole(w, 5, |block| drop(block.split_to(Order::PAGE).unwrap().merge().unwrap()));
            },
            &[0, 1, 31]
        ),
        deed!(
            "a merge to 2 MiB",
            |_| {},
            |w| {
                whole(w, 9, |block| drop(block.split_to(Order::new(6).unwrap()).unwrap().merge().unwrap()));
            },
            &[0, 1, 64, 500]
        ),
        deed!(
            "an unsplittable block",
            |_| {},
            |w| {
                let request = Request::new(Order::new(4).unwrap()).unsplittable();
                w.with::<T, _>(|zone| {
                    let block = zone.alloc_with(request).unwrap();
                    let pin = block.pin(5).unwrap();
                    drop(block);
                    drop(
                        zone.try_pin(pin.pfn())
                            .expect("a page in use can be pinned, though it is to leave service"),
                    );
                });
            },
            &[0, 5, 9]
        ),
    ];
    deeds.iter().for_each(everywhere::<T>);
}

/// Setting aside does not forget what it could not do, however many at once there are.
fn claimed_by_hand<P: Protocol>(zone: &Zone<'_, P>, _: &crate::common::Heard) {
    let claimed = zone.claim_pageblock(Pfn::new(512)).unwrap();
    let frames = [512, 600, 700, 1000].map(Pfn::new);
    for frame in frames {
        assert_eq!(zone.set_aside(frame), SetAside::WhenFreed);
        assert_eq!(zone.set_aside(frame), SetAside::WhenFreed, "as often as one likes");
    }
    assert_eq!(zone.set_aside(Pfn::new(900)), SetAside::AskAgain);
    assert_eq!((zone.set_aside_frames(), zone.used_frames()), (0, 512));
    drop(claimed);
    assert_eq!((zone.set_aside_frames(), zone.used_frames()), (4, 0));
    assert!(frames.iter().all(|frame| zone.set_aside(*frame) == SetAside::NotInService));
    assert_eq!(zone.set_aside(Pfn::new(900)), SetAside::Done);
    assert_eq!((zone.audit().violations(), zone.free_frames()), (0, 1024 - 5));
}

#[test]
fn frames_in_other_hands_leave_service_when_they_come_back() {
    on_both!(1024, claimed_by_hand);
}

/// A frame that is misused while as many of its 2 MiB wait as can be noted, on their way as it is
/// itself: that it was not promised to leave service is told.
fn misused_by_hand<P: Protocol>(zone: &Zone<'_, P>, heard: &crate::common::Heard) {
    let claimed = zone.claim_pageblock(Pfn::new(512)).unwrap();
    for frame in [512, 600, 700] {
        assert_eq!(zone.set_aside(Pfn::new(frame)), SetAside::WhenFreed);
    }
    let again = || std::mem::take(&mut *heard.1.lock().unwrap());
    let misuse = zone.raw().unpin(Pfn::new(800)).unwrap_err();
    assert_eq!((misuse.frame, again()), (Pfn::new(800), vec![]), "the fourth that waits");
    let misuse = zone.raw().unpin(Pfn::new(900)).unwrap_err();
    assert_eq!((misuse.frame, again()), (Pfn::new(900), vec![Pfn::new(900)]));
    zone.raw().unpin(Pfn::new(3)).unwrap_err();
    assert_eq!((again(), heard.count()), (vec![], 3), "a frame that is free leaves service at once");
    drop(claimed);
    assert_eq!(zone.set_aside_frames(), 5);
    assert_eq!(zone.set_aside(Pfn::new(900)), SetAside::Done);
    assert_eq!((zone.audit().violations(), zone.free_frames()), (0, 1024 - 6));
}

#[test]
fn a_misused_frame_that_may_stay_in_service_is_told_of() {
    on_both!(1024, misused_by_hand);
}

/// What was asked of a frame before it left and was restored is done with.
fn restored_by_hand<P: Protocol>(zone: &Zone<'_, P>, _: &crate::common::Heard) {
    for _ in 0..9 {
        let claimed = zone.claim_pageblock(Pfn::new(512)).unwrap();
        assert_eq!(zone.set_aside(Pfn::new(600)), SetAside::WhenFreed);
        assert!(!zone.restore(Pfn::new(600)), "it has not left");
        drop(claimed);
        assert!(zone.restore(Pfn::new(600)) && !zone.restore(Pfn::new(600)));
        assert_eq!((zone.set_aside_frames(), zone.free_pageblocks()), (0, 2));
    }
}

#[test]
fn a_restored_frame_stays_in_service() {
    on_both!(1024, restored_by_hand);
}

/// A claimed frame is set aside and given back; before access `k` of that another thread restores
/// it, if it has left by then. `None` if there are not so many accesses, else whether it was
/// restored.
fn restored_as_it_leaves<T: Tested>(k: u64) -> Option<bool> {
    let (world, restored) = (World::new::<T>(), Rc::new(Cell::new(None)));
    let (other, told) = (Rc::clone(&world), Rc::clone(&restored));
    world.with::<T, _>(|zone| {
        let claimed = zone.claim_pageblock(Pfn::new(512)).unwrap();
        assert_eq!(set_aside::<T>(&world, 600), SetAside::WhenFreed);
        let restore = move || on_cpu(1, || other.with::<T, _>(|zone| zone.restore(Pfn::new(600))));
        with_before(k, || drop(claimed), move || told.set(Some(restore())));
    });
    let restored = restored.get()?;
    world.with::<T, _>(|zone| {
        assert_eq!(zone.set_aside_frames(), u64::from(!restored), "access {k}");
        assert_eq!(zone.alloc_run_at(FrameRange::new(Pfn::new(512), 512)).is_ok(), restored, "access {k}");
        assert!(restored || zone.restore(Pfn::new(600)));
        assert_eq!((zone.audit().violations(), zone.free_frames()), (0, FRAMES), "access {k}");
    });
    Some(restored)
}

/// The same, and as soon as it is restored the other thread takes it and has it set aside once
/// more, on its way as it is.
fn set_aside_as_it_leaves<T: Tested + 'static>(k: u64) -> Option<bool>
where
    T::Over<'static>: 'static,
{
    type Claim<T> = tailpin::Claimed<'static, <T as Tested>::Over<'static>>;
    let world: &'static Rc<World> = Box::leak(Box::new(World::new::<T>()));
    let zone: &'static ZoneOf<'static, T> = Box::leak(Box::new(world.zone::<T>()));
    let one = FrameMask::of_block(Pfn::new(600), Order::PAGE);
    type Again<T> = Rc<RefCell<Option<(bool, Option<Claim<T>>)>>>;
    let again: Again<T> = Rc::default();
    let told = Rc::clone(&again);
    let claimed = zone.claim_pageblock(Pfn::new(512)).unwrap();
    assert_eq!(set_aside::<T>(world, 600), SetAside::WhenFreed);
    let once_more = move || {
        let restored = zone.restore(Pfn::new(600));
        let claimed = restored.then(|| {
            let claimed = zone.claim(Pfn::new(512), &one);
            assert_eq!(claimed.count(), 1, "access {k}");
            assert_eq!(zone.set_aside(Pfn::new(600)), SetAside::WhenFreed, "access {k}");
            claimed
        });
        *told.borrow_mut() = Some((restored, claimed));
    };
    with_before(k, || drop(claimed), move || on_cpu(1, once_more));
    let (restored, claimed) = again.take()?;
    drop(claimed);
    assert_eq!((zone.set_aside_frames(), zone.audit().violations()), (1, 0), "access {k}");
    assert!(zone.restore(Pfn::new(600)) && zone.free_frames() == FRAMES, "access {k}");
    Some(restored)
}

#[test]
fn a_frame_that_is_restored_as_it_leaves_stays_until_it_is_asked_for_again() {
    fn of<T: Tested + 'static>()
    where
        T::Over<'static>: 'static,
    {
        for act in [restored_as_it_leaves::<T>, set_aside_as_it_leaves::<T>] {
            let restored: Vec<bool> = (0..).map_while(act).collect();
            assert!(restored.contains(&true) && restored.contains(&false));
        }
    }
    of::<LockFree>();
    of::<Locked>();
}

/// A block is freed; before access `k` of that a frame of it is set aside, and before the one that
/// is `more` further on blocks are taken. None of them has the frame. False if there are not so
/// many accesses.
fn taken_as_it_is_freed<T: Tested + 'static>(order: u8, k: u64, more: u64) -> bool {
    let world = World::new::<T>();
    world.take::<T>(&[order]);
    let frame = world.kept.borrow()[0].pfn();
    let (other, reached) = (Rc::clone(&world), Rc::new(Cell::new(false)));
    let told = Rc::clone(&reached);
    let ask = move || {
        told.set(true);
        if set_aside::<T>(&other, frame.get()) != SetAside::AskAgain {
            let takes = move || {
                let blocks = [order; 3];
                other.take::<T>(&blocks);
                let has_it = |block: &tailpin::RawBlock| block.frames().contains(frame);
                assert!(!other.kept.borrow().iter().any(has_it), "accesses {k} and {more} after");
            };
            and_before(more, takes);
        }
    };
    with_before(k, || world.give::<T>(), ask);
    reached.get()
}

#[test]
fn no_request_is_served_with_a_frame_that_was_set_aside_as_it_was_freed() {
    fn of<T: Tested + 'static>() {
        for order in [0, 9] {
            for more in (0..30).step_by(2) {
                let accesses = accesses().take_while(|k| taken_as_it_is_freed::<T>(order, *k, more)).count();
                assert!(accesses > 0);
            }
        }
    }
    of::<LockFree>();
    of::<Locked>();
}

fn at_hand<P: Protocol>(zone: &Zone<'_, P>, _: &crate::common::Heard) {
    let mut many = zone.alloc_many(Request::new(Order::PAGE), 64);
    let first = many.next().unwrap();
    let next = first.pfn().offset(1);
    assert_eq!(zone.set_aside(next), SetAside::WhenFreed);
    let second = many.next().unwrap();
    assert_ne!(second.pfn(), next, "not handed out after it was to leave service");
    drop(many);
    assert_eq!(zone.set_aside_frames(), 1);
    drop((first, second));
    assert_eq!((zone.audit().violations(), zone.free_frames()), (0, 1024 - 1));
}

#[test]
fn pages_at_hand_leave_service_before_they_are_handed_out() {
    on_both!(1024, at_hand);
}
