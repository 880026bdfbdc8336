//! Wait: block until woken, if the word is as expected.

use core::pin::pin;

use crate::error::Error;
use crate::futex::Futex;
use crate::futexes::Futexes;
use crate::memory::Memory;
use crate::safeguards::{Safeguard, Safeguards};
use crate::scheduler::{Scheduler, Timeout, deadline};
use crate::word::QueueWord;

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Futexes<S, W, G> {
    /// Blocks until woken, if the word is `expected`.
    ///
    /// ```
    /// use std::{thread, time::Duration};
    /// use tailpin_futex::{Error, Futex, Futexes, StdScheduler, Timeout, model::ModelMemory};
    /// let (futexes, memory) = (Futexes::new(StdScheduler::new(), 2), ModelMemory::anonymous(1));
    /// let futex = Futex::shared(&memory, 8);
    /// thread::scope(|scope| {
    ///     let waiter = scope.spawn(|| futexes.wait(&futex, 0, None));
    ///     while futexes.wake(&futex, 1) == Ok(0) {
    ///         thread::yield_now();
    ///     }
    ///     assert_eq!(waiter.join().unwrap(), Ok(()));
    /// });
    /// assert_eq!(futexes.wait(&futex, 1, None), Err(Error::WouldBlock { found: 0 }));
    /// let soon = Some(Timeout::After(Duration::from_millis(1)));
    /// assert_eq!(futexes.wait(&futex, 0, soon), Err(Error::TimedOut));
    /// ```
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if the word is another, [`Error::TimedOut`], [`Error::Interrupted`],
    /// and those of the key.
    pub fn wait<M: Memory>(
        &self,
        futex: &Futex<'_, M>,
        expected: u32,
        timeout: Option<Timeout>,
    ) -> Result<(), Error> {
        self.wait_bitset(futex, expected, !0, timeout)
    }

    /// Waits as [`wait`](Self::wait) does, until a wake that names one of the bits in `bitset`.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait), and [`Invalid::EmptyBitset`](crate::Invalid::EmptyBitset).
    pub fn wait_bitset<M: Memory>(
        &self,
        futex: &Futex<'_, M>,
        expected: u32,
        bitset: u32,
        timeout: Option<Timeout>,
    ) -> Result<(), Error> {
        let until = deadline(&self.scheduler, timeout);
        let waiter = pin!(self.waiter());
        waiter.as_ref().queue(futex, expected, bitset)?;
        match self.block(until, || waiter.is_woken()) {
            // The thread that woke it in the last moment has counted it.
            Err(_) if waiter.leave() => Ok(()),
            done => done,
        }
    }
}
