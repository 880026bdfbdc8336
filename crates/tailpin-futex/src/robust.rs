//! Robust lists: the locks a thread holds, threaded through the locks themselves in its own memory,
//! for the kernel that cleans up after it.
//!
//! The layout is Linux's. The head has three 64-bit words: address of the first entry; offset from
//! an entry to the word of its lock; address of an entry that was being locked or unlocked. An
//! entry begins with the address of the next, and the last names the head. Bit 0 of an address says
//! that the lock it leads to inherits priority.
//!
//! The list is in memory that the dead thread, or any thread that shares it, could write as it
//! liked: it is followed for at most [`ROBUST_LIMIT`] entries, nothing in it is believed, and an
//! address that leads nowhere ends it.

use crate::futex::{Futex, Scope};
use crate::futexes::Futexes;
use crate::memory::{Access, Address, Memory, NotPresent};
use crate::pi::{OWNER_DIED, TID_MASK, WAITERS};
use crate::retry_limit::RetryLimit;
use crate::safeguards::{Safeguard, Safeguards};
use crate::scheduler::{Scheduler, Tid};
use crate::word::QueueWord;

/// Entries that are followed, as in Linux.
pub const ROBUST_LIMIT: u32 = 2048;

/// Attempts at one word or page that other threads go on changing. Then it is left as it is: an
/// exit ends.
const ATTEMPTS: u32 = 1024;

/// How a robust list ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RobustEnd {
    /// There was none.
    Absent,
    /// At its head, as it should.
    Complete,
    /// It went on, or in circles, for longer than [`ROBUST_LIMIT`].
    Limit,
    /// At an address that leads nowhere.
    Damaged {
        /// The address.
        at: Address,
    },
}

/// What was done about a robust list.
pub(crate) struct RobustResult {
    pub(crate) died: u32,
    pub(crate) woken: u32,
    pub(crate) end: RobustEnd,
}

/// An entry's address and whether its lock inherits priority.
type RobustEntry = (Address, bool);

struct Walk<'w, S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>, M> {
    futexes: &'w Futexes<S, W, G>,
    memory: &'w M,
    tid: Tid,
    offset: u64,
    result: RobustResult,
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Futexes<S, W, G> {
    pub(crate) fn clean_robust<M: Memory>(
        &self,
        memory: &M,
        tid: Tid,
        head: Option<Address>,
    ) -> RobustResult {
        let result = RobustResult { died: 0, woken: 0, end: RobustEnd::Absent };
        let Some(head) = head else { return result };
        let mut walk = Walk { futexes: self, memory, tid, offset: 0, result };
        walk.result.end = walk.list(head).unwrap_or_else(|at| RobustEnd::Damaged { at });
        walk.result
    }
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>, M: Memory> Walk<'_, S, W, G, M> {
    /// The address that leads nowhere is the error.
    fn list(&mut self, head: Address) -> Result<RobustEnd, Address> {
        let first = self.entry(head)?;
        self.offset = self.read(Address::new(head.get().wrapping_add(8)))?;
        let pending = self.entry(Address::new(head.get().wrapping_add(16)))?;
        let end = self.entries(head, first, pending.0);
        if pending.0.get() != 0 {
            self.mark_owner_died(pending, true)?;
        }
        end
    }

    fn entries(&mut self, head: Address, first: RobustEntry, pending: Address) -> Result<RobustEnd, Address> {
        let mut entry = first;
        for _ in 0..ROBUST_LIMIT {
            if entry.0 == head {
                return Ok(RobustEnd::Complete);
            }
            // Before the lock is given away: its next owner may link the entry elsewhere.
            let next = self.entry(entry.0);
            let marked = if entry.0 == pending { Ok(()) } else { self.mark_owner_died(entry, false) };
            entry = next?;
            marked?;
        }
        Ok(if entry.0 == head { RobustEnd::Complete } else { RobustEnd::Limit })
    }

    /// Marks a lock of the dead thread and wakes one thread that waits for it.
    fn mark_owner_died(&mut self, (entry, inherits): RobustEntry, pending: bool) -> Result<(), Address> {
        let at = Address::new(entry.get().wrapping_add(self.offset));
        if !at.is_aligned() {
            return Err(at);
        }
        for _ in 0..ATTEMPTS {
            let Ok(word) = self.memory.load(at) else {
                self.memory.fault(at, Access::Write).map_err(|_| at)?;
                continue;
            };
            let owner = Tid(word & TID_MASK);
            // The thread ended between unlocking and waking, or was itself woken and ended before
            // it took the lock: the wake it owes, or was given, goes to the next waiter. The word
            // is right as it is: 0 of a sound unlock, `OWNER_DIED` of an earlier death that the
            // next owner has to hear of.
            if pending && !inherits && owner.0 == 0 {
                if G::keeps(Safeguard::H32) {
                    self.wake(at);
                }
                return Ok(());
            }
            if owner.0 == 0 || owner != self.tid {
                return Ok(());
            }
            match self.memory.compare_exchange(at, word, word & WAITERS | OWNER_DIED) {
                Err(NotPresent) => self.memory.fault(at, Access::Write).map_err(|_| at)?,
                Ok(Err(_)) => {}
                Ok(Ok(_)) => {
                    self.result.died = self.result.died.saturating_add(1);
                    // Threads that wait for a lock that inherits priority are told when its owner
                    // is gone (`exit`).
                    if !inherits && word & WAITERS != 0 {
                        self.wake(at);
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Wakes one waiter, whether it called the word private or shared.
    fn wake(&mut self, at: Address) {
        for scope in [Scope::Shared, Scope::Private] {
            let futex = Futex { memory: self.memory, at, scope };
            let limit = &mut RetryLimit::limited(ATTEMPTS);
            if let Ok(key) = self.futexes.key_within(&futex, Access::Read, limit) {
                let woken = self.futexes.wake_key(key, 1, !0).unwrap_or(0);
                self.result.woken = self.result.woken.saturating_add(woken);
            }
        }
    }

    fn entry(&self, at: Address) -> Result<RobustEntry, Address> {
        self.read(at).map(|value| (Address::new(value & !1), value & 1 != 0))
    }

    /// A 64-bit word that the dead thread no longer writes.
    fn read(&self, at: Address) -> Result<u64, Address> {
        let high = Address::new(at.get().wrapping_add(4));
        Ok(u64::from(self.read_half(at)?) | u64::from(self.read_half(high)?) << 32)
    }

    fn read_half(&self, at: Address) -> Result<u32, Address> {
        if !at.is_aligned() {
            return Err(at);
        }
        for _ in 0..ATTEMPTS {
            match self.memory.load(at) {
                Ok(word) => return Ok(word),
                Err(NotPresent) => self.memory.fault(at, Access::Read).map_err(|_| at)?,
            }
        }
        Err(at)
    }
}
