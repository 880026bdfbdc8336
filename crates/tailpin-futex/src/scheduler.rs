//! What futexes ask of a scheduler of threads.

use core::fmt;
use core::time::Duration;

/// Number of a thread as it stands in a lock word: 1 to 2^30 - 1. Not used again while the thread's
/// locks exist.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Tid(pub u32);

impl Tid {
    /// The highest number that the word of a lock has room for.
    pub(crate) const MAX: u32 = (1 << 30) - 1;
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tid({})", self.0)
    }
}

/// A thread's priority; a higher number goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Priority(pub u32);

impl Priority {
    /// Of threads that were given no other.
    pub const NORMAL: Self = Self(0);
}

/// What time is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// Only ever goes forward, at an even pace.
    Monotonic,
    /// The time of day, which may be set.
    Realtime,
}

/// When to stop waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timeout {
    /// So long from now, on the monotonic clock.
    After(Duration),
    /// When the clock shows this.
    At(Clock, Duration),
}

/// A timeout that no longer depends on when it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deadline {
    /// The clock.
    pub clock: Clock,
    /// Time since its zero.
    pub time: Duration,
}

/// Threads, as far as futexes need them: blocking, time, signals, priorities.
///
/// No method may call back into the futexes: some are called with a lock of theirs held.
pub trait Scheduler: Sync {
    /// Names a thread that may be waiting. Cloned and dropped under a spin lock: should be cheap.
    type Thread: Clone + Send + Sync;

    /// The thread that calls.
    fn current(&self) -> Self::Thread;

    /// The calling thread's number.
    fn tid(&self) -> Tid;

    /// Blocks the thread that calls until another thread calls [`unpark`](Self::unpark) for it,
    /// `until` has come or it is interrupted. Returns at once if that has happened since it last
    /// returned. May return early for no reason. What was done before the [`unpark`](Self::unpark)
    /// that ends it is seen after it.
    fn park(&self, until: Option<Deadline>);

    /// Ends the current or next [`park`](Self::park) of a thread.
    fn unpark(&self, thread: &Self::Thread);

    /// Time since the clock's zero.
    fn now(&self, clock: Clock) -> Duration;

    /// Whether the thread that calls is wanted elsewhere: a signal waits for it, or it is being
    /// killed. Stays so until that was seen to; the futexes only look.
    fn interrupted(&self) -> bool;

    /// The calling thread's own priority, without what waiters lend it: waiters are woken in this
    /// order, the highest first.
    fn current_priority(&self) -> Priority;

    /// A thread's own priority, without what waiters lend it; `None` if it does not exist or has
    /// [`ended`](Self::ended).
    fn priority(&self, thread: Tid) -> Option<Priority>;

    /// All that a thread held has been given away
    /// ([`Futexes::exit_thread`](crate::Futexes::exit_thread)): from now on
    /// [`priority`](Self::priority) is `None` for it. A thread that asks for one of its locks has
    /// asked before this and is told of the end, or asks after it and learns that there is no such
    /// owner; none is left waiting for the dead.
    fn ended(&self, thread: Tid);

    /// From now on a thread is to run with priority `to`: the highest of its own and of all that
    /// wait for a lock it owns.
    fn boost(&self, thread: Tid, to: Priority);

    /// Called in each turn of a loop that waits for another thread to leave a few instructions;
    /// `turns` counts up from 0.
    fn relax(&self, turns: u32);
}

/// The deadline of a timeout that begins now.
pub(crate) fn deadline(scheduler: &impl Scheduler, timeout: Option<Timeout>) -> Option<Deadline> {
    timeout.map(|timeout| match timeout {
        Timeout::After(time) => {
            Deadline { clock: Clock::Monotonic, time: scheduler.now(Clock::Monotonic).saturating_add(time) }
        }
        Timeout::At(clock, time) => Deadline { clock, time },
    })
}
