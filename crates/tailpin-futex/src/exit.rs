//! A thread ends: what it held is given away. This always ends.

use crate::batch::Batch;
use crate::futexes::Futexes;
use crate::memory::{Address, Memory};
use crate::robust::RobustEnd;
use crate::safeguards::{Safeguard, Safeguards};
use crate::scheduler::{Scheduler, Tid};
use crate::word::QueueWord;

/// What a thread left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExitReport {
    /// Locks of its robust list that it still held.
    pub locks_died: u32,
    /// Threads that were woken.
    pub woken: u32,
    /// How its robust list ended.
    pub robust: RobustEnd,
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Futexes<S, W, G> {
    /// Cleans up after thread `tid`, which runs no more code of its own: marks the locks of its
    /// robust list, whose head is at `robust` in `memory`, as [`OWNER_DIED`](crate::OWNER_DIED) and
    /// wakes a waiter of each; sends the threads that wait for a lock with priority inheritance of
    /// this one to take it over.
    ///
    /// ```
    /// use tailpin_futex::{Acquired, Address, Futex, Futexes, OWNER_DIED, RobustEnd, StdScheduler, Tid};
    /// use tailpin_futex::model::ModelMemory;
    /// let (futexes, memory) = (Futexes::new(StdScheduler::new(), 1), ModelMemory::anonymous(1));
    /// // The head at 0: an entry at 32, whose lock is 8 further on; nothing pending. The entry leads back to the head.
    /// memory.store(0, 32);
    /// memory.store(8, 8);
    /// memory.store(40, 7); // thread 7 has it
    /// let report = futexes.exit_thread(&memory, Tid(7), Some(Address::new(0)));
    /// assert_eq!((report.locks_died, report.robust), (1, RobustEnd::Complete));
    /// assert_eq!(futexes.trylock_pi(&Futex::private(&memory, 40)), Ok(Acquired::OwnerDied));
    /// ```
    ///
    /// The scheduler still knows the thread when this is called, and is told that it has
    /// [`ended`](Scheduler::ended). Not interruptible, and it need not be: a bound stands on
    /// everything that the dead thread's memory, or other threads that change it during the call,
    /// could draw out.
    pub fn exit_thread<M: Memory>(&self, memory: &M, tid: Tid, robust: Option<Address>) -> ExitReport {
        self.end_thread(memory, tid, robust, true)
    }

    /// Cleans up as [`exit_thread`](Self::exit_thread) does after a thread that replaces its
    /// program and lives on under its number: what it held in `memory`, which it leaves, is given
    /// away.
    pub fn exec_thread<M: Memory>(&self, memory: &M, tid: Tid, robust: Option<Address>) -> ExitReport {
        self.end_thread(memory, tid, robust, false)
    }

    fn end_thread<M: Memory>(&self, memory: &M, tid: Tid, robust: Option<Address>, ends: bool) -> ExitReport {
        let result = self.clean_robust(memory, tid, robust);
        let mut batch = Batch::new(&self.scheduler);
        let mut table = self.lock_pi_table();
        table.owner_died(tid, batch.receiver());
        table.adjust(&self.scheduler, tid);
        if ends && G::keeps(Safeguard::H33) {
            // With the table locked: `acquire` asks for the owner and enters its list under the
            // same lock, so no thread enters it after `owner_died` has emptied it.
            self.scheduler.ended(tid);
        }
        drop(table);
        if ends && !G::keeps(Safeguard::H33) {
            self.scheduler.ended(tid);
        }
        let woken = batch.total();
        ExitReport { locks_died: result.died, woken: result.woken.saturating_add(woken), robust: result.end }
    }
}
