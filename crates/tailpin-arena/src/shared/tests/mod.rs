//! A process that dies at any place of any operation, alone, with others at work, and with a
//! recoverer that dies too.
//!
//! The processes are handles of this one with made-up identities that no living process has. That
//! of real ones is in `tests/shared/`.

mod deaths;
mod one_reference;
mod storm;

use std::any::Any;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::arena_file::ArenaFile;
use super::operation::{Operation, Refusal};
use super::owner::Identity;
use super::step_recorder::StepRecorder;
use super::*;
use crate::memory::PAGE_SIZE;
use deaths::{BYTES, DEATHS, LARGE, PAGES, Setup, did, order, pages};
use tailpin::{AtomicWord, FrameRange, Order, Pfn};

/// Joins as a process that is dead already.
pub(super) fn doomed(arena: &SharedArena) -> SharedArena {
    static BIRTHS: AtomicU64 = AtomicU64::new(1);
    // The highest number there is; the system gives it to no process.
    let identity = Identity::new((1 << 22) - 1, BIRTHS.fetch_add(1, Ordering::Relaxed));
    let memory = ArenaFile::open(arena.0.memory.file().try_clone_to_owned().unwrap()).unwrap();
    SharedArena::join(memory, false, identity).unwrap()
}

/// Runs something that may stop for ever after so many places; whether it did.
pub(super) fn stops(after: u32, f: impl FnOnce()) -> bool {
    fail_point::after(Some(after));
    let outcome = catch_unwind(AssertUnwindSafe(f));
    fail_point::after(None);
    match outcome {
        Ok(()) => false,
        Err(thrown) if thrown.is::<fail_point::Stopped>() => true,
        Err(other) => resume_unwind(other),
    }
}

pub(super) fn assert_clean(arena: &SharedArena, what: &str) {
    let audit = arena.audit();
    assert_eq!(audit.violations(), 0, "{what}: {audit}");
    assert_eq!((audit.free, audit.pinned), (audit.frames, 0), "{what}: {audit}");
    assert_eq!(arena.owners(), [arena.me()], "{what}");
}

/// The survivor's slices, and the arena, after everybody else is gone.
fn check_and_drop(arena: &SharedArena, kept: Vec<Box<dyn Any>>, what: &str) {
    let audit = arena.audit();
    assert_eq!(audit.violations(), 0, "{what}: {audit}");
    let mut held = 0;
    for slice in &kept {
        let slice = slice.downcast_ref::<SharedSlice>().unwrap();
        assert!(slice.iter().all(|byte| *byte == 7), "{what}: the contents are kept");
        assert_eq!(slice.block().1, Order::PAGE, "{what}: a page of its own");
        held += 2; // Each reaches over the border of two pages.
    }
    assert_eq!((audit.pinned, audit.frames - audit.free), (held, held), "{what}: {audit}");
    drop(kept);
    assert_clean(arena, what);
}

/// What the living do all the while: none waits for the dead, not even for their pages.
fn go_on(arena: &SharedArena, at: u32) {
    drop(arena.alloc(PAGE_SIZE).unwrap());
    drop(arena.alloc(40 * PAGE_SIZE).unwrap());
    for page in (0..PAGES).step_by(if at.is_multiple_of(2) { 1 } else { 17 }).take(70) {
        let page = FrameRange::new(Pfn::new(page), 1);
        match arena.0.operate(Operation::Pin(page)) {
            Ok(_) => _ = did(arena, Operation::Unpin(page)),
            Err(refusal) => assert!(matches!(refusal, Refusal::Get(_)), "{refusal:?}"),
        }
    }
    did(arena, Operation::Drain);
}

/// Dies at one place and is recovered; whether the place was there.
fn die_at(arena: &SharedArena, setup: Setup, at: u32, what: &str) -> bool {
    let doomed = doomed(arena);
    let (kept, operation) = setup(arena, &doomed);
    let stopped = stops(at, || _ = doomed.0.operate(operation));
    if !at.is_multiple_of(3) {
        go_on(arena, at);
    }
    let recovered = arena.recover(doomed.me()).unwrap();
    assert!(recovered.ambiguous == 0 && recovered.finished <= u64::from(stopped), "{what}: {recovered:?}");
    assert_eq!(arena.recover(doomed.me()), Err(RecoverError::Gone(doomed.me())));
    check_and_drop(arena, kept, what);
    stopped
}

#[test]
fn death_at_every_place_of_every_operation() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    for (name, setup) in DEATHS {
        let places = (0..).find(|at| !die_at(&arena, *setup, *at, &format!("{name}, place {at}"))).unwrap();
        assert!(places > 15, "{name}: there was somewhere to die at: {places}");
    }
}

#[test]
fn death_in_operations_on_whole_pageblocks() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    for (name, setup) in LARGE {
        let mut died = 0;
        for at in (0..).step_by(97) {
            if !die_at(&arena, *setup, at, &format!("{name}, place {at}")) {
                break;
            }
            died += 1;
        }
        assert!(died > 20, "{name}: {died}");
    }
}

/// Places further and further apart.
fn further(first: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(first), |at| Some(at + at / 3 + 7))
}

/// The recoverer dies as well, at many places, and one who recovers both.
#[test]
fn death_of_the_recoverer() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    for (number, (name, setup)) in DEATHS.iter().enumerate() {
        'places: for at in further(number as u32 % 5) {
            for then in further(at % 7) {
                let (first, second) = (doomed(&arena), doomed(&arena));
                let (kept, operation) = setup(&arena, &first);
                let stopped = stops(at, || _ = first.0.operate(operation));
                let what = format!("{name}, place {at}, recovered up to {then}");
                let stopped_again = stops(then, || _ = second.recover(first.me()));
                if stopped_again {
                    // As if its process had not lived to give up the right to it.
                    std::mem::forget(arena.0.owners.begin_recovery(first.me(), second.me().identity));
                    let recovered = arena.recover(first.me()).unwrap();
                    assert_eq!(recovered.ambiguous, 0, "{what}");
                }
                let recovered = arena.recover(second.me()).unwrap();
                assert_eq!((recovered.ambiguous, recovered.pins, recovered.blocks), (0, 0, 0), "{what}");
                check_and_drop(&arena, kept, &what);
                if !stopped {
                    break 'places;
                }
                if !stopped_again {
                    break;
                }
            }
        }
    }
}

/// Ends the work of others, also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// With a live thread at work on the same pages all the time.
#[test]
fn death_and_recovery_among_others_at_work() {
    let arena = SharedArena::create(2 * BYTES, 4).unwrap();
    // Called so by its identity only: it is not recovered before the end.
    let live = doomed(&arena);
    let over = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while !over.load(Ordering::Relaxed) {
                at = (at * 5 + 3) % PAGES;
                let page = FrameRange::new(Pfn::new(at), 1);
                match live.0.operate(Operation::Pin(page)) {
                    Ok(_) => _ = live.0.operate(Operation::Unpin(page)).unwrap(),
                    Err(Refusal::Get(_)) => {}
                    Err(other) => panic!("{other:?}"),
                }
                drop(live.alloc((at as usize % 9 + 1) * PAGE_SIZE));
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _over = Over(&over);
        let all = DEATHS.iter().map(|scene| (scene, 5)).chain(LARGE.iter().map(|scene| (scene, 211)));
        for ((name, setup), stride) in all {
            for at in (0..).step_by(stride) {
                let doomed = doomed(&arena);
                let (kept, operation) = setup(&arena, &doomed);
                let stopped = stops(at, || _ = doomed.0.operate(operation));
                let recovered = arena.recover(doomed.me()).unwrap();
                assert_eq!(recovered.ambiguous, 0, "{name} {at}");
                drop(kept);
                if !stopped {
                    break;
                }
            }
        }
    });
    assert!(rounds.into_inner() > 100);
    drop(live);
    assert_clean(&arena, "at the end");
}

/// Threads add to one word and die at any place of that, again and again; the next one finishes it.
#[test]
fn every_step_in_doubt_is_made_exactly_once() {
    const ROUNDS: u64 = 20_000;
    const ADDERS: u64 = 3;
    let arena = SharedArena::create(BYTES, 4).unwrap();
    let word = &arena.0.memory.allocator_words[0];
    let before = word.value();
    let deaths = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..ADDERS {
            let (arena, deaths) = (&arena, &deaths);
            scope.spawn(move || {
                let journal = arena.0.journal(1, thread as usize);
                for round in 0..ROUNDS {
                    let add = || _ = AtomicWord::fetch_add(word, 1, Ordering::SeqCst);
                    let mut after = (round + thread) as u32 % 11;
                    journal.begin(Operation::Drain.encode()); // Any one: what is run is up to us.
                    let mut stopped = stops(after, || arena.0.recorder(journal, 1).write(add));
                    while stopped {
                        deaths.fetch_add(1, Ordering::Relaxed);
                        after += round as u32 % 3 + 1;
                        stopped = stops(after, || arena.0.recorder(journal, 1).finish(add).unwrap());
                    }
                    journal.end();
                }
            });
        }
    });
    assert_eq!(word.value() - before, ROUNDS * ADDERS);
    assert!(deaths.into_inner() > ROUNDS);
}

#[test]
fn the_longest_operations_fit_their_journals() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    let head = did(&arena, Operation::Alloc(Order::HUGE));
    let longest = |operation| {
        let index = arena.me().index;
        arena.0.operate_for(index, 1, operation).unwrap();
        let made = arena.0.journal(index, 1).made();
        assert!(made * 3 <= super::journal::STEPS as u64, "{operation:?}: {made}");
    };
    for first in (0..512).step_by(64) {
        longest(Operation::Pin(pages(head, first, 64)));
    }
    longest(Operation::Split(head, order(9), order(5)));
    longest(Operation::Split(head, order(9), order(0)));
    longest(Operation::Merge(head, order(9)));
    longest(Operation::Put(head, order(9)));
    for first in (0..512).step_by(64) {
        longest(Operation::Unpin(pages(head, first, 64)));
    }
    assert_clean(&arena, "at the end");
}

#[test]
fn the_last_step_that_a_journal_has_room_for_is_repeated_too() {
    let arena = SharedArena::create(BYTES, 2).unwrap();
    let word = &arena.0.memory.allocator_words[0];
    let journal = arena.0.journal(1, 0);
    for (steps, fits) in [(super::journal::STEPS, true), (super::journal::STEPS + 1, false)] {
        let loads = || (0..steps).for_each(|_| _ = AtomicWord::load(word, Ordering::SeqCst));
        journal.begin(Operation::Drain.encode());
        arena.0.recorder(journal, 1).write(loads);
        let offset = std::ptr::from_ref(word) as usize - arena.0.memory.base();
        assert_eq!(journal.recorded(0).unwrap().offset, offset as u64);
        assert_eq!(arena.0.recorder(journal, 1).finish(loads).is_ok(), fits, "{steps} steps");
        journal.end();
    }
}

/// So what a process has at hand in the allocator is at its own place there, not at another's.
#[test]
fn an_operation_acts_for_the_owner_that_it_is_done_for() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    for owner in 0..4 {
        let recorder = arena.0.recorder(arena.0.journal(owner, 0), owner);
        assert_eq!(recorder.watch(StepRecorder::acting_for), owner);
        assert_eq!(StepRecorder::acting_for(), 0, "outside of operations");
    }
}

#[test]
fn the_number_of_a_step_is_never_used_again() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    let journal = arena.0.journal(1, 0);
    journal.begin(Operation::Drain.encode());
    assert_ne!(journal.stamp(0).0 << 13, 0, "0 is the number of no step");
    // Made, it may be, and not recorded; then the journal is given up.
    let in_doubt = journal.stamp(journal.made());
    journal.end();
    journal.begin(Operation::Drain.encode());
    assert!(journal.stamp(0).0 > in_doubt.0);
    journal.end();
}

#[test]
fn one_recoverer_at_a_time() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    let doomed = doomed(&arena);
    let other = arena.0.owners.begin_recovery(doomed.me(), arena.me().identity);
    assert_eq!(arena.recover(doomed.me()), Err(RecoverError::Busy { pid: std::process::id() }));
    assert_eq!(arena.recover_dead(), []);
    drop(other);
    assert_eq!(arena.recover_dead(), [(doomed.me(), Recovered::default())]);
    assert_clean(&arena, "after the second");
}

#[test]
fn an_operation_too_long_for_its_journal_is_reported() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    let doomed = doomed(&arena);
    let head = did(&doomed, Operation::Alloc(order(3)));
    let stopped = stops(12, || _ = doomed.0.operate(Operation::Pin(pages(head, 1, 1))));
    assert!(stopped);
    doomed.0.journal(doomed.me().index, 0).pretend_to_have_made(super::journal::STEPS as u64 + 1);
    let recovered = arena.recover(doomed.me()).unwrap();
    assert_eq!((recovered.ambiguous, recovered.finished, recovered.blocks), (1, 0, 1));
}

#[test]
fn a_journal_that_does_not_fit_is_reported() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    let doomed = doomed(&arena);
    let journal = doomed.0.journal(doomed.me().index, 3);
    journal.begin(Operation::Alloc(order(2)).encode());
    // A step of another operation.
    journal.record(
        0,
        super::journal::RecordedStep { kind: super::journal::StepKind::Store, offset: 0, outcome: Ok(0) },
    );
    let recovered = arena.recover(doomed.me()).unwrap();
    assert_eq!((recovered.ambiguous, recovered.finished), (1, 0));
    assert_clean(&arena, "nothing had been done");
}

/// So many threads as may be in an operation at once.
#[test]
fn what_every_thread_was_in_is_finished() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    let doomed = doomed(&arena);
    let threads = super::arena_file::THREADS;
    for thread in 0..threads {
        let alloc = || _ = doomed.0.operate_for(doomed.me().index, thread, Operation::Alloc(order(3)));
        assert!(stops(30 + thread as u32, alloc));
    }
    let recovered = arena.recover(doomed.me()).unwrap();
    assert_eq!((recovered.finished, recovered.ambiguous), (threads as u64, 0), "{recovered:?}");
    assert_eq!(recovered.blocks, threads as u64, "each had its block at the end");
    assert_clean(&arena, "after the recovery");
}

/// The right kind of step, of another word.
#[test]
fn a_step_of_another_word_is_reported() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    let doomed = doomed(&arena);
    let head = did(&doomed, Operation::Alloc(order(2)));
    let pin = Operation::Pin(pages(head, 1, 1));
    assert!(stops(40, || _ = doomed.0.operate(pin)));
    let journal = doomed.0.journal(doomed.me().index, 0);
    let (made, first) = (journal.made(), journal.recorded(0).unwrap());
    assert!(made > 2);
    journal.begin(pin.encode());
    journal.record(0, super::journal::RecordedStep { offset: first.offset + 16, ..first });
    let recovered = arena.recover(doomed.me()).unwrap();
    assert_eq!((recovered.ambiguous, recovered.finished), (1, 0));
}

/// A place in the table that has a new owner is not recovered in the name of the old one, which is
/// dead; the new one may be alive.
#[test]
fn an_owner_that_is_gone_is_not_recovered_again() {
    let arena = SharedArena::create(BYTES, 2).unwrap();
    let first = doomed(&arena);
    arena.recover(first.me()).unwrap();
    let second = doomed(&arena);
    assert_eq!(first.me().index, second.me().index);
    let block = second.alloc(PAGE_SIZE).unwrap();
    assert_eq!(arena.recover(first.me()), Err(RecoverError::Gone(first.me())));
    assert_eq!(arena.free_bytes(), (BYTES - PAGE_SIZE) as u64);
    drop(first);
    assert!(arena.owners().contains(&second.me()), "nor does it leave for the new one");
    drop((block, second));
    assert_clean(&arena, "after all have left");
}

#[test]
fn a_journal_about_what_is_not_there_is_reported() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    let all = PAGES;
    for beyond in [all, all + 512, 1 << 52, u64::MAX - 511, u64::MAX] {
        let (page, pageblock) = (Pfn::new(beyond), Pfn::new(beyond & !511));
        let range = |start, end| FrameRange { start: Pfn::new(start), end: Pfn::new(end) };
        let operations = [
            Operation::Get(page, order(0)),
            Operation::Put(page, order(0)),
            Operation::Put(pageblock, Order::MAX),
            Operation::Pin(range(0, beyond.max(all + 1))),
            Operation::Pin(range(beyond, 3)),
            Operation::Unpin(range(beyond, u64::MAX)),
            Operation::Unpin(range(7, beyond.max(all + 1))),
            Operation::Split(pageblock, order(9), order(0)),
            Operation::Merge(Pfn::new(1), order(9)),
        ];
        for operation in operations {
            let doomed = doomed(&arena);
            doomed.0.journal(doomed.me().index, 2).begin(operation.encode());
            let recovered = arena.recover(doomed.me()).unwrap();
            assert_eq!((recovered.ambiguous, recovered.finished), (1, 0), "{operation:?}");
        }
    }
    assert_clean(&arena, "nothing had been done");
}

/// A split that panics half done stands in the journal. If its block were dropped and handed out
/// again, the recovery would go on with it under the next owner.
#[test]
fn after_a_panic_a_process_has_no_further_part() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    for at in further(0) {
        let victim = doomed(&arena);
        let mut buffer = victim.alloc(2 << 20).unwrap();
        buffer.fill(7);
        let block = buffer.freeze();
        let slice = block.slice(5000..9000).unwrap();
        if !stops(at, || _ = block.split_to(order(0))) {
            drop((block, slice, victim));
            break;
        }
        assert_eq!(block.split_to(order(3)), Err(SharedError::Poisoned));
        assert_eq!(block.try_clone().map(drop), Err(SharedError::Poisoned));
        assert_eq!(block.slice(..9).map(drop), Err(SharedError::Poisoned));
        assert_eq!(slice.try_clone().map(drop), Err(SharedError::Poisoned));
        assert_eq!(victim.adopt(slice.token()).map(drop), Err(SharedError::Poisoned));
        assert_eq!(victim.alloc(1).map(drop), Err(SharedError::Poisoned));
        assert!(slice.iter().chain(&block[..]).all(|byte| *byte == 7), "it can still be read");
        drop((block, slice));
        // What there is else, as whole blocks that a split would be seen in.
        let rest: Vec<_> =
            std::iter::from_fn(|| arena.alloc(2 << 20).ok()).map(SharedBuffer::freeze).collect();
        assert_eq!(rest.len(), 3, "what the process had is not free");
        let dead = victim.me();
        drop(victim);
        assert!(arena.owners().contains(&dead), "nor has it left");
        let recovered = arena.recover(dead).unwrap();
        assert_eq!((recovered.pins, recovered.blocks, recovered.ambiguous), (1 + 1, 1, 0), "place {at}");
        for block in &rest {
            assert_eq!(block.slice(..1).unwrap().block().1, Order::HUGE, "place {at}");
        }
        drop(rest);
        assert_clean(&arena, &format!("place {at}"));
    }
}

/// None of the threads that wait for a journal waits for one whose operation panicked.
#[test]
fn no_thread_waits_for_an_operation_that_panicked() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    let victim = doomed(&arena);
    std::thread::scope(|scope| {
        for thread in 0..2 * super::arena_file::THREADS as u32 {
            let victim = &victim;
            scope.spawn(move || {
                if !stops(3 + thread, || while victim.alloc(PAGE_SIZE).is_ok() {}) {
                    assert_eq!(victim.alloc(PAGE_SIZE).map(drop), Err(SharedError::Poisoned));
                }
            });
        }
    });
    assert_eq!(victim.alloc(PAGE_SIZE).map(drop), Err(SharedError::Poisoned));
    let dead = victim.me();
    drop(victim);
    assert_eq!(arena.recover(dead).unwrap().ambiguous, 0);
    assert_clean(&arena, "after the recovery");
}

#[test]
fn nothing_is_written_after_an_arena_is_published() {
    let geometry = super::arena_file::Geometry { pages: PAGES as usize, owners: 2 };
    let create = || {
        let memory = ArenaFile::create(geometry).unwrap();
        let file = memory.file().try_clone_to_owned().unwrap();
        (memory, file)
    };
    // SAFETY: the file becomes an arena of this crate's.
    let attach = |file: &OwnedFd| unsafe { SharedArena::attach(file.try_clone().unwrap()) };
    // All is done but the last word.
    let (memory, file) = create();
    let early = file.try_clone().unwrap();
    fail_point::run_at(0, move || {
        assert_eq!(attach(&early).map(drop), Err(SharedError::Unfinished));
    });
    let arena = SharedArena::join(memory, true, Identity::own().unwrap()).unwrap();
    assert_eq!(attach(&file).unwrap().free_bytes(), BYTES as u64);
    assert_clean(&arena, "at the end");
    // A creator that dies there leaves no arena.
    let (memory, file) = create();
    assert!(stops(0, || _ = SharedArena::join(memory, true, Identity::own().unwrap())));
    assert_eq!(attach(&file).map(drop), Err(SharedError::Unfinished));
}

/// Processes that try to join from the first moment on.
#[test]
fn who_joins_finds_a_whole_arena() {
    let mut early = 0;
    for _ in 0..200 {
        let memory =
            ArenaFile::create(super::arena_file::Geometry { pages: PAGES as usize, owners: 2 }).unwrap();
        let file = memory.file().try_clone_to_owned().unwrap();
        std::thread::scope(|scope| {
            let creator = scope.spawn(|| SharedArena::join(memory, true, Identity::own().unwrap()).unwrap());
            let second = loop {
                // SAFETY: the file becomes an arena of this crate's.
                match unsafe { SharedArena::attach(file.try_clone().unwrap()) } {
                    Ok(second) => break second,
                    Err(SharedError::Unfinished) => early += 1,
                    Err(other) => panic!("{other}"),
                }
            };
            assert_eq!(second.free_bytes(), BYTES as u64);
            let blocks: Vec<_> = std::iter::from_fn(|| second.alloc(2 << 20).ok()).collect();
            assert_eq!(blocks.len(), BYTES >> 21);
            drop(blocks);
            assert_eq!(second.audit().violations(), 0);
            drop(second);
            assert_clean(&creator.join().unwrap(), "at the end");
        });
    }
    assert!(early > 0, "some came early");
}

#[test]
fn what_a_process_does_not_hold_it_cannot_give_back() {
    let arena = SharedArena::create(BYTES, 1).unwrap();
    let entry = |page| {
        let entry = arena.0.state_machine.ledger.entry(arena.me().index, page);
        (entry.pins, entry.blocks)
    };
    let block = arena.alloc(PAGE_SIZE).unwrap().freeze();
    let slice = block.slice(..).unwrap();
    let (page, _) = slice.block();
    let refused = |operation| assert_eq!(arena.0.operate(operation), Err(Refusal::NotHeld));
    let unpin = |page| Operation::Unpin(FrameRange::new(page, 1));
    drop(block);
    refused(Operation::Put(page, Order::PAGE));
    assert_eq!(entry(page), (1, 0));
    drop(slice);
    let block = arena.alloc(PAGE_SIZE).unwrap().freeze();
    let (page, _) = block.slice(..).unwrap().block();
    refused(unpin(page));
    assert_eq!(entry(page), (0, 1));
    let other = page.offset(1);
    refused(unpin(other));
    refused(Operation::Put(other, Order::PAGE));
    assert_eq!(entry(other), (0, 0));
}

/// What destructors do after a panic, which a process that is killed does not: nothing of it is
/// seen in the memory or in the journal, though it goes on from what it has written itself.
#[test]
fn unwinding_writes_no_shared_word() {
    struct Undo<'a>(&'a super::word::Word);
    impl Drop for Undo<'_> {
        fn drop(&mut self) {
            assert_eq!(self.0.fetch_add(5, Ordering::SeqCst), 1);
            assert_eq!(self.0.fetch_add(5, Ordering::SeqCst), 6);
            self.0.store(0, Ordering::SeqCst);
        }
    }
    let arena = SharedArena::create(BYTES, 2).unwrap();
    let word = &arena.0.memory.ledger.words[0];
    let journal = arena.0.journal(0, 0);
    journal.begin(Operation::Drain.encode());
    let thrown = catch_unwind(AssertUnwindSafe(|| {
        arena.0.recorder(journal, 0).write(|| {
            let _undo = Undo(word);
            word.fetch_add(1, Ordering::SeqCst);
            resume_unwind(Box::new("in the middle"));
        })
    }));
    assert!(thrown.is_err());
    assert_eq!((word.value(), journal.made()), (1, 2), "a load and an exchange");
    // The next one begins with the words themselves.
    arena.0.recorder(journal, 0).write(|| assert_eq!(word.fetch_sub(1, Ordering::SeqCst), 1));
    journal.end();
    assert_clean(&arena, "after all");
}
