//! Waiting for several words at once.

#![allow(unsafe_code)]

use core::array;
use core::pin::{Pin, pin};

use crate::error::{Error, Invalid};
use crate::futex::Futex;
use crate::futexes::Futexes;
use crate::memory::{Access, Memory};
use crate::retry_limit::RetryLimit;
use crate::safeguards::{Safeguard, Safeguards};
use crate::scheduler::{Deadline, Scheduler, Timeout, deadline};
use crate::waiter::Waiter;
use crate::word::QueueWord;

/// Most words that can be waited for at once.
pub const MAX_WAITV: usize = 128;

/// Up to so many, the waiters take less than 1 KiB of stack; for more, 128 of them are put there.
const FEW: usize = 8;

/// A word and what it is expected to be.
#[derive(Debug)]
pub struct Expect<'m, M> {
    /// The word.
    pub futex: Futex<'m, M>,
    /// What it is expected to be.
    pub value: u32,
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Futexes<S, W, G> {
    /// Blocks until woken from one of 1 to 128 words, if each is as expected. Returns the index of
    /// the first that was woken.
    ///
    /// The words are looked at one after the other. While they are, those before are already waited
    /// for: if one is not as expected, but one before it has been woken by then, that counts.
    ///
    /// ```
    /// use std::thread;
    /// use tailpin_futex::{Error, Expect, Futex, Futexes, StdScheduler, model::ModelMemory};
    /// let (futexes, memory) = (Futexes::new(StdScheduler::new(), 2), ModelMemory::anonymous(1));
    /// let words = [0, 4, 8].map(|at| Expect { futex: Futex::private(&memory, at), value: 0 });
    /// thread::scope(|scope| {
    ///     let waiter = scope.spawn(|| futexes.wait_multiple(&words, None));
    ///     while futexes.wake(&words[1].futex, 1) == Ok(0) {
    ///         thread::yield_now();
    ///     }
    ///     assert_eq!(waiter.join().unwrap(), Ok(1));
    /// });
    /// memory.store(8, 5);
    /// assert_eq!(futexes.wait_multiple(&words, None), Err(Error::WouldBlock { found: 5 }));
    /// ```
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if a word is another, [`Invalid::Entries`], [`Error::TimedOut`],
    /// [`Error::Interrupted`], and those of the keys: then nothing was waited for.
    pub fn wait_multiple<M: Memory>(
        &self,
        words: &[Expect<'_, M>],
        timeout: Option<Timeout>,
    ) -> Result<usize, Error> {
        let until = deadline(&self.scheduler, timeout);
        match words.len() {
            entries if entries == 0 || entries > MAX_WAITV => Err(Invalid::Entries(entries).into()),
            1..=FEW => self.wait_for_all::<M, FEW>(words, until),
            _ => self.wait_for_all::<M, MAX_WAITV>(words, until),
        }
    }

    #[inline(never)]
    fn wait_for_all<M: Memory, const N: usize>(
        &self,
        words: &[Expect<'_, M>],
        until: Option<Deadline>,
    ) -> Result<usize, Error> {
        let mut limit = RetryLimit::of_waiter(&self.scheduler);
        for word in words {
            // A bad address is an error whatever happens to the others.
            self.key_within(&word.futex, Access::Read, &mut limit)?;
        }
        let waiters = pin!(WaiterArray::<S, W, G, N>(array::from_fn(|_| self.waiter())));
        let waiters = waiters.as_ref();
        let woken = || (0..words.len()).any(|index| waiters.get(index).is_woken());
        let all_queued = || {
            words
                .iter()
                .enumerate()
                .try_for_each(|(index, word)| waiters.get(index).queue(&word.futex, word.value, !0))
        };
        let ended = all_queued().and_then(|()| self.block(until, woken));
        // All leave, woken or not: a wake that counted one of them has to be told to the caller.
        let mut first = None;
        for index in 0..words.len() {
            if waiters.get(index).leave() {
                first.get_or_insert(index);
            }
        }
        first.ok_or(ended.err().unwrap_or(Error::Interrupted))
    }
}

struct WaiterArray<'f, S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>, const N: usize>(
    [Waiter<'f, S, W, G>; N],
);

impl<'f, S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>, const N: usize> WaiterArray<'f, S, W, G, N> {
    fn get(self: Pin<&Self>, index: usize) -> Pin<&Waiter<'f, S, W, G>> {
        // SAFETY: the waiters are pinned with the array: none is ever moved out of it.
        unsafe { self.map_unchecked(|waiters| &waiters.0[index]) }
    }
}

#[cfg(feature = "std")]
const _: () = assert!(FEW * size_of::<Waiter<'_, crate::StdScheduler>>() < 1024);
