//! Futexes over two spaces, with threads that halt and interrupts that end the halt.

use alloc::format;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use tailpin::Order;
use tailpin_futex::{Acquired, Address, Error, Futex, Futexes, Priority, RobustEnd, TID_MASK, Timeout};
use tailpin_mm::{HugePages, Map, ObjectConfig, Prot, VirtAddr};

use super::{Check, World, ensure, word_of};
use crate::apic::everywhere;
use crate::breaks::{self, Break};
use crate::cpus::Meeting;
use crate::note;
use crate::scheduler::{OnePerCpu, thread_of};
use crate::traps::{in_space, read, write};

/// Far longer than any wait that is woken.
const TOO_LONG: Timeout = Timeout::After(Duration::from_secs(30));

/// A thread waits on a word in a huge page of an object, which is split; a wake through another
/// space, at another address, finds it.
pub(super) fn futex(world: &World) -> Check {
    let futexes = Futexes::with_buckets(OnePerCpu::new(), 64);
    let object = world.mm.object(ObjectConfig::new(2 << 20).huge())?;
    let (here, there) = (world.space()?, world.space()?);
    let at = here.map(Map::shared(&object, 0, 2 << 20, Prot::READ_WRITE).huge(HugePages::Always))?;
    let map = Map::shared(&object, 0, 2 << 20, Prot::READ_WRITE);
    let other = there.map(map.at(VirtAddr::new(0x4000_1000)))?.offset(0x5008);
    let word = at.offset(0x5008);
    let waited = Futex::shared(&here, word.get());
    let woken = Futex::shared(&there, other.get());
    // Each of them takes as long as a timeout where nothing wakes.
    let rounds = if breaks::is(Break::WakeFirst) { 3 } else { world.times(200) };
    let (back, slow) = (AtomicU64::new(0), AtomicU64::new(0));
    let refused = AtomicU64::new(0);
    everywhere(&|cpu| match cpu {
        0 => in_space(&there, || {
            for round in 0..rounds {
                while futexes.waiters(&woken) == Ok(0) && back.load(Ordering::SeqCst) <= round {
                    core::hint::spin_loop();
                }
                if round % 10 == 0 && here.split_page(at, Order::PAGE).is_err() {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                let change = || write(other, round + 1);
                if breaks::is(Break::WakeFirst) {
                    let _ = futexes.wake(&woken, 1);
                    // The waiter looks at the word, finds it as it was and waits again.
                    while futexes.waiters(&woken) == Ok(0) && back.load(Ordering::SeqCst) <= round {
                        core::hint::spin_loop();
                    }
                    change();
                } else {
                    change();
                    let _ = futexes.wake(&woken, 1);
                }
                while back.load(Ordering::SeqCst) <= round {
                    core::hint::spin_loop();
                }
            }
        }),
        1 => in_space(&here, || {
            for round in 0..rounds {
                while read(word) == Some(round) {
                    let timeout = if breaks::is(Break::WakeFirst) {
                        Timeout::After(Duration::from_millis(300))
                    } else {
                        TOO_LONG
                    };
                    let end = futexes.wait(&waited, round as u32, Some(timeout));
                    slow.fetch_add(u64::from(end == Err(Error::TimedOut)), Ordering::Relaxed);
                }
                back.fetch_add(1, Ordering::SeqCst);
            }
        }),
        _ => {}
    });
    note!("{rounds} rounds");
    ensure(slow.into_inner() == 0, "a thread slept on although its word had changed")?;
    ensure(refused.into_inner() == 0, "a split was refused")?;
    ensure(futexes.is_idle(), "a waiter is left")
}

/// A thread ends with a lock of its robust list held: the thread that waits for it is woken, and
/// finds that the owner died.
pub(super) fn robust_exit(world: &World) -> Check {
    const HEAD: u64 = 0;
    const ENTRY: u64 = 64;
    const LOCK: u64 = ENTRY + 8;
    let futexes = Futexes::with_buckets(OnePerCpu::new(), 64);
    let (space, at) = world.space_with(1 << 20)?;
    let lock = Futex::private(&space, at.offset(LOCK).get());
    let meeting = Meeting::of(2);
    let (locks_died, complete, woken) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    everywhere(&|cpu| match cpu {
        0 => {
            meeting.meet();
            while futexes.waiters(&lock) == Ok(0) {
                core::hint::spin_loop();
            }
            let report = futexes.exit_thread(&space, thread_of(0), Some(Address::new(at.offset(HEAD).get())));
            locks_died.store(u64::from(report.locks_died), Ordering::Relaxed);
            complete.store(u64::from(report.robust == RobustEnd::Complete), Ordering::Relaxed);
        }
        1 => in_space(&space, || {
            // The head, with one entry; the lock is 8 further on; nothing is pending. CPU 0's
            // thread has the lock, and there are waiters.
            let held = u64::from(thread_of(0).0 | tailpin_futex::WAITERS);
            write(at.offset(HEAD), at.offset(ENTRY).get());
            write(at.offset(HEAD + 8), LOCK - ENTRY);
            write(at.offset(HEAD + 16), 0);
            write(at.offset(ENTRY), at.offset(HEAD).get());
            write(at.offset(LOCK), held);
            meeting.meet();
            let end = futexes.wait(&lock, held as u32, Some(TOO_LONG));
            let died = read(at.offset(LOCK)).is_some_and(|word| word as u32 & tailpin_futex::OWNER_DIED != 0);
            woken.store(u64::from(end.is_ok() && died), Ordering::Relaxed);
        }),
        _ => {}
    });
    ensure(locks_died.into_inner() == 1 && complete.into_inner() == 1, "the list was not followed")?;
    ensure(woken.into_inner() == 1, "the waiter did not learn that the owner died")?;
    ensure(futexes.is_idle(), "a waiter is left")
}

/// A thread that waits for a lock lends its priority to the owner on the other CPU, gets the lock
/// and takes the priority along; an owner that ends hands it on.
pub(super) fn priority_inheritance(world: &World) -> Check {
    const HIGH: Priority = Priority(7);
    let futexes = Futexes::with_buckets(OnePerCpu::new(), 64);
    let (space, at) = world.space_with(1 << 20)?;
    let lock = Futex::private(&space, at.get());
    let meeting = Meeting::of(2);
    let lent = AtomicU64::new(0);
    let failed = spin::Mutex::new(None);
    let wait_for_waiter = || {
        while futexes.pi_waiters(&lock) == Ok(0) {
            core::hint::spin_loop();
        }
    };
    let owner = |turns: u64| -> Check {
        for _ in 0..turns {
            ensure(futexes.lock_pi(&lock, Some(TOO_LONG))? == Acquired::Clean, "not clean")?;
            meeting.meet();
            wait_for_waiter();
            let priority = futexes.scheduler().effective_priority(0);
            lent.fetch_add(u64::from(priority == HIGH), Ordering::Relaxed);
            futexes.unlock_pi(&lock)?;
            let after = futexes.scheduler().effective_priority(0);
            ensure(after == Priority::NORMAL, format!("priority {after:?} kept"))?;
            meeting.meet();
        }
        // The last time it ends with the lock held.
        futexes.lock_pi(&lock, Some(TOO_LONG))?;
        meeting.meet();
        wait_for_waiter();
        futexes.exit_thread(&space, thread_of(0), None);
        Ok(())
    };
    let waiter = |turns: u64| -> Check {
        futexes.scheduler().set_priority(HIGH);
        for _ in 0..turns {
            meeting.meet();
            ensure(futexes.lock_pi(&lock, Some(TOO_LONG))? == Acquired::Clean, "not clean")?;
            futexes.unlock_pi(&lock)?;
            meeting.meet();
        }
        meeting.meet();
        let last = futexes.lock_pi(&lock, Some(TOO_LONG))?;
        ensure(last == Acquired::OwnerDied, "the owner's end went unnoticed")?;
        let word = word_of(&space, at)? as u32;
        ensure(word & TID_MASK == thread_of(1).0, "the lock is not the waiter's")?;
        Ok(futexes.unlock_pi(&lock)?)
    };
    let turns = world.times(40);
    everywhere(&|cpu| {
        let end = match cpu {
            0 => owner(turns),
            1 => waiter(turns),
            _ => Ok(()),
        };
        if let Err(why) = end {
            *failed.lock() = Some(why);
        }
    });
    if let Some(why) = failed.into_inner() {
        return Err(why);
    }
    let lent = lent.into_inner();
    note!("priority lent in {lent} of {turns} turns");
    ensure(lent == turns, "the owner ran without its waiter's priority")?;
    ensure(futexes.is_idle(), "a waiter is left")
}
