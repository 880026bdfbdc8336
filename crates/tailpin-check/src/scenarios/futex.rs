//! Futexes: waiters and wakers, and keys of pages that are being split, collapsed, moved and
//! truncated.

use std::pin::pin;
use std::time::Duration;

use tailpin::PAGE_BYTES;
use tailpin_futex::model::Mapping;
use tailpin_futex::{
    Access, Acquired, Address, Error, Fault, Futex, Key, OWNER_DIED, TID_MASK, Tid, Timeout, WAITERS, derive,
};

use super::{ONE_WORD, scenario};
use crate::engine::Engine;
use crate::fixture::Fixture;
use crate::futex_fixture::{FutexFixture, KeyFixture};
use crate::safeguards::Safeguard;
use crate::scenario::Scenario;
use crate::tested_protocol::TestedProtocol;
use crate::trace::{note, violation};
use crate::word::CheckWord;

/// Addresses of two words; their buckets differ where there are two.
const A: u64 = 0;
const B: u64 = 4;
/// A robust list: its head, and an entry whose lock is the word at `A`.
const HEAD: u64 = 16;
const ENTRY: u64 = 48;

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    let futex = |name, title, finds| Scenario {
        frames: 1,
        explored: |_| false,
        plain_setup: false,
        ..scenario::<E, F>(name, title, ONE_WORD, finds)
    };
    vec![
        futex(
            "wait-wake",
            "wait ‖ change the word, wake",
            &[Safeguard::FWait, Safeguard::FWake, Safeguard::FLook],
        )
        .setup(|fx| fx.extend_with(FutexFixture::<E, F::Futex>::new(1)))
        .thread("wait while 0", wait)
        .thread("store 1; wake", |fx| {
            let fw = futexes(fx);
            fw.flat.store(A, 1);
            woken(fw.futexes.wake(&fw.word(A), 1));
        })
        .finish(idle),
        futex("wait-requeue-wake", "wait ‖ requeue to another word, wake that ‖ wake", &[Safeguard::FMove])
            .setup(|fx| fx.extend_with(FutexFixture::<E, F::Futex>::new(2)))
            .thread("wait while 0", wait)
            .thread("store 1; requeue; wake the other", |fx| {
                let fw = futexes(fx);
                fw.flat.store(A, 1);
                match fw.futexes.cmp_requeue(&fw.word(A), &fw.word(B), 0, 1, 1) {
                    Ok(done) => note(|| format!("requeues {}", done.requeued)),
                    Err(error) => violation(format!("the requeue failed: {error}")),
                }
                woken(fw.futexes.wake(&fw.word(B), 1));
            })
            .thread("wake", |fx| {
                let fw = futexes(fx);
                woken(fw.futexes.wake(&fw.word(A), 1));
            })
            .finish(idle),
        futex("leave-wake", "a wait is given up ‖ requeue, wake: counted by one of them", &[])
            .setup(|fx| fx.extend_with(FutexFixture::<E, F::Futex>::new(2)))
            .thread("queue; leave", |fx| {
                let fw = futexes(fx);
                let waiter = pin!(fw.futexes.waiter());
                if waiter.as_ref().queue(&fw.word(A), 0, !0).is_ok() && waiter.leave() {
                    // What the waker counted.
                    fw.flat.store(B, 1);
                }
            })
            .thread("requeue; wake the other", |fx| {
                let fw = futexes(fx);
                let moved = fw.futexes.requeue(&fw.word(A), &fw.word(B), 0, 1);
                if moved.is_ok_and(|done| done.requeued == 1) && fw.futexes.wake(&fw.word(B), 1) == Ok(1) {
                    fw.flat.store(8, 1);
                }
            })
            .finish(|fx| {
                use tailpin_futex::Memory;
                let fw = futexes(fx);
                let said = [B, 8].map(|at| fw.flat.load(Address::new(at)));
                if said[0] != said[1] {
                    violation(format!("the waiter says {:?}, the waker {:?}", said[0], said[1]));
                }
                idle(fx);
            }),
        futex("pi-lock", "two take and give back a lock with inheritance", &[])
            .setup(|fx| fx.extend_with(FutexFixture::<E, F::Futex>::new(1)))
            .thread("lock; unlock", lock_and_unlock)
            .thread("lock; unlock", lock_and_unlock)
            .finish(idle),
        futex("pi-timeout", "a lock with inheritance is given back ‖ a wait for it is given up", &[])
            .setup(|fx| fx.extend_with(FutexFixture::<E, F::Futex>::new(1)))
            .thread("lock; unlock", lock_and_unlock)
            .thread("lock at once or not; unlock", |fx| {
                let fw = futexes(fx);
                match fw.futexes.lock_pi(&fw.word(A), Some(Timeout::After(Duration::ZERO))) {
                    Ok(_) => unlock(fx),
                    Err(Error::TimedOut) => note(|| "gives up".to_owned()),
                    Err(error) => violation(format!("the lock ended with: {error}")),
                }
            })
            .finish(|fx| {
                // Whatever happened, it is free now.
                lock_and_unlock(fx);
                idle(fx);
            }),
        futex("pi-exit", "the owner of a robust lock with inheritance ends ‖ lock", &[])
            .setup(|fx| {
                fx.extend_with(FutexFixture::<E, F::Futex>::new(1));
                robust_list(fx, 1);
            })
            .thread("exit", exit)
            .thread("lock; unlock", |fx| {
                let fw = futexes(fx);
                match fw.futexes.lock_pi(&fw.word(A), None) {
                    Ok(Acquired::OwnerDied) => unlock(fx),
                    other => violation(format!("of a dead owner's lock was said: {other:?}")),
                }
            })
            .finish(idle),
        futex(
            "pi-gone",
            "the owner of a lock with inheritance ends, which is not robust ‖ lock",
            &[Safeguard::H33],
        )
        .setup(|fx| {
            fx.extend_with(FutexFixture::<E, F::Futex>::new(1));
            futexes(fx).flat.store(A, OWNER);
        })
        .thread("exit", |fx| {
            let fw = futexes(fx);
            fw.futexes.exit_thread(&fw.flat, Tid(OWNER), None);
        })
        .thread("lock; unlock", |fx| {
            let fw = futexes(fx);
            match fw.futexes.lock_pi(&fw.word(A), None) {
                Ok(Acquired::OwnerDied) => unlock(fx),
                Err(Error::NoSuchOwner { owner: Tid(OWNER) }) => note(|| "comes too late".to_owned()),
                other => violation(format!("of a lock of a thread that is gone was said: {other:?}")),
            }
        })
        .finish(idle),
        futex(
            "exit-wake",
            "the owner of a robust lock ends ‖ lock ‖ a wake for nothing",
            &[Safeguard::FWake],
        )
        .setup(|fx| {
            fx.extend_with(FutexFixture::<E, F::Futex>::new(1));
            robust_list(fx, 0);
        })
        .thread("exit", exit)
        .thread("lock", lock_robust)
        .thread("wake", |fx| {
            let fw = futexes(fx);
            woken(fw.futexes.wake(&fw.word(A), 1));
        })
        .finish(idle),
        futex(
            "exit-pending",
            "a thread unlocks a robust lock and ends before it wakes ‖ wait",
            &[Safeguard::H32],
        )
        .setup(|fx| {
            fx.extend_with(FutexFixture::<E, F::Futex>::new(1));
            robust_list(fx, 0);
            let fw = futexes(fx);
            fw.flat.store(A, OWNER | WAITERS);
            // The lock is out of the list already, and pending.
            fw.flat.store(HEAD, HEAD as u32);
            fw.flat.store(HEAD + 16, ENTRY as u32);
        })
        .thread("unlock; exit", |fx| {
            let fw = futexes(fx);
            fw.flat.store(A, 0);
            let report = fw.futexes.exit_thread(&fw.flat, Tid(OWNER), Some(Address::new(HEAD)));
            note(|| format!("wakes {}", report.woken));
        })
        .thread("wait while locked", |fx| {
            let fw = futexes(fx);
            match fw.futexes.wait(&fw.word(A), OWNER | WAITERS, None) {
                Ok(()) => note(|| "was woken".to_owned()),
                Err(Error::WouldBlock { found: 0 }) => note(|| "sees it free".to_owned()),
                Err(error) => violation(format!("the wait ended with: {error}")),
            }
        })
        .finish(idle),
        futex("key-object", "key of an object ‖ it goes, and another takes its frames", &[Safeguard::H23])
            .setup(|fx| {
                let pages = KeyFixture::<E>::new(false);
                pages.space.map(mapping(&pages, true));
                fault(&pages);
                fx.extend_with(pages);
            })
            .thread("key; another object; key", |fx| {
                let pages: &KeyFixture<E> = fx.extension();
                let derived = || {
                    derive::<_, F::Futex>(&Futex::shared(&pages.space, PAGE_BYTES), Access::Read, |_| None)
                };
                let first = derived();
                pages.model.truncate(pages.object, 0);
                note(|| "the object goes, and its frames to another".to_owned());
                let object = pages.model.object(2, false);
                pages.space.remap(0, Some(Mapping { object, ..mapping(pages, true) }));
                fault(pages);
                match (first, derived()) {
                    (Ok(first), Ok(second)) if first.key == second.key => violation(format!(
                        "a waiter of the object that is gone has the key of the other one: {}",
                        first.key
                    )),
                    (Ok(first), Ok(second)) => note(|| format!("keys: {}, {}", first.key, second.key)),
                    (first, second) => violation(format!("no key: {first:?}, {second:?}")),
                }
            }),
        futex("I12", "key of a huge page that may only be read", &[Safeguard::H8])
            .setup(|fx| {
                let pages = KeyFixture::<E>::new(true);
                pages.space.map(mapping(&pages, false));
                fx.extend_with(pages);
            })
            .thread("key", key),
        futex(
            "I11-split",
            "key of a tail ‖ split, the tail moves, its frame is used again",
            &[Safeguard::H9, Safeguard::H10],
        )
        .setup(|fx| fx.extend_with(mapped::<E>(true)))
        .thread("key", key)
        .thread("split; move; reuse", |fx| {
            let pages: &KeyFixture<E> = fx.extension();
            pages.model.split(pages.object, 1);
            note(|| "has split".to_owned());
            pages.model.relocate(pages.object, 1, 0);
            reuse(pages, 1);
        }),
        futex(
            "I11-head",
            "key of a tail ‖ split, the head moves, its frame is used again",
            &[Safeguard::H11],
        )
        .setup(|fx| fx.extend_with(mapped::<E>(true)))
        .thread("key", key)
        .thread("split; move the head; reuse", |fx| {
            let pages: &KeyFixture<E> = fx.extension();
            pages.model.split(pages.object, 1);
            note(|| "has split".to_owned());
            pages.model.relocate(pages.object, 0, 0);
            reuse(pages, 1);
        }),
        futex("I11-collapse", "key of a page ‖ collapse, its frame is used again", &[Safeguard::H9])
            .setup(|fx| fx.extend_with(mapped::<E>(false)))
            .thread("key", key)
            .thread("collapse; reuse", |fx| {
                let pages: &KeyFixture<E> = fx.extension();
                if pages.model.relocate(pages.object, 0, 1) {
                    note(|| "has collapsed".to_owned());
                }
                reuse(pages, 2);
            }),
        futex("I11-truncate", "key of a tail ‖ truncate, its frame is used again", &[Safeguard::H9])
            .setup(|fx| fx.extend_with(mapped::<E>(true)))
            .thread("key", key)
            .thread("truncate; reuse", |fx| {
                let pages: &KeyFixture<E> = fx.extension();
                pages.model.truncate(pages.object, 1);
                note(|| "has truncated".to_owned());
                reuse(pages, 1);
            }),
        futex(
            "key-remap",
            "key of a page that may only be read ‖ writable memory takes its place, truncate",
            &[Safeguard::H25],
        )
        .setup(|fx| {
            let pages = KeyFixture::<E>::new(false);
            pages.space.map(mapping(&pages, false));
            fault(&pages);
            fx.extend_with(pages);
        })
        .thread("key", key)
        .thread("map anew; truncate", |fx| {
            let pages: &KeyFixture<E> = fx.extension();
            let object = pages.space.map_anonymous(2, 2, false);
            pages.space.remap(0, Some(Mapping { object, ..mapping(pages, true) }));
            pages.model.truncate(pages.object, 0);
        }),
    ]
}

fn futexes<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) -> &FutexFixture<E, F::Futex> {
    fx.extension()
}

fn wait<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let fw = futexes(fx);
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

fn idle<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    if !futexes(fx).futexes.is_idle() {
        violation("a thread is left in a queue, or counted".to_owned());
    }
}

fn lock_and_unlock<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let fw = futexes(fx);
    if let Err(error) = fw.futexes.lock_pi(&fw.word(A), None) {
        violation(format!("the lock was not taken: {error}"));
    }
    unlock(fx);
}

/// Uses what the lock protects, and gives it back.
fn unlock<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let fw = futexes(fx);
    fw.inside();
    if let Err(error) = fw.futexes.unlock_pi(&fw.word(A)) {
        violation(format!("the lock was not given back: {error}"));
    }
}

/// Number of the thread that ends; no thread has it.
const OWNER: u32 = 4;

/// The lock at `A` is the dead thread's, and in its list; bit 0 of the entry's address says whether
/// it inherits.
fn robust_list<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, inherits: u64) {
    let fw = futexes(fx);
    fw.flat.store(A, OWNER);
    fw.flat.store(HEAD, (ENTRY | inherits) as u32);
    // From the entry back to the lock.
    fw.flat.store(HEAD + 8, (A.wrapping_sub(ENTRY)) as u32);
    fw.flat.store(HEAD + 12, u32::MAX);
    fw.flat.store(ENTRY, HEAD as u32);
}

fn exit<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let fw = futexes(fx);
    let report = fw.futexes.exit_thread(&fw.flat, Tid(OWNER), Some(Address::new(HEAD)));
    if report.locks_died != 1 {
        violation(format!("the dead thread's lock was not found: {report:?}"));
    }
}

/// Takes the lock at `A` as a program does: by the word if it is free or orphaned, waiting if it is
/// not.
fn lock_robust<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    use tailpin_futex::Memory;
    let fw = futexes(fx);
    let at = Address::new(A);
    let cas = |old, new| fw.flat.compare_exchange(at, old, new) == Ok(Ok(old));
    loop {
        let seen = fw.flat.load(at).unwrap_or_default();
        if seen & TID_MASK == 0 {
            if seen & OWNER_DIED == 0 {
                violation("the lock is free, and no thread freed it".to_owned());
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

fn mapping<E: Engine>(pages: &KeyFixture<E>, writable: bool) -> Mapping {
    Mapping { page: 0, pages: 2, object: pages.object, index: 0, writable, private: false, huge: true }
}

/// The second page, faulted in.
fn fault<E: Engine>(pages: &KeyFixture<E>) {
    use tailpin_futex::Memory;
    pages.space.fault(Address::new(PAGE_BYTES), Access::Read).expect("it is mapped");
}

fn mapped<E: Engine>(huge: bool) -> KeyFixture<E> {
    let pages = KeyFixture::new(huge);
    pages.space.map(mapping(&pages, true));
    fault(&pages);
    pages
}

/// Frames that were freed go to another object.
fn reuse<E: Engine>(pages: &KeyFixture<E>, frames: usize) {
    pages.model.object(frames, false);
    note(|| "uses the frames again".to_owned());
}

/// The key of the second page is the one made alone, or what now is in its place.
fn key<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let pages: &KeyFixture<E> = fx.extension();
    let at = Address::new(PAGE_BYTES);
    let alone = Key::object(pages.object.id(), 1, at);
    let derived = derive::<_, F::Futex>(&Futex::shared(&pages.space, at.get()), Access::Read, |_| None);
    match derived {
        Ok(derived) if derived.key == alone => note(|| format!("key: {alone}")),
        Ok(derived) if derived.key.kind() == tailpin_futex::KeyKind::Anonymous => {
            note(|| format!("key: {}", derived.key));
        }
        Err(Error::Fault { fault: Fault::BeyondEnd, .. }) => note(|| "the object ends before it".to_owned()),
        Ok(derived) => violation(format!("the key is {}, and made alone {alone}", derived.key)),
        Err(error) => violation(format!("no key: {error}")),
    }
}
