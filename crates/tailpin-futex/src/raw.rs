//! The operations by number, as a system call gets them.

use core::array;
use core::time::Duration;

use crate::error::{Error, Invalid};
use crate::futex::{Futex, Scope};
use crate::futexes::Futexes;
use crate::memory::{Address, Memory};
use crate::safeguards::{Safeguard, Safeguards};
use crate::scheduler::{Clock, Scheduler, Timeout};
use crate::waitv::{Expect, MAX_WAITV};
use crate::wake_op::WakeOp;
use crate::word::QueueWord;

/// Seconds and nanoseconds.
pub(crate) type Time = (i64, i64);

/// The operations, by their numbers in Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[expect(missing_docs, reason = "each is named as the method it calls")]
pub enum Operation {
    Wait = 0,
    Wake = 1,
    Requeue = 3,
    CmpRequeue = 4,
    WakeOp = 5,
    LockPi = 6,
    UnlockPi = 7,
    TrylockPi = 8,
    WaitBitset = 9,
    WakeBitset = 10,
    WaitRequeuePi = 11,
    CmpRequeuePi = 12,
    LockPi2 = 13,
}

impl Operation {
    const ALL: [Self; 13] = [
        Self::Wait,
        Self::Wake,
        Self::Requeue,
        Self::CmpRequeue,
        Self::WakeOp,
        Self::LockPi,
        Self::UnlockPi,
        Self::TrylockPi,
        Self::WaitBitset,
        Self::WakeBitset,
        Self::WaitRequeuePi,
        Self::CmpRequeuePi,
        Self::LockPi2,
    ];
    /// Added to an operation's number: the word is private.
    pub const PRIVATE: u32 = 128;
    /// Added to the number of an operation that can choose its clock
    /// ([`WaitBitset`](Self::WaitBitset), [`WaitRequeuePi`](Self::WaitRequeuePi),
    /// [`LockPi2`](Self::LockPi2)): its timeout is on the time of day.
    pub const REALTIME: u32 = 256;

    fn has_clock(self) -> bool {
        matches!(self, Self::WaitBitset | Self::WaitRequeuePi | Self::LockPi2)
    }
}

/// The arguments of one call. Which are looked at depends on the operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Number of the [`Operation`] and its options.
    pub operation: u32,
    /// Address of the word.
    pub at: u64,
    /// Expected value, or number of waiters to wake.
    pub value: u32,
    /// Seconds and nanoseconds.
    pub timeout: Option<(i64, i64)>,
    /// Number of waiters to requeue, or to wake at the second word.
    pub value2: u32,
    /// Address of the second word.
    pub at2: u64,
    /// Bitset, expected value of a requeue, or encoded [`WakeOp`].
    pub value3: u32,
}

/// A word to wait for, as Linux's `struct futex_waitv` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RawEntry {
    /// Expected value; the upper half is zero.
    pub value: u64,
    /// Address of the word.
    pub at: u64,
    /// 2 for a word of 32 bits, plus 128 if it is private.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

impl RawEntry {
    /// A word of 32 bits.
    pub const U32: u32 = 2;
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Futexes<S, W, G> {
    /// Does what a `futex` system call says.
    ///
    /// # Errors
    /// Those of the operation, and [`Error::Invalid`].
    ///
    /// Two numbers of waiters are taken as they are meant, where Linux' older calls take them for
    /// 1: a negative one is refused everywhere (Linux refuses it for a requeue), and 0 wakes no
    /// waiter (as in Linux' `futex_wake`).
    pub fn call<M: Memory>(&self, memory: &M, call: &Call) -> Result<u32, Error> {
        let Call { operation: raw, at, value, timeout, value2, at2, value3 } = *call;
        let (private, realtime) = (raw & Operation::PRIVATE != 0, raw & Operation::REALTIME != 0);
        let number = raw & !(Operation::PRIVATE | Operation::REALTIME);
        let operation = Operation::ALL.into_iter().find(|&operation| operation as u32 == number);
        let operation = operation.ok_or(Invalid::Operation(raw))?;
        if realtime && !operation.has_clock() {
            return Err(Invalid::Operation(raw).into());
        }
        let scope = if private { Scope::Private } else { Scope::Shared };
        let clock = if realtime { Clock::Realtime } else { Clock::Monotonic };
        let (a, b) = (word(memory, at, scope), word(memory, at2, scope));
        let until = |clock| -> Result<_, Invalid> {
            timeout.map(|time| Ok(Timeout::At(clock, duration(time)?))).transpose()
        };
        match operation {
            Operation::Wait => {
                let time = timeout.map(duration).transpose()?;
                self.wait(&a, value, time.map(Timeout::After)).map(|()| 0)
            }
            Operation::WaitBitset => self.wait_bitset(&a, value, value3, until(clock)?).map(|()| 0),
            Operation::Wake => self.wake(&a, count(value)?),
            Operation::WakeBitset => self.wake_bitset(&a, count(value)?, value3),
            Operation::Requeue => self.requeue(&a, &b, count(value)?, count(value2)?).map(|done| done.woken),
            Operation::CmpRequeue => self
                .cmp_requeue(&a, &b, count(value)?, count(value2)?, value3)
                .map(|done| done.woken.saturating_add(done.requeued)),
            Operation::WakeOp => {
                self.wake_op(&a, &b, count(value)?, count(value2)?, WakeOp::from_raw(value3)?)
            }
            Operation::LockPi => self.lock_pi(&a, until(Clock::Realtime)?).map(|_| 0),
            Operation::LockPi2 => self.lock_pi(&a, until(clock)?).map(|_| 0),
            Operation::TrylockPi => self.trylock_pi(&a).map(|_| 0),
            Operation::UnlockPi => self.unlock_pi(&a).map(|()| 0),
            Operation::WaitRequeuePi => self.wait_requeue_pi(&a, value, !0, &b, until(clock)?).map(|_| 0),
            Operation::CmpRequeuePi if value != 1 => Err(Invalid::Count(value as i32).into()),
            Operation::CmpRequeuePi => self.cmp_requeue_pi(&a, &b, count(value2)?, value3),
        }
    }

    /// Does what a `futex_waitv` system call says: `clock` is 0 for the time of day and 1 for the
    /// monotonic clock.
    ///
    /// # Errors
    /// Those of [`wait_multiple`](Self::wait_multiple), and [`Error::Invalid`].
    pub fn call_waitv<M: Memory>(
        &self,
        memory: &M,
        entries: &[RawEntry],
        flags: u32,
        timeout: Option<(i64, i64)>,
        clock: i32,
    ) -> Result<usize, Error> {
        if flags != 0 {
            return Err(Invalid::Flags(flags).into());
        }
        if !(1..=MAX_WAITV).contains(&entries.len()) {
            return Err(Invalid::Entries(entries.len()).into());
        }
        let timeout = timeout
            .map(|time| match clock {
                0 => Ok(Timeout::At(Clock::Realtime, duration(time)?)),
                1 => Ok(Timeout::At(Clock::Monotonic, duration(time)?)),
                clock => Err(Invalid::Clock(clock)),
            })
            .transpose()?;
        for entry in entries {
            if entry.flags & !Operation::PRIVATE != RawEntry::U32 {
                return Err(Invalid::Flags(entry.flags).into());
            }
            if entry.reserved != 0 || entry.value > u64::from(u32::MAX) {
                return Err(Invalid::Reserved.into());
            }
        }
        let words: [_; MAX_WAITV] = array::from_fn(|index| {
            let entry = entries[index.checked_rem(entries.len()).unwrap_or(0)];
            let private = entry.flags & Operation::PRIVATE != 0;
            let scope = if private { Scope::Private } else { Scope::Shared };
            Expect { futex: word(memory, entry.at, scope), value: entry.value as u32 }
        });
        self.wait_multiple(&words[..entries.len()], timeout)
    }
}

fn word<M>(memory: &M, at: u64, scope: Scope) -> Futex<'_, M> {
    Futex { memory, at: Address::new(at), scope }
}

fn count(value: u32) -> Result<u32, Invalid> {
    i32::try_from(value).map_err(|_| Invalid::Count(value as i32))?;
    Ok(value)
}

fn duration((seconds, nanoseconds): Time) -> Result<Duration, Invalid> {
    let seconds = u64::try_from(seconds).map_err(|_| Invalid::Time)?;
    match u32::try_from(nanoseconds) {
        Ok(nanoseconds @ 0..=999_999_999) => Ok(Duration::new(seconds, nanoseconds)),
        _ => Err(Invalid::Time),
    }
}
