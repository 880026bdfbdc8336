//! Locks with priority inheritance (`rt_mutex`): the owner has the highest priority of all that
//! wait for it.
//!
//! The word holds the owner's number, [`WAITERS`] and [`OWNER_DIED`]. Uncontended locks are taken
//! and given back by a compare-and-swap of the word without any of this: 0 to the own number and
//! back.

#![allow(unsafe_code)]

use core::mem;
use core::pin::{Pin, pin};

use tailpin::Finally;

use crate::batch::Batch;
use crate::error::{Error, Invalid};
use crate::futex::Futex;
use crate::futexes::Futexes;
use crate::list::DequeueReason;
use crate::memory::{Access, Memory};
use crate::pi_table::PiNodes;
use crate::retry_limit::RetryLimit;
use crate::safeguards::{Safeguard, Safeguards};
use crate::scheduler::{Deadline, Scheduler, Tid, Timeout, deadline};
use crate::word::QueueWord;

/// Set in a lock's word while threads wait: the owner must unlock through [`Futexes::unlock_pi`].
pub const WAITERS: u32 = 1 << 31;
/// Set in a lock's word when its owner ended without unlocking.
pub const OWNER_DIED: u32 = 1 << 30;
/// The owner's number in a lock's word; 0 if it is free.
pub const TID_MASK: u32 = OWNER_DIED - 1;
const _: () = assert!(TID_MASK == Tid::MAX);

/// How a lock with inheritance was found by the thread that took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acquired {
    /// As its owner before left it.
    Clean,
    /// Its owner before ended without unlocking: what it protects may be half done. The word still
    /// says so.
    OwnerDied,
}

impl Acquired {
    fn of(word: u32) -> Self {
        if word & OWNER_DIED != 0 { Self::OwnerDied } else { Self::Clean }
    }
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Futexes<S, W, G> {
    /// Takes a lock, waiting for it if need be. While the caller waits, the owner is boosted, and
    /// so is the thread that the owner waits for.
    ///
    /// ```
    /// use tailpin_futex::{Acquired, Error, Futex, Futexes, StdScheduler, model::ModelMemory};
    /// let (futexes, memory) = (Futexes::new(StdScheduler::new(), 1), ModelMemory::anonymous(1));
    /// let lock = Futex::private(&memory, 0);
    /// assert_eq!(futexes.lock_pi(&lock, None), Ok(Acquired::Clean));
    /// assert!(matches!(futexes.lock_pi(&lock, None), Err(Error::Deadlock { .. })));
    /// assert_eq!(futexes.unlock_pi(&lock), Ok(()));
    /// ```
    ///
    /// # Errors
    /// [`Error::Deadlock`], [`Error::NoSuchOwner`] if the word names a thread that does not exist,
    /// [`Error::TimedOut`], [`Error::Interrupted`], [`Invalid::Mismatched`] if a thread waits at
    /// the word otherwise than for a lock with inheritance, [`Invalid::Thread`], and those of the
    /// key.
    pub fn lock_pi<M: Memory>(
        &self,
        futex: &Futex<'_, M>,
        timeout: Option<Timeout>,
    ) -> Result<Acquired, Error> {
        self.acquire(futex, deadline(&self.scheduler, timeout), true)
    }

    /// Takes a lock if it is free.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if it is not, [`Error::Deadlock`] if it is the caller's,
    /// [`Invalid::Mismatched`] and [`Invalid::Thread`] as for [`lock_pi`](Self::lock_pi), and those
    /// of the key.
    pub fn trylock_pi<M: Memory>(&self, futex: &Futex<'_, M>) -> Result<Acquired, Error> {
        self.acquire(futex, None, false)
    }

    /// How many threads wait for a lock with inheritance now.
    ///
    /// # Errors
    /// Those of the key.
    pub fn pi_waiters<M: Memory>(&self, futex: &Futex<'_, M>) -> Result<usize, Error> {
        let key = self.key(futex, Access::Write)?;
        Ok(self.lock_pi_table().waiters(&key))
    }

    /// The number of the thread that calls, which the word of a lock has room for.
    pub(crate) fn lock_owner(&self) -> Result<Tid, Error> {
        let me = self.scheduler.tid();
        if me.0 == 0 || me.0 > TID_MASK { Err(Invalid::Thread(me).into()) } else { Ok(me) }
    }

    pub(crate) fn acquire<M: Memory>(
        &self,
        futex: &Futex<'_, M>,
        until: Option<Deadline>,
        waits: bool,
    ) -> Result<Acquired, Error> {
        let me = self.lock_owner()?;
        // The thread that was the owner when it ended: threads that waited for it take over.
        let mut dead_owner = None;
        let mut limit = if waits { RetryLimit::of_waiter(&self.scheduler) } else { RetryLimit::of_waker() };
        // Each turn but the first means that the word or its mapping was changed by another thread,
        // or that the owner died.
        loop {
            let key = self.key_within(futex, Access::Write, &mut limit)?;
            self.refuse_plain_waiters(&key)?;
            let waiter = pin!(PiWaiter { futexes: self, nodes: PiNodes::new() });
            let mut table = self.lock_pi_table();
            let Ok(word) = futex.memory.load(futex.at) else {
                drop(table);
                self.present(futex, Access::Write, &mut limit)?;
                continue;
            };
            let owner = Tid(word & TID_MASK);
            let takes_over = dead_owner == Some(owner);
            let new = if owner.0 == 0 || takes_over {
                let died = if takes_over { OWNER_DIED } else { word & OWNER_DIED };
                me.0 | died | if table.waiters(&key) > 0 { WAITERS } else { 0 }
            } else if owner == me {
                return Err(Error::Deadlock { chain: 1 });
            } else if !waits {
                return Err(Error::WouldBlock { found: word });
            } else if self.scheduler.priority(owner).is_none() {
                return Err(Error::NoSuchOwner { owner });
            } else {
                table.may_wait(me, owner)?;
                word | WAITERS
            };
            match futex.memory.compare_exchange(futex.at, word, new) {
                Err(_) => {
                    drop(table);
                    self.present(futex, Access::Write, &mut limit)?;
                    continue;
                }
                Ok(Err(_)) => continue,
                Ok(Ok(_)) => {}
            }
            if Tid(new & TID_MASK) == me {
                table.set_owner(&key, me);
                table.adjust(&self.scheduler, me);
                return Ok(Acquired::of(new));
            }
            // From here on the owner can't unlock without asking, and then finds us.
            let _counted = self.bucket(&key).count_pi_waiter();
            let priority = table.effective_priority(me, self.scheduler.current_priority());
            let (nodes, thread) = (waiter.as_ref().nodes(), self.scheduler.current());
            // SAFETY: the waiter is pinned and `drop` takes the nodes out, so they stay until they
            // are in no queue.
            unsafe { table.enter(nodes, (thread, me), (key, owner), priority) };
            table.adjust(&self.scheduler, owner);
            drop(table);
            let blocked = self.block(until, || waiter.nodes.reason().is_some());
            waiter.leave();
            match waiter.nodes.reason() {
                Some(DequeueReason::Woken) => return Ok(Acquired::Clean),
                Some(DequeueReason::OwnerDied) => dead_owner = Some(owner),
                _ => return blocked.map(|()| Acquired::Clean),
            }
        }
    }

    /// Gives a lock back: to its top waiter: of the highest priority, and of these the longest
    /// waiting.
    ///
    /// # Errors
    /// [`Error::NotOwner`], and those of the key.
    pub fn unlock_pi<M: Memory>(&self, futex: &Futex<'_, M>) -> Result<(), Error> {
        let me = self.scheduler.tid();
        let mut limit = RetryLimit::of_waker();
        // Each turn but the first means that the word or its mapping was changed by another thread.
        loop {
            let key = self.key_within(futex, Access::Write, &mut limit)?;
            let mut batch = Batch::new(&self.scheduler);
            let mut table = self.lock_pi_table();
            let swapped = futex.memory.load(futex.at).and_then(|word| {
                let owner = Tid(word & TID_MASK);
                if owner != me || me.0 == 0 {
                    return Ok(Err(Error::NotOwner { owner }));
                }
                let top_waiter = table.top_waiter(&key);
                let more = if table.waiters(&key) > 1 { WAITERS } else { 0 };
                let new = top_waiter.map_or(0, |top_waiter| top_waiter.0 | more);
                Ok(Ok((futex.memory.compare_exchange(futex.at, word, new)?.is_ok(), top_waiter)))
            });
            match swapped {
                Err(_) => {
                    drop(table);
                    self.present(futex, Access::Write, &mut limit)?;
                }
                Ok(Err(error)) => return Err(error),
                Ok(Ok((false, _))) => {}
                Ok(Ok((true, top_waiter))) => {
                    table.hand_over(&key, batch.receiver());
                    table.adjust(&self.scheduler, me);
                    if let Some(top_waiter) = top_waiter {
                        table.adjust(&self.scheduler, top_waiter);
                    }
                    return Ok(());
                }
            }
        }
    }
}

/// A thread that may be waiting for a lock; leaves the queue when it is dropped.
struct PiWaiter<'f, S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> {
    futexes: &'f Futexes<S, W, G>,
    nodes: PiNodes<W, S::Thread>,
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> PiWaiter<'_, S, W, G> {
    fn nodes(self: Pin<&Self>) -> Pin<&PiNodes<W, S::Thread>> {
        // SAFETY: the nodes are pinned with the waiter: nothing moves out of it.
        unsafe { self.map_unchecked(|waiter| &waiter.nodes) }
    }

    fn leave(&self) {
        if self.nodes.is_entered() {
            let mut table = self.futexes.lock_pi_table();
            if let Some(owner) = table.leave(&self.nodes) {
                table.adjust(&self.futexes.scheduler, owner);
            }
        }
    }
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Drop for PiWaiter<'_, S, W, G> {
    fn drop(&mut self) {
        let if_it_panics = Finally(|| self.nodes.assert_in_no_queue());
        self.leave();
        mem::forget(if_it_panics);
    }
}
