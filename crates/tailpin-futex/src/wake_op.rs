//! Wake-op: change one word, wake waiters of another, and of the first if it was as asked.

use crate::batch::Batch;
use crate::error::{Error, Invalid};
use crate::futex::Futex;
use crate::futexes::Futexes;
use crate::memory::{Access, Memory, NotPresent};
use crate::retry_limit::RetryLimit;
use crate::safeguards::{Safeguard, Safeguards};
use crate::scheduler::Scheduler;
use crate::wake::take;
use crate::word::QueueWord;

/// How the second word is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Modify {
    /// To this value.
    Set(u32),
    /// By adding this, wrapping.
    Add(u32),
    /// By setting these bits.
    Or(u32),
    /// By clearing these bits.
    AndNot(u32),
    /// By turning these bits over.
    Xor(u32),
}

impl Modify {
    const fn apply(self, word: u32) -> u32 {
        match self {
            Self::Set(value) => value,
            Self::Add(value) => word.wrapping_add(value),
            Self::Or(bits) => word | bits,
            Self::AndNot(bits) => word & !bits,
            Self::Xor(bits) => word ^ bits,
        }
    }
}

/// What the second word must have been, as a signed number, for its waiters to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    /// This.
    Equal(i32),
    /// Another.
    NotEqual(i32),
    /// Less.
    Less(i32),
    /// This or less.
    LessOrEqual(i32),
    /// More.
    Greater(i32),
    /// This or more.
    GreaterOrEqual(i32),
}

impl Compare {
    const fn holds(self, word: u32) -> bool {
        let word = word as i32;
        match self {
            Self::Equal(value) => word == value,
            Self::NotEqual(value) => word != value,
            Self::Less(value) => word < value,
            Self::LessOrEqual(value) => word <= value,
            Self::Greater(value) => word > value,
            Self::GreaterOrEqual(value) => word >= value,
        }
    }
}

/// Change and condition of a wake-op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WakeOp {
    /// The change.
    pub modify: Modify,
    /// The condition, on the word before the change.
    pub compare: Compare,
}

impl WakeOp {
    /// From Linux's encoding: 1 bit "argument is a shift", 3 bits change, 4 bits condition, 12 bits
    /// argument of each.
    ///
    /// # Errors
    /// [`Invalid::Operation`] if there is no such change or condition.
    pub const fn from_raw(raw: u32) -> Result<Self, Invalid> {
        /// 12 bits, signed.
        const fn signed(bits: u32) -> i32 {
            ((bits << 20) as i32) >> 20
        }
        let (argument, compared) = (signed(raw >> 12 & 0xfff), signed(raw & 0xfff));
        // A shift is by the argument modulo 32, as Linux does it since it stopped refusing the
        // rest.
        let argument = if raw >> 31 != 0 { 1 << (argument as u32 & 31) } else { argument as u32 };
        let modify = match raw >> 28 & 7 {
            0 => Modify::Set(argument),
            1 => Modify::Add(argument),
            2 => Modify::Or(argument),
            3 => Modify::AndNot(argument),
            4 => Modify::Xor(argument),
            _ => return Err(Invalid::Operation(raw)),
        };
        let compare = match raw >> 24 & 15 {
            0 => Compare::Equal(compared),
            1 => Compare::NotEqual(compared),
            2 => Compare::Less(compared),
            3 => Compare::LessOrEqual(compared),
            4 => Compare::Greater(compared),
            5 => Compare::GreaterOrEqual(compared),
            _ => return Err(Invalid::Operation(raw)),
        };
        Ok(Self { modify, compare })
    }
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Futexes<S, W, G> {
    /// Changes the word `b`, wakes up to `wake_a` waiters of `a` and, if `b` was as asked, up to
    /// `wake_b` of `b`. The change and the wakes are one step for every thread that waits for
    /// either.
    ///
    /// ```
    /// use tailpin_futex::{Compare, Futex, Futexes, Memory, Modify, StdScheduler, WakeOp, model::ModelMemory};
    /// let (futexes, memory) = (Futexes::new(StdScheduler::new(), 1), ModelMemory::anonymous(1));
    /// let (a, b) = (Futex::private(&memory, 0), Futex::private(&memory, 4));
    /// let op = WakeOp { modify: Modify::Add(3), compare: Compare::Equal(0) };
    /// assert_eq!(futexes.wake_op(&a, &b, 1, 1, op)?, 0); // nobody waits
    /// assert_eq!(memory.load(b.at), Ok(3));
    /// # Ok::<(), tailpin_futex::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the keys, and [`Invalid::Mismatched`] if a thread waits there to be requeued to a
    /// lock, or for a lock with priority inheritance: the word has been changed then.
    pub fn wake_op<M: Memory, N: Memory>(
        &self,
        a: &Futex<'_, M>,
        b: &Futex<'_, N>,
        wake_a: u32,
        wake_b: u32,
        op: WakeOp,
    ) -> Result<u32, Error> {
        let mut limit = RetryLimit::of_waker();
        loop {
            let first = self.key_within(a, Access::Read, &mut limit)?;
            let second = self.key_within(b, Access::Write, &mut limit)?;
            let (here, there) = (self.bucket(&first), self.bucket(&second));
            let mut batch = Batch::new(&self.scheduler);
            let mut pair = self.lock_pair(here, there);
            let Ok(before) = update(b, |word| op.modify.apply(word)) else {
                drop(pair);
                self.present(b, Access::Write, &mut limit)?;
                continue;
            };
            let woken = take(pair.queues().0, &first, wake_a, !0, &mut batch);
            let of_a = batch.total();
            here.remove_waiters(u64::from(of_a));
            let woken = woken?;
            let holds = op.compare.holds(before);
            let more = if holds { take(pair.target(), &second, wake_b, !0, &mut batch) } else { Ok(0) };
            there.remove_waiters(u64::from(batch.total().saturating_sub(of_a)));
            let more = more?;
            drop(pair);
            if wake_a > 0 && woken == 0 {
                self.refuse_pi_waiters(&first)?;
            }
            if holds && wake_b > 0 && more == 0 {
                self.refuse_pi_waiters(&second)?;
            }
            return Ok(woken.saturating_add(more));
        }
    }
}

/// Changes a word in one step; returns what it was.
fn update<M: Memory>(futex: &Futex<'_, M>, change: impl Fn(u32) -> u32) -> Result<u32, NotPresent> {
    let mut seen = futex.memory.load(futex.at)?;
    loop {
        // Another attempt means that another thread has changed the word.
        match futex.memory.compare_exchange(futex.at, seen, change(seen))? {
            Ok(before) => return Ok(before),
            Err(found) => seen = found,
        }
    }
}
