//! Callers' code that panics where the arena calls it, a waker or a callback: no page is lost, and
//! no other request waits in its stead.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tailpin_arena::{Arena, Reservation, Tag};

use crate::common::{MIB, PAGE};

/// Panics so many times, and counts each call.
#[derive(Default)]
struct Caller {
    calls: AtomicUsize,
    panics: AtomicUsize,
}

impl Caller {
    fn panicking() -> Arc<Self> {
        Arc::new(Self { calls: AtomicUsize::new(0), panics: AtomicUsize::new(1) })
    }

    fn call(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let less = |left: usize| left.checked_sub(1);
        if self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            panic!("told to panic");
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Wake for Caller {
    fn wake(self: Arc<Self>) {
        self.call();
    }
}

fn poll<F: Future>(future: Pin<&mut F>, caller: &Arc<Caller>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(caller))))
}

fn panics(call: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

fn is_all_there(arena: &Arena, limit: usize) {
    assert_eq!((arena.in_use(), arena.waiting(), arena.stats().in_use()), (0, 0, 0));
    assert_eq!(arena.try_reserve(limit).unwrap().left(), limit);
    assert!(arena.try_reserve(limit + 1).is_err());
    assert_eq!(arena.audit().violations(), 0);
}

#[test]
fn a_callback_at_a_watermark_costs_no_page() {
    let caller = Arc::new(Caller::default());
    let called = Arc::clone(&caller);
    let arena = Arena::builder()
        .size(8 * MIB)
        .limit(MIB)
        .watermarks(MIB / 2, MIB / 4, move |_| called.call())
        .build()
        .unwrap();
    let tag = arena.tag("tag").unwrap();
    let requests: [fn(&Arena, &Tag); 9] = [
        |arena, _| drop(arena.alloc(MIB)),
        |arena, _| drop(arena.try_alloc(MIB)),
        |arena, _| drop(arena.alloc_scattered(MIB, PAGE)),
        |arena, _| drop(arena.reserve(MIB)),
        |arena, _| drop(arena.alloc_or_heap(MIB)),
        |_, tag| drop(tag.alloc(MIB)),
        |_, tag| drop(tag.try_reserve(MIB)),
        |arena, _| drop(poll(pin!(arena.alloc_async(MIB)), &Arc::default())),
        |_, tag| drop(poll(pin!(tag.reserve_async(MIB)), &Arc::default())),
    ];
    for (i, request) in requests.into_iter().enumerate() {
        // As it is served, and as what it got goes back.
        for served in [0, 1] {
            caller.calls.store(0, Ordering::SeqCst);
            caller.panics.store(0, Ordering::SeqCst);
            if served == 0 {
                caller.panics.store(1, Ordering::SeqCst);
                assert!(panics(|| request(&arena, &tag)), "request {i}");
            } else {
                let buffer = arena.alloc(MIB).unwrap();
                caller.panics.store(1, Ordering::SeqCst);
                assert!(panics(|| drop(buffer)));
            }
            assert!(caller.calls() > 0);
            assert_eq!((arena.in_use(), tag.in_use()), (0, 0), "request {i}");
            // What is told next is where it is told to.
            is_all_there(&arena, MIB);
        }
    }
}

/// What all requests wait for, and what makes them go on.
struct Waited {
    arena: Arena,
    all: Option<Reservation>,
}

#[test]
fn a_waker_that_panics_keeps_no_other_request_waiting() {
    let ends: [fn(&mut Waited); 4] = [
        |waited| waited.all = None,
        |waited| waited.arena.set_limit(2 * MIB),
        |waited| waited.arena.set_limit(0),
        |waited| waited.all.as_mut().unwrap().shrink_to(MIB - 2 * PAGE),
    ];
    for end in ends {
        let arena = Arena::builder().size(8 * MIB).limit(MIB).build().unwrap();
        let mut waited = Waited { all: Some(arena.reserve(MIB).unwrap()), arena };
        let arena = waited.arena.clone();
        let (first, second) = (Caller::panicking(), Arc::new(Caller::default()));
        let mut asks = Box::pin(arena.reserve_async(PAGE));
        let mut waits = Box::pin(arena.alloc_async(PAGE));
        assert!(poll(asks.as_mut(), &first).is_pending() && poll(waits.as_mut(), &second).is_pending());
        assert!(panics(|| end(&mut waited)));
        assert_eq!((first.calls(), second.calls()), (1, 1));
        assert!(poll(waits.as_mut(), &second).is_ready() && poll(asks.as_mut(), &first).is_ready());
        drop((asks, waits, waited));
        arena.set_limit(MIB);
        is_all_there(&arena, MIB);
    }
}

#[test]
fn a_request_that_is_given_up_hands_on_through_a_waker_that_panics() {
    let arena = Arena::builder().size(8 * MIB).limit(MIB).build().unwrap();
    let mut all = arena.reserve(MIB).unwrap();
    let callers = [Arc::new(Caller::default()), Caller::panicking(), Arc::new(Caller::default())];
    let mut asks = [MIB, PAGE, PAGE].map(|bytes| Some(Box::pin(arena.reserve_async(bytes))));
    for (ask, caller) in asks.iter_mut().zip(&callers) {
        assert!(poll(ask.as_mut().unwrap().as_mut(), caller).is_pending());
    }
    all.shrink_to(MIB / 2);
    let [first, rest @ ..] = &mut asks;
    assert!(panics(|| *first = None));
    assert_eq!(callers.each_ref().map(|caller| caller.calls()), [0, 1, 1]);
    for (ask, caller) in rest.iter_mut().zip(&callers[1..]) {
        assert!(poll(ask.as_mut().unwrap().as_mut(), caller).is_ready());
    }
    drop((asks, all));
    is_all_there(&arena, MIB);
}

#[test]
fn a_waker_at_a_tag_costs_the_arena_no_page() {
    let arena = Arena::builder().size(8 * MIB).limit(MIB).build().unwrap();
    let tag = arena.tag("tag").unwrap();
    tag.set_limit(MIB / 2);
    type Keep = fn(&Tag) -> Box<dyn FnOnce()>;
    let keeps: [Keep; 4] = [
        |tag| {
            let reserved = tag.reserve(MIB / 2).unwrap();
            Box::new(|| drop(reserved))
        },
        |tag| {
            let slice = tag.alloc(MIB / 2).unwrap().freeze();
            Box::new(|| drop(slice))
        },
        |tag| {
            let pieces = tag.alloc_scattered(MIB / 2, PAGE).unwrap();
            Box::new(|| drop(pieces))
        },
        // Whole pieces, which go together, and a part of one, whose end wakes a request before.
        |tag| {
            let mut pieces = tag.alloc_scattered(MIB / 2, 4 * PAGE).unwrap();
            pieces.advance(MIB / 2);
            let most = pieces.freeze().slice(..MIB / 2 - 3 * PAGE);
            Box::new(|| drop(most))
        },
    ];
    for keep in keeps {
        let kept = keep(&tag);
        let rest = tag.reserve(MIB / 2 - tag.in_use()).unwrap();
        let left = rest.left();
        let caller = Caller::panicking();
        let mut asks = Box::pin(tag.alloc_async(PAGE));
        assert!(poll(asks.as_mut(), &caller).is_pending());
        assert!(panics(kept) && caller.calls() == 1);
        assert_eq!((arena.in_use(), tag.in_use()), (left, left + PAGE));
        assert!(poll(asks.as_mut(), &caller).is_ready());
        drop((asks, rest));
        assert_eq!(tag.in_use(), 0);
        is_all_there(&arena, MIB);
    }
}

/// What is behind is given up last, so the rest is as it should be.
#[cfg(feature = "bytes")]
#[test]
fn bytes_that_are_left_behind_through_a_waker_that_panics_are_behind() {
    use bytes::Buf;

    let arena = Arena::builder().size(8 * MIB).limit(MIB).build().unwrap();
    let mut buffer = arena.alloc_scattered(MIB, 4 * PAGE).unwrap();
    for piece in 0..64 {
        std::io::Write::write_all(&mut buffer, &[piece; 4 * PAGE]).unwrap();
    }
    let mut bytes = buffer.freeze();
    let caller = Caller::panicking();
    let mut asks = Box::pin(arena.alloc_async(PAGE));
    assert!(poll(asks.as_mut(), &caller).is_pending());
    assert!(panics(|| bytes.advance(9 * PAGE)) && caller.calls() == 1);
    assert_eq!((bytes.remaining(), bytes.chunk().len(), bytes.chunk()[0]), (MIB - 9 * PAGE, 3 * PAGE, 2));
    assert_eq!(arena.in_use(), MIB - 8 * PAGE + PAGE, "with the page that was asked for");
    assert!(
        bytes
            .to_vec()
            .chunks(PAGE)
            .zip(9_usize..)
            .all(|(page, at)| page.iter().all(|&byte| usize::from(byte) == at / 4))
    );
    assert!(poll(asks.as_mut(), &caller).is_ready());
    drop((asks, bytes));
    is_all_there(&arena, MIB);
}
