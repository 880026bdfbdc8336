//! Futexes: waiters and wakers, and keys of pages that are being split, collapsed, moved and
//! truncated.

use std::pin::pin;
use std::time::Duration;

use tailpin_futex::model::Mapping;
use tailpin_futex::{
    Access, Acquired, Address, Error, Fault, Futex, Key, OWNER_DIED, TID_MASK, Tid, Timeout, WAITERS, derive,
};

use super::{ONE_WORD, plan};
use crate::engine::Engine;
use crate::family::Family;
use crate::futex_world::{FutexWorld, PageWorld};
use crate::plan::Plan;
use crate::switches::Switch;
use crate::trace::{note, violation};
use crate::word::CheckWord;
use crate::world::World;

/// Addresses of two words; their buckets differ where there are two.
const A: u64 = 0;
const B: u64 = 4;
/// A robust list: its head, and an entry whose lock is the word at `A`.
const HEAD: u64 = 16;
const ENTRY: u64 = 48;

pub(super) fn plans<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    let futex = |name, title, finds| Plan {
        frames: 1,
        explored: |_| false,
        quiet_ends: false,
        ..plan::<E, F>(name, title, ONE_WORD, finds)
    };
    vec![
        futex("wait-wake", "wait ‖ change the word, wake", &[Switch::FWait, Switch::FWake, Switch::FLook])
            .setup(|w| w.bring(FutexWorld::<E, F::Futex>::new(1)))
            .role("wait while 0", wait)
            .role("store 1; wake", |w| {
                let fw = futexes(w);
                fw.flat.store(A, 1);
                woken(fw.futexes.wake(&fw.word(A), 1));
            })
            .finish(idle),
        futex("wait-requeue-wake", "wait ‖ requeue to another word, wake that ‖ wake", &[Switch::FMove])
            .setup(|w| w.bring(FutexWorld::<E, F::Futex>::new(2)))
            .role("wait while 0", wait)
            .role("store 1; requeue; wake the other", |w| {
                let fw = futexes(w);
                fw.flat.store(A, 1);
                match fw.futexes.cmp_requeue(&fw.word(A), &fw.word(B), 0, 1, 1) {
                    Ok(done) => note(|| format!("requeues {}", done.requeued)),
                    Err(error) => violation(format!("the requeue failed: {error}")),
                }
                woken(fw.futexes.wake(&fw.word(B), 1));
            })
            .role("wake", |w| {
                let fw = futexes(w);
                woken(fw.futexes.wake(&fw.word(A), 1));
            })
            .finish(idle),
        futex("leave-wake", "a wait is given up ‖ requeue, wake: counted by one of them", &[])
            .setup(|w| w.bring(FutexWorld::<E, F::Futex>::new(2)))
            .role("queue; leave", |w| {
                let fw = futexes(w);
                let waiter = pin!(fw.futexes.waiter());
                if waiter.as_ref().queue(&fw.word(A), 0, !0).is_ok() && waiter.leave() {
                    // What the waker counted.
                    fw.flat.store(B, 1);
                }
            })
            .role("requeue; wake the other", |w| {
                let fw = futexes(w);
                let moved = fw.futexes.requeue(&fw.word(A), &fw.word(B), 0, 1);
                if moved.is_ok_and(|done| done.requeued == 1) && fw.futexes.wake(&fw.word(B), 1) == Ok(1) {
                    fw.flat.store(8, 1);
                }
            })
            .finish(|w| {
                use tailpin_futex::Memory;
                let fw = futexes(w);
                let said = [B, 8].map(|at| fw.flat.load(Address::new(at)));
                if said[0] != said[1] {
                    violation(format!("the waiter says {:?}, the waker {:?}", said[0], said[1]));
                }
                idle(w);
            }),
        futex("pi-lock", "two take and give back a lock with inheritance", &[])
            .setup(|w| w.bring(FutexWorld::<E, F::Futex>::new(1)))
            .role("lock; unlock", lock_and_unlock)
            .role("lock; unlock", lock_and_unlock)
            .finish(idle),
        futex("pi-timeout", "a lock with inheritance is given back ‖ a wait for it is given up", &[])
            .setup(|w| w.bring(FutexWorld::<E, F::Futex>::new(1)))
            .role("lock; unlock", lock_and_unlock)
            .role("lock at once or not; unlock", |w| {
                let fw = futexes(w);
                match fw.futexes.lock_pi(&fw.word(A), Some(Timeout::After(Duration::ZERO))) {
                    Ok(_) => unlock(w),
                    Err(Error::TimedOut) => note(|| "gives up".to_owned()),
                    Err(error) => violation(format!("the lock ended with: {error}")),
                }
            })
            .finish(|w| {
                // Whatever happened, it is free now.
                lock_and_unlock(w);
                idle(w);
            }),
        futex("pi-exit", "the owner of a robust lock with inheritance ends ‖ lock", &[])
            .setup(|w| {
                w.bring(FutexWorld::<E, F::Futex>::new(1));
                robust_list(w, 1);
            })
            .role("exit", exit)
            .role("lock; unlock", |w| {
                let fw = futexes(w);
                match fw.futexes.lock_pi(&fw.word(A), None) {
                    Ok(Acquired::OwnerDied) => unlock(w),
                    other => violation(format!("of a dead owner's lock was said: {other:?}")),
                }
            })
            .finish(idle),
        futex("pi-gone", "the owner of a lock with inheritance ends, which is not robust ‖ lock", &[])
            .setup(|w| {
                w.bring(FutexWorld::<E, F::Futex>::new(1));
                futexes(w).flat.store(A, OWNER);
            })
            .role("exit", |w| {
                let fw = futexes(w);
                fw.futexes.exit_thread(&fw.flat, Tid(OWNER), None);
            })
            .role("lock; unlock", |w| {
                let fw = futexes(w);
                match fw.futexes.lock_pi(&fw.word(A), None) {
                    Ok(Acquired::OwnerDied) => unlock(w),
                    Err(Error::NoSuchOwner { owner: Tid(OWNER) }) => note(|| "comes too late".to_owned()),
                    other => violation(format!("of a lock of a thread that is gone was said: {other:?}")),
                }
            })
            .finish(idle),
        futex("exit-wake", "the owner of a robust lock ends ‖ lock ‖ a wake for nothing", &[Switch::FWake])
            .setup(|w| {
                w.bring(FutexWorld::<E, F::Futex>::new(1));
                robust_list(w, 0);
            })
            .role("exit", exit)
            .role("lock", lock_robust)
            .role("wake", |w| {
                let fw = futexes(w);
                woken(fw.futexes.wake(&fw.word(A), 1));
            })
            .finish(idle),
        futex("I12", "key of a huge page that may only be read", &[Switch::H8])
            .setup(|w| {
                let pages = PageWorld::<E>::new(true);
                pages.space.map(mapping(&pages, false));
                w.bring(pages);
            })
            .role("key", key),
        futex(
            "I11-split",
            "key of a tail ‖ split, the tail moves, its frame is used again",
            &[Switch::H9, Switch::H10],
        )
        .setup(|w| w.bring(mapped::<E>(true)))
        .role("key", key)
        .role("split; move; reuse", |w| {
            let pages: &PageWorld<E> = w.brought();
            pages.model.split(pages.object, 1);
            note(|| "has split".to_owned());
            pages.model.relocate(pages.object, 1, 0);
            reuse(pages, 1);
        }),
        futex("I11-head", "key of a tail ‖ split, the head moves, its frame is used again", &[Switch::H11])
            .setup(|w| w.bring(mapped::<E>(true)))
            .role("key", key)
            .role("split; move the head; reuse", |w| {
                let pages: &PageWorld<E> = w.brought();
                pages.model.split(pages.object, 1);
                note(|| "has split".to_owned());
                pages.model.relocate(pages.object, 0, 0);
                reuse(pages, 1);
            }),
        futex("I11-collapse", "key of a page ‖ collapse, its frame is used again", &[Switch::H9])
            .setup(|w| w.bring(mapped::<E>(false)))
            .role("key", key)
            .role("collapse; reuse", |w| {
                let pages: &PageWorld<E> = w.brought();
                if pages.model.relocate(pages.object, 0, 1) {
                    note(|| "has collapsed".to_owned());
                }
                reuse(pages, 2);
            }),
        futex("I11-truncate", "key of a tail ‖ truncate, its frame is used again", &[Switch::H9])
            .setup(|w| w.bring(mapped::<E>(true)))
            .role("key", key)
            .role("truncate; reuse", |w| {
                let pages: &PageWorld<E> = w.brought();
                pages.model.truncate(pages.object, 1);
                note(|| "has truncated".to_owned());
                reuse(pages, 1);
            }),
        futex(
            "key-remap",
            "key of a page that may only be read ‖ writable memory takes its place, truncate",
            &[Switch::H25],
        )
        .setup(|w| {
            let pages = PageWorld::<E>::new(false);
            pages.space.map(mapping(&pages, false));
            fault(&pages);
            w.bring(pages);
        })
        .role("key", key)
        .role("map anew; truncate", |w| {
            let pages: &PageWorld<E> = w.brought();
            let object = pages.space.map_anonymous(2, 2, false);
            pages.space.remap(0, Some(Mapping { object, ..mapping(pages, true) }));
            pages.model.truncate(pages.object, 0);
        }),
    ]
}

fn futexes<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) -> &FutexWorld<E, F::Futex> {
    w.brought()
}

fn wait<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    let fw = futexes(w);
    match fw.futexes.wait(&fw.word(A), 0, None) {
        Ok(()) => note(|| "was woken".to_owned()),
        Err(Error::WouldBlock { found: 1 }) => note(|| "sees the new word".to_owned()),
        Err(error) => violation(format!("the wait ended with: {error}")),
    }
}

fn woken(count: Result<u32, Error>) {
    match count {
        Ok(count) => note(|| format!("wakes {count}")),
        Err(error) => violation(format!("the wake failed: {error}")),
    }
}

fn idle<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    if !futexes(w).futexes.is_idle() {
        violation("somebody is left in a queue, or counted".to_owned());
    }
}

fn lock_and_unlock<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    let fw = futexes(w);
    if let Err(error) = fw.futexes.lock_pi(&fw.word(A), None) {
        violation(format!("the lock was not taken: {error}"));
    }
    unlock(w);
}

/// Uses what the lock protects, and gives it back.
fn unlock<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    let fw = futexes(w);
    fw.inside();
    if let Err(error) = fw.futexes.unlock_pi(&fw.word(A)) {
        violation(format!("the lock was not given back: {error}"));
    }
}

/// Number of the thread that ends; no role has it.
const OWNER: u32 = 4;

/// The lock at `A` is the dead thread's, and in its list; bit 0 of the entry's address says whether
/// it inherits.
fn robust_list<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>, inherits: u64) {
    let fw = futexes(w);
    fw.flat.store(A, OWNER);
    fw.flat.store(HEAD, (ENTRY | inherits) as u32);
    // From the entry back to the lock.
    fw.flat.store(HEAD + 8, (A.wrapping_sub(ENTRY)) as u32);
    fw.flat.store(HEAD + 12, u32::MAX);
    fw.flat.store(ENTRY, HEAD as u32);
}

fn exit<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    let fw = futexes(w);
    let report = fw.futexes.exit_thread(&fw.flat, Tid(OWNER), Some(Address::new(HEAD)));
    if report.locks_died != 1 {
        violation(format!("the dead thread's lock was not found: {report:?}"));
    }
}

/// Takes the lock at `A` as a program does: by the word if it is free or orphaned, waiting if it is
/// not.
fn lock_robust<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    use tailpin_futex::Memory;
    let fw = futexes(w);
    let at = Address::new(A);
    let cas = |old, new| fw.flat.compare_exchange(at, old, new) == Ok(Ok(old));
    loop {
        let seen = fw.flat.load(at).unwrap_or_default();
        if seen & TID_MASK == 0 {
            if seen & OWNER_DIED == 0 {
                violation("the lock was freed by nobody".to_owned());
            }
            if cas(seen, 2 | seen & WAITERS) {
                return;
            }
        } else if seen & WAITERS != 0 || cas(seen, seen | WAITERS) {
            match fw.futexes.wait(&fw.word(A), seen | WAITERS, None) {
                Ok(()) | Err(Error::WouldBlock { .. }) => {}
                Err(error) => violation(format!("the wait ended with: {error}")),
            }
        }
    }
}

fn mapping<E: Engine>(pages: &PageWorld<E>, writable: bool) -> Mapping {
    Mapping { page: 0, pages: 2, object: pages.object, index: 0, writable, private: false, huge: true }
}

/// The second page, faulted in.
fn fault<E: Engine>(pages: &PageWorld<E>) {
    use tailpin_futex::Memory;
    pages.space.fault(Address::new(4096), Access::Read).expect("it is mapped");
}

fn mapped<E: Engine>(huge: bool) -> PageWorld<E> {
    let pages = PageWorld::new(huge);
    pages.space.map(mapping(&pages, true));
    fault(&pages);
    pages
}

/// Frames that were freed go to another object.
fn reuse<E: Engine>(pages: &PageWorld<E>, frames: usize) {
    pages.model.object(frames, false);
    note(|| "uses the frames again".to_owned());
}

/// The key of the second page is the one made alone, or what now is in its place.
fn key<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    let pages: &PageWorld<E> = w.brought();
    let at = Address::new(4096);
    let alone = Key::object(pages.object.id(), 1, at);
    let derived = derive::<_, F::Futex>(&Futex::shared(&pages.space, at.get()), Access::Read, |_| None);
    match derived {
        Ok(derived) if derived.key == alone => note(|| format!("key: {alone}")),
        Ok(derived) if derived.key.kind() == tailpin_futex::Kind::Anonymous => {
            note(|| format!("key: {}", derived.key));
        }
        Err(Error::Fault { fault: Fault::BeyondEnd, .. }) => note(|| "the object ends before it".to_owned()),
        Ok(derived) => violation(format!("the key is {}, and made alone {alone}", derived.key)),
        Err(error) => violation(format!("no key: {error}")),
    }
}
