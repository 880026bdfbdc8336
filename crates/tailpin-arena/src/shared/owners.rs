//! The processes that use a shared arena: process number and time of birth, which together no other
//! process has.

use std::fmt;
use std::fs;
use std::io;
use std::sync::atomic::Ordering;

use portable_atomic::AtomicU128;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::error::RecoverError;

/// Bits of a process number (`PID_MAX_LIMIT`).
const PID_BITS: u32 = 22;

/// A process, in one word: number, and clock ticks from boot to its start. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity(pub(super) u64);

impl Identity {
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
        (word != NONE.0).then_some(Self(word))
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

/// One place in the table: below, the process that has it, or 0; above, the process that is
/// recovering that one, or 0. Written by the process that joins, leaves or recovers. Both change as
/// one, so that the next process at a place finds no other at work there.
#[repr(transparent)]
pub(super) struct OwnerEntry(AtomicU128);

fn owner(both: u128) -> Identity {
    Identity(both as u64)
}

fn recoverer(both: u128) -> Identity {
    Identity((both >> 64) as u64)
}

fn both(owner: Identity, recoverer: Identity) -> u128 {
    u128::from(recoverer.0) << 64 | u128::from(owner.0)
}

const NONE: Identity = Identity(0);

impl OwnerEntry {
    fn load(&self) -> u128 {
        // Acquire: pairs with the AcqRel of `change`.
        self.0.load(Ordering::Acquire)
    }

    /// AcqRel: what a process did that had the place, or recovered the one that had it, is before
    /// what the next one does.
    fn change(&self, from: u128, to: u128) -> Result<u128, u128> {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }
}

/// The table of owners.
#[derive(Clone, Copy)]
pub(super) struct OwnerTable(pub(super) &'static [OwnerEntry]);

impl OwnerTable {
    /// A place for a process; `None` if all are taken.
    pub(super) fn join(self, identity: Identity) -> Option<OwnerId> {
        let index = self.0.iter().position(|entry| entry.change(0, both(identity, NONE)).is_ok())?;
        Some(OwnerId { index, identity })
    }

    /// A living process gives up its place: nothing is held and no operation under way.
    pub(super) fn leave(self, owner: OwnerId) {
        // It can't fail: the living are not recovered.
        let _ = self.0[owner.index].change(both(owner.identity, NONE), 0);
    }

    pub(super) fn all(self) -> impl Iterator<Item = OwnerId> {
        self.0.iter().enumerate().filter_map(|(index, entry)| {
            let identity = owner(entry.load());
            (identity != NONE).then_some(OwnerId { index, identity })
        })
    }

    /// Begins the recovery of an owner that is dead, unless another process is at it that is not
    /// dead itself.
    pub(super) fn begin_recovery(self, dead: OwnerId, me: Identity) -> Result<Recovery, RecoverError> {
        // An owner of another arena may have a number that is none here.
        let entry = self.0.get(dead.index).ok_or(RecoverError::Gone(dead))?;
        let mut seen = entry.load();
        loop {
            if owner(seen) != dead.identity {
                return Err(RecoverError::Gone(dead));
            }
            if !dead.is_dead() {
                return Err(RecoverError::Alive(dead));
            }
            let other = recoverer(seen);
            if other != NONE && !other.is_dead() {
                return Err(RecoverError::Busy { pid: other.pid() });
            }
            let mine = both(dead.identity, me);
            match entry.change(seen, mine) {
                Ok(_) => return Ok(Recovery { entry, mine }),
                Err(now) => seen = now,
            }
        }
    }
}

/// The right to recover an owner. Given up, and the owner left where it is, when this is dropped.
pub(super) struct Recovery {
    entry: &'static OwnerEntry,
    /// What the place says as long as the right is there: only its owner changes it.
    mine: u128,
}

impl Recovery {
    /// Nothing is left of the owner: its place is free.
    pub(super) fn complete(self) {
        let _ = self.entry.change(self.mine, 0);
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        // After `complete` the place says something else, and this does nothing.
        let _ = self.entry.change(self.mine, both(owner(self.mine), NONE));
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
        assert!(Identity::new(own.pid(), 0).is_dead());
        assert!(Identity::new((1 << PID_BITS) - 1, 1).is_dead());
    }
}
