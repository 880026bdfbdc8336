//! A process that uses a shared arena: process number and time of birth, which together no other
//! process has.

use std::fmt;
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Bits of a process number (`PID_MAX_LIMIT`).
const PID_BITS: u32 = 22;

/// A process, in one word: number, and clock ticks from boot to its start. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity(pub(super) u64);

impl Identity {
    /// No process.
    pub(super) const NONE: Self = Self(0);

    pub(super) fn new(pid: u32, start: u64) -> Self {
        Self(start << PID_BITS | u64::from(pid))
    }

    pub(super) fn own() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let start = Stat::parse(&stat).ok_or(io::ErrorKind::InvalidData)?.start;
        Ok(Self::new(std::process::id(), start))
    }

    /// The process that an entry of the table of owners names by its lower half, if any.
    pub(crate) fn of_entry(word: u64) -> Option<Self> {
        (word != Self::NONE.0).then_some(Self(word))
    }

    pub(crate) fn pid(self) -> u32 {
        (self.0 & ((1 << PID_BITS) - 1)) as u32
    }

    /// Whether none of its threads will ever run again. What can't be looked at is taken to be
    /// alive.
    pub(super) fn is_dead(self) -> bool {
        let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) else { return true };
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return true;
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        Stat::parse(&stat).is_some_and(|stat| Self::new(self.pid(), stat.start) != self || stat.ended)
    }
}

/// What `/proc/pid/stat` says.
struct Stat {
    start: u64,
    /// It waits to be noticed by its parent, and no thread is left.
    ended: bool,
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        // The second field, a name, may contain anything. After it comes field 3.
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
        let threads: u64 = field(20)?.parse().ok()?;
        let ended = matches!(field(3)?, "Z" | "X") && threads <= 1;
        Some(Self { start: field(22)?.parse().ok()?, ended })
    }
}

/// One process that has joined a shared arena.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnerId {
    pub(super) index: usize,
    pub(super) identity: Identity,
}

impl OwnerId {
    /// The owner's process number.
    pub fn pid(self) -> u32 {
        self.identity.pid()
    }

    /// Whether it has died. A process that can't be looked at is taken to be alive; so is one that
    /// replaced its program (`exec`).
    pub fn is_dead(self) -> bool {
        self.identity.is_dead()
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "owner {} (process {})", self.index, self.pid())
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_any_name() {
        let line = "7 (a) b (Z) R 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 5551 1 1 18446744073709551615";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.start, stat.ended), (5551, false));
        let zombie = line.replace(") R", ") Z").replace(" 20 0 3 0", " 20 0 1 0");
        assert!(Stat::parse(&zombie).unwrap().ended);
        assert!(!Stat::parse(&line.replace(") R", ") Z")).unwrap().ended, "another thread still runs");
        assert!(Stat::parse("").is_none());
    }

    #[test]
    fn this_process_lives_and_an_earlier_one_of_its_number_does_not() {
        let own = Identity::own().unwrap();
        assert!(!own.is_dead());
        assert_eq!(Identity::of_entry(own.0).map(Identity::pid), Some(std::process::id()));
        assert!(Identity::of_entry(0).is_none());
        assert!(Identity::new(own.pid(), 0).is_dead());
        assert!(Identity::new((1 << PID_BITS) - 1, 1).is_dead());
    }
}
