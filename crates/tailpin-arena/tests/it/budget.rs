//! The limit: never above it, first come first served, nothing lost.

use crate::common;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::{HUGE, MIB, PAGE, again, map_count, off_linux, role};
use tailpin_arena::{AllocError, Arena, Backing, BuildError, Reservation, Slice};

fn random(seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 11) as usize
}

/// What the test itself knows to be in use, and the most that ever was.
#[derive(Default)]
struct Known {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Known {
    fn add(&self, bytes: usize) {
        let now = self.now.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    /// Before the bytes are given back.
    fn sub(&self, bytes: usize) {
        self.now.fetch_sub(bytes, Ordering::SeqCst);
    }
}

fn is_all_there(arena: &Arena, limit: usize) {
    assert_eq!((arena.in_use(), arena.waiting()), (0, 0));
    assert_eq!(arena.try_reserve(limit).unwrap().left(), limit);
    assert!(matches!(arena.try_reserve(limit + 1), Err(AllocError::OverLimit { in_use: 0, .. })));
    assert_eq!(arena.audit().violations(), 0);
    assert_eq!(arena.stats().in_use(), 0);
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[test]
fn storms_stay_below_the_limit_and_lose_nothing() {
    const LIMIT: usize = 3 * MIB;
    let arena = Arena::builder().size(64 * MIB).limit(LIMIT).build().unwrap();
    let tag = arena.tag("storm").unwrap();
    tag.set_limit(2 * MIB);
    let known = Known::default();
    let of_tag = Known::default();
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (arena, tag, known, of_tag, refused) = (&arena, &tag, &known, &of_tag, &refused);
            scope.spawn(move || {
                let mut seed = 77 + thread;
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let mut kept: VecDeque<(usize, bool, Slice)> = VecDeque::new();
                let release = |kept: &mut VecDeque<(usize, bool, Slice)>| {
                    let Some((bytes, tagged, _slice)) = kept.pop_front() else { return };
                    known.sub(bytes);
                    if tagged {
                        of_tag.sub(bytes);
                    }
                };
                for _ in 0..3000 {
                    // No more than a quarter of a limit by each thread, or all might wait for all.
                    while kept.iter().map(|kept| kept.0).sum::<usize>() > MIB / 4 {
                        release(&mut kept);
                    }
                    let len = 1 + random(&mut seed) % (MIB / 4);
                    let pages = len.div_ceil(PAGE) * PAGE;
                    let tagged = random(&mut seed).is_multiple_of(2);
                    let buffer = match (random(&mut seed) % 4, tagged) {
                        (0, false) => arena.try_alloc(len),
                        (0, true) => tag.try_alloc(len),
                        (1, false) => arena.alloc(len),
                        (1, true) => tag.alloc(len),
                        (2, false) => runtime.block_on(arena.alloc_async(len)),
                        (2, true) => runtime.block_on(tag.alloc_async(len)),
                        (_, false) => arena.reserve(len).and_then(|mut all| all.alloc(len)),
                        (_, true) => tag.reserve(len).and_then(|mut all| all.alloc(len)),
                    };
                    let Ok(buffer) = buffer else {
                        refused.fetch_add(1, Ordering::Relaxed);
                        release(&mut kept);
                        continue;
                    };
                    known.add(pages);
                    if tagged {
                        of_tag.add(pages);
                    }
                    let whole = buffer.freeze();
                    if !random(&mut seed).is_multiple_of(3) {
                        // One page of it stays.
                        let part = whole.slice(0..1);
                        known.sub(pages - PAGE);
                        if tagged {
                            of_tag.sub(pages - PAGE);
                        }
                        drop(whole);
                        kept.push_back((PAGE, tagged, part));
                    } else {
                        kept.push_back((pages, tagged, whole));
                    }
                }
                while !kept.is_empty() {
                    release(&mut kept);
                }
            });
        }
    });
    assert!(known.most.load(Ordering::SeqCst) <= LIMIT, "{} bytes", known.most.load(Ordering::SeqCst));
    assert!(of_tag.most.load(Ordering::SeqCst) <= 2 * MIB);
    assert_eq!((tag.in_use(), tag.waiting()), (0, 0));
    assert_eq!(tag.try_reserve(2 * MIB).unwrap().left(), 2 * MIB);
    is_all_there(&arena, LIMIT);
}

/// Waits as many times as `TAILPIN_WAITS` says, 1,000 if it says nothing: each of some threads
/// has nearly all of the limit in turn, so nearly every request waits.
#[test]
fn no_wake_up_is_lost() {
    let waits = std::env::var("TAILPIN_WAITS").map_or(1_000, |text| text.parse().unwrap());
    const THREADS: usize = 4;
    let arena = Arena::builder().size(4 * MIB).limit(16 * PAGE).build().unwrap();
    let begin = Barrier::new(THREADS);
    let waited = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (arena, begin, waited) = (&arena, &begin, &waited);
            scope.spawn(move || {
                let mut seed = 5 + thread as u64;
                begin.wait();
                while waited.load(Ordering::Relaxed) < waits {
                    let bytes = (6 + random(&mut seed) % 11) * PAGE;
                    let reserved = arena.try_reserve(bytes).or_else(|_| {
                        waited.fetch_add(1, Ordering::Relaxed);
                        arena.reserve(bytes)
                    });
                    let reserved = reserved.unwrap();
                    if random(&mut seed).is_multiple_of(4) {
                        // So that the others wait, on however few processors.
                        thread::yield_now();
                    }
                    drop(reserved);
                }
            });
        }
    });
    is_all_there(&arena, 16 * PAGE);
}

#[test]
fn requests_are_served_in_the_order_in_which_they_came() {
    let arena = Arena::builder().size(8 * MIB).limit(MIB).build().unwrap();
    let all = arena.reserve(MIB).unwrap();
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut threads = Vec::new();
    // The first asks for much, those that come later for little.
    for (number, bytes) in [MIB, PAGE, PAGE, MIB / 2].into_iter().enumerate() {
        let (arena, served) = (arena.clone(), Arc::clone(&served));
        threads.push(thread::spawn({
            let arena = arena.clone();
            move || {
                let reserved = arena.reserve(bytes).unwrap();
                served.lock().unwrap().push(number);
                // Those that asked for little may well be served at the same moment.
                drop(reserved);
            }
        }));
        while arena.waiting() <= number {
            thread::yield_now();
        }
    }
    let mut all = all;
    all.shrink_to(MIB - 4 * PAGE);
    // Four pages are free, and two requests for one each wait: but a larger one was there first.
    assert_eq!(arena.waiting(), 4);
    assert!(matches!(
        arena.try_alloc(1),
        Err(AllocError::OverLimit { asked: PAGE, waiting: 4, of_tag: false, .. })
    ));
    drop(all);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(served.lock().unwrap()[0], 0);
    is_all_there(&arena, MIB);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll<F: Future + Unpin>(future: &mut F, woken: &Arc<Woken>) -> std::task::Poll<F::Output> {
    let waker = Waker::from(Arc::clone(woken));
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

#[test]
fn a_request_that_is_given_up_keeps_nothing_and_holds_up_no_other() {
    let arena = Arena::builder().size(8 * MIB).limit(MIB).build().unwrap();
    let all = arena.reserve(MIB).unwrap();
    let woken = [(); 3].map(|()| Arc::new(Woken::default()));
    let mut first = Box::pin(arena.reserve_async(MIB));
    let mut second = Box::pin(arena.reserve_async(PAGE));
    let mut third = Box::pin(arena.alloc_async(PAGE));
    assert!(poll(&mut first, &woken[0]).is_pending());
    assert!(poll(&mut second, &woken[1]).is_pending());
    assert!(poll(&mut third, &woken[2]).is_pending());
    let mut all = all;
    all.shrink_to(MIB - PAGE);
    assert_eq!(woken[1].0.load(Ordering::SeqCst), 0, "one that was there first wants more");
    drop(first); // given up while it waits
    assert_eq!(woken[1].0.load(Ordering::SeqCst), 1);
    assert_eq!(woken[2].0.load(Ordering::SeqCst), 0);
    drop(second); // given up when it has its page already, and doesn't know
    assert_eq!(woken[2].0.load(Ordering::SeqCst), 1);
    let std::task::Poll::Ready(buffer) = poll(&mut third, &woken[2]) else { panic!("it was woken") };
    drop(third);
    assert_eq!(arena.in_use(), MIB);
    drop((all, buffer));
    is_all_there(&arena, MIB);
}

#[test]
fn what_never_fits_is_refused_at_once() {
    let arena = Arena::builder().size(8 * MIB).limit(MIB + 5).build().unwrap();
    assert_eq!(arena.limit(), Some(MIB));
    let over = |asked| AllocError::OverLimit { asked, in_use: 0, limit: MIB, waiting: 0, of_tag: false };
    let asked = MIB + PAGE;
    assert_eq!(arena.alloc(MIB + 1).unwrap_err(), over(asked));
    assert_eq!(arena.try_alloc(MIB + 1).unwrap_err(), over(asked));
    assert_eq!(arena.reserve(MIB + 1).unwrap_err(), over(asked));
    let all = arena.reserve_timeout(usize::MAX, Duration::ZERO).unwrap_err();
    assert!(matches!(all, AllocError::OverLimit { limit: MIB, .. }), "{all}");
    let mut context = noop();
    let mut waits = Box::pin(arena.alloc_async(MIB + 1));
    assert!(waits.as_mut().poll(&mut context).is_ready());
    drop(waits);

    let all = arena.reserve(MIB).unwrap();
    assert!(matches!(
        arena.reserve_timeout(PAGE, Duration::from_millis(20)),
        Err(AllocError::OverLimit { asked: PAGE, in_use: MIB, .. })
    ));
    // One that waits is told if the limit is lowered to less than it asks for.
    let mut waits = Box::pin(arena.reserve_async(MIB / 2));
    assert!(waits.as_mut().poll(&mut context).is_pending());
    arena.set_limit(MIB / 4);
    assert!(waits.as_mut().poll(&mut context).is_ready());
    drop((waits, all));
    is_all_there(&arena, MIB / 4);
    arena.set_limit(2 * MIB);
    is_all_there(&arena, 2 * MIB);
}

#[test]
fn a_limit_that_is_raised_serves_those_that_wait() {
    let arena = Arena::builder().size(8 * MIB).limit(MIB).build().unwrap();
    let all = arena.reserve(MIB).unwrap();
    let woken = Arc::new(Woken::default());
    let mut waits = Box::pin(arena.reserve_async(MIB));
    assert!(poll(&mut waits, &woken).is_pending());
    arena.set_limit(2 * MIB);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert!(poll(&mut waits, &woken).is_ready());
    drop((waits, all));
    is_all_there(&arena, 2 * MIB);
}

#[test]
fn a_limit_lowered_below_what_is_in_use_holds_until_less_is() {
    let arena = Arena::builder().size(64 * MIB).build().unwrap();
    assert_eq!(arena.limit(), None);
    let mut kept: Vec<_> = (0..512).map(|_| arena.alloc(PAGE).unwrap()).collect();
    arena.set_limit(MIB);
    // What a CPU has left over from before is not handed out.
    for left in (256..=512).rev() {
        assert!(matches!(arena.try_alloc(1), Err(AllocError::OverLimit { limit: MIB, .. })), "{left}");
        kept.truncate(left - 1);
    }
    assert_eq!(arena.in_use(), 255 * PAGE);
    let last = arena.try_alloc(1).unwrap();
    assert!(arena.try_alloc(1).is_err());
    drop((kept, last));
    is_all_there(&arena, MIB);
}

#[test]
fn the_limit_counts_to_the_last_pin() {
    let arena = Arena::builder().size(64 * MIB).limit(4 * MIB).build().unwrap();
    let mut kept = Vec::new();
    // 512 pages of as many buffers: each of the 1,024 places of 2 MiB could be shredded by one.
    for _ in 0..31 {
        kept.push(arena.try_alloc(HUGE).unwrap().freeze().slice(5 * PAGE..6 * PAGE));
    }
    assert_eq!(arena.in_use(), 31 * PAGE);
    let part = kept[0].clone();
    kept.clear();
    assert_eq!(arena.in_use(), PAGE);
    assert_eq!(arena.try_reserve(4 * MIB - PAGE).unwrap().left(), 4 * MIB - PAGE);
    drop(part);
    is_all_there(&arena, 4 * MIB);
}

#[test]
fn odd_lengths_cost_their_own_pages() {
    let arena = Arena::builder().size(64 * MIB).limit(3 * MIB).build().unwrap();
    // A block of 4 MiB is looked for, of which 3 are the buffer's.
    let buffer = arena.try_alloc(3 * MIB).unwrap();
    assert_eq!((arena.in_use(), arena.stats().in_use()), (3 * MIB, 3 * MIB));
    drop(buffer);
    for len in [0, 1, PAGE + 1, MIB + 1, HUGE + 1, 3 * MIB - 1] {
        let mut buffer = arena.try_alloc(len).unwrap();
        let pages = len.div_ceil(PAGE).max(1) * PAGE;
        assert_eq!((arena.in_use(), arena.stats().in_use(), buffer.capacity()), (pages, pages, pages));
        buffer.truncate(len / 2);
        assert_eq!(arena.in_use(), buffer.capacity());
    }
    is_all_there(&arena, 3 * MIB);
}

#[test]
fn a_reservation_is_spent_and_the_rest_returned() {
    let arena = Arena::builder().size(8 * MIB).limit(2 * MIB).build().unwrap();
    let mut reserved: Reservation = arena.reserve(MIB + 1).unwrap();
    assert_eq!(reserved.left(), MIB + PAGE);
    let buffer = reserved.alloc(MIB).unwrap();
    let error = reserved.alloc(PAGE + 1).unwrap_err();
    assert_eq!(error, AllocError::OverReservation { asked: 2 * PAGE, left: PAGE });
    assert!(matches!(reserved.alloc(usize::MAX), Err(AllocError::TooLarge { .. })));
    assert!(reserved.split(PAGE + 1).is_none());
    let other = reserved.split(PAGE).unwrap();
    assert_eq!((reserved.left(), other.left(), arena.in_use()), (0, PAGE, MIB + PAGE));
    drop((reserved, other));
    assert_eq!(arena.in_use(), MIB);
    // No block of that length is free: nothing is lost of the reservation.
    let mut all = arena.reserve(MIB).unwrap();
    let kept: Vec<_> = (0..4).map(|_| buffer_page(&arena, &mut all)).collect();
    let left = all.left();
    assert!(matches!(all.alloc(MIB - 4 * PAGE), Ok(_) | Err(AllocError::OutOfMemory { .. })));
    assert!(all.left() == left || all.left() == left - (MIB - 4 * PAGE));
    drop((all, kept, buffer));
    is_all_there(&arena, 2 * MIB);
}

fn buffer_page(_: &Arena, reserved: &mut Reservation) -> Slice {
    reserved.alloc(1).unwrap().freeze()
}

#[test]
fn as_much_as_can_be_had_between_two_lengths() {
    let arena = Arena::builder().size(4 * MIB).build().unwrap();
    let kept: Vec<_> = (0..2).map(|_| arena.alloc(HUGE).unwrap().freeze().slice(0..1)).collect();
    assert_eq!(arena.largest_free(), MIB);
    assert_eq!(arena.alloc_up_to(HUGE, 64 << 10).unwrap().len(), MIB);
    assert_eq!(
        arena.try_alloc(HUGE).unwrap_err(),
        AllocError::OutOfMemory { asked: HUGE, block: HUGE, free: 4 * MIB - 2 * PAGE, largest_free: MIB }
    );
    assert!(matches!(arena.alloc_up_to(HUGE, HUGE), Err(AllocError::OutOfMemory { .. })));
    drop(kept);
    assert_eq!(arena.largest_free(), 4 * MIB);
    // The limit leaves less than the most.
    arena.set_limit(MIB);
    assert_eq!(arena.alloc_up_to(4 * MIB, PAGE).unwrap().len(), MIB);
    assert_eq!(arena.alloc_up_to(1000, 1000).unwrap().len(), 1000);
    is_all_there(&arena, MIB);
}

#[test]
fn tags_are_made_at_run_time_and_have_limits() {
    let arena = Arena::builder().size(64 * MIB).limit(8 * MIB).build().unwrap();
    let tenants: Vec<_> = (0..600).map(|i| arena.tag(&format!("tenant {i}")).unwrap()).collect();
    assert_eq!(arena.tags().len(), 600);
    assert_eq!(arena.tags()[599].name(), "tenant 599");
    let (one, other) = (&tenants[3], &tenants[555]);
    one.set_limit(10 * PAGE);
    assert_eq!((one.limit(), other.limit()), (Some(10 * PAGE), None));
    let buffers: Vec<_> = (0..10).map(|_| one.try_alloc(PAGE).unwrap()).collect();
    let refused = one.try_alloc(1).unwrap_err();
    assert!(matches!(refused, AllocError::OverLimit { of_tag: true, limit, .. } if limit == 10 * PAGE));
    let mut waits = Box::pin(one.alloc_async(1));
    assert!(waits.as_mut().poll(&mut noop()).is_pending());
    assert_eq!((one.waiting(), other.waiting(), arena.waiting()), (1, 0, 0));
    drop(waits);
    assert_eq!(one.waiting(), 0);
    let foreign = other.alloc(5 * PAGE).unwrap().freeze();
    assert_eq!((one.in_use(), other.in_use(), arena.in_use()), (10 * PAGE, 5 * PAGE, 15 * PAGE));
    assert_eq!((foreign.tag(), arena.tag("tenant 3").unwrap().in_use()), (Some("tenant 555"), 10 * PAGE));
    let part = foreign.slice(3 * PAGE..3 * PAGE + 1);
    drop(foreign);
    assert_eq!((other.in_use(), part.tag()), (PAGE, Some("tenant 555")));
    drop(buffers);
    assert_eq!((one.in_use(), one.try_alloc(10 * PAGE).map(drop)), (0, Ok(())));
    // A page that had a tag has none when it is handed out without one.
    drop(part);
    let plain: Vec<_> = (0..64).map(|_| arena.alloc(PAGE).unwrap().freeze()).collect();
    assert!(plain.iter().all(|slice| slice.tag().is_none()));
    drop(plain);
    // What the tag leaves the arena may not, and then the tag is charged nothing.
    let all = arena.reserve(8 * MIB).unwrap();
    assert!(matches!(one.try_alloc(1), Err(AllocError::OverLimit { of_tag: false, .. })));
    let mut waits = Box::pin(one.alloc_async(1));
    assert!(waits.as_mut().poll(&mut noop()).is_pending());
    assert_eq!(one.in_use(), PAGE, "it has its place within the tag's limit");
    assert_eq!((one.waiting(), arena.waiting()), (0, 1));
    drop(waits);
    assert_eq!(one.in_use(), 0);
    drop(all);
    is_all_there(&arena, 8 * MIB);
}

#[test]
fn a_callback_is_called_once_for_each_crossing() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let arena = Arena::builder()
        .size(64 * MIB)
        .limit(32 * MIB)
        .watermarks(24 * MIB, 8 * MIB, move |pressure| tell.lock().unwrap().push(pressure))
        .build()
        .unwrap();
    let mut buffers: Vec<_> = (0..16).map(|_| arena.alloc(HUGE).unwrap()).collect();
    assert_eq!(told.lock().unwrap().len(), 1);
    buffers.truncate(6); // between the two
    buffers.extend((0..8).map(|_| arena.alloc(HUGE).unwrap()));
    assert_eq!(told.lock().unwrap().len(), 1);
    let slices: Vec<_> = buffers.drain(..).map(|buffer| buffer.freeze().slice(0..1)).collect();
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].high && (24 * MIB..=25 * MIB).contains(&told[0].in_use), "{told:?}");
    assert!(!told[1].high && told[1].in_use <= 8 * MIB && told[1].limit == 32 * MIB, "{told:?}");
    drop(slices);
}

#[test]
fn without_a_size_there_is_plenty_of_address_space() {
    if off_linux("without_a_size_there_is_plenty_of_address_space") {
        return;
    }
    let arena = Arena::builder().build().unwrap();
    assert!(arena.size() >= 1 << 30);
    assert_eq!(arena.limit(), None);
    let mut buffer = arena.alloc(3 * MIB).unwrap();
    buffer.fill(1);
    drop(buffer);
    let arena = Arena::builder().limit(512 * MIB).build().unwrap();
    assert!(arena.size() >= 1 << 30);
    assert_eq!(arena.limit(), Some(512 * MIB));
    let file = Arena::builder().limit(MIB).backing(Backing::Memfd { huge: false }).build().unwrap();
    assert!(file.alloc(MIB).is_ok());
    let huge = Arena::builder().backing(Backing::HugeTlb(tailpin_arena::HugeSize::Mib2)).build();
    assert_eq!(huge.unwrap_err(), BuildError::BadSize { bytes: 0 }, "each of its bytes is memory");
    let locked = Arena::builder().populate(true).build();
    assert_eq!(locked.unwrap_err(), BuildError::BadSize { bytes: 0 });
    assert_eq!(Arena::builder().limit(MIB).populate(true).build().unwrap().size(), HUGE);
}

#[test]
fn where_the_system_grants_less_address_space_the_arena_is_smaller() {
    if off_linux("where_the_system_grants_less_address_space_the_arena_is_smaller") {
        return;
    }
    let name = "where_the_system_grants_less_address_space_the_arena_is_smaller";
    if role().is_none() {
        assert!(again(name, "limited", |_| {}));
        return;
    }
    let limit = libc::rlimit { rlim_cur: 20 << 30, rlim_max: 20 << 30 };
    // SAFETY: sets a limit of this process, which is the test's own.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    let arena = Arena::builder().limit(MIB).build().unwrap();
    assert!((1 << 30..20 << 30).contains(&arena.size()), "{}", arena.size());
    assert!(arena.alloc(MIB).is_ok());
    let error = Arena::builder().size(64 << 30).build().unwrap_err();
    assert!(matches!(error, BuildError::OutOfMemory { .. }), "what was asked for is not made smaller");
}

/// The handles may all go while buffers are kept and given back by many threads, at the limit.
#[test]
fn an_arena_at_its_limit_goes_with_the_last_page() {
    if off_linux("an_arena_at_its_limit_goes_with_the_last_page") {
        return;
    }
    let name = "an_arena_at_its_limit_goes_with_the_last_page";
    if role().is_none() {
        assert!(again(name, "alone", |_| {}), "in a process of its own, as it counts mappings");
        return;
    }
    let maps = map_count();
    for round in 0..200_u64 {
        let arena = Arena::builder().size(4 * MIB).limit(64 * PAGE).build().unwrap();
        let hands: Vec<Vec<Slice>> =
            (0..4).map(|_| (0..16).map(|_| arena.alloc(PAGE).unwrap().freeze()).collect()).collect();
        assert!(arena.try_alloc(1).is_err());
        thread::scope(|scope| {
            for mut hand in hands {
                scope.spawn(move || {
                    if round % 2 == 0 {
                        thread::yield_now();
                    }
                    hand.clear();
                });
            }
            scope.spawn(move || drop(arena));
        });
    }
    // The threads' stacks and the allocator's may have added some; 200 arenas would be 400.
    assert!(map_count() < maps + 100, "{maps} {}", map_count());
}
