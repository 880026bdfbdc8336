//! Looking twice: how whoever pins by address and whoever changes an entry never miss each other.
//!
//! | pins | changes an entry and counts |
//! | --- | --- |
//! | walks to the leaf | changes the entry |
//! | pins the page | full barrier |
//! | full barrier | reads the page's count |
//! | walks again: the same? | |
//!
//! In whatever order the steps fall, at least one of the two last ones sees the other's first: a
//! pin that stays is in the count that was read, or the second walk ends elsewhere and the pin is
//! given back. `fork` (H21) and `collapse` (H19) are the ones who count; `unmap` needs no count,
//! since it gives one back, and a page that is free can't be pinned.
//!
//! It is written over any words that hold entries, so that what a model checker explores is what
//! ships. [`Complete`] takes every step; a checker implements [`Steps`] with one left out.

use core::sync::atomic::Ordering;

use tailpin::{AtomicWord, Pfn};

use crate::addr::{Level, VirtAddr};
use crate::arch::{Arch, Entry, Flags, Leaf};
use crate::page_table::table::{Found, Slot};

/// The protective steps. The provided methods are the correct ones.
pub trait Steps: Send + Sync + 'static {
    /// H13, H19: after the pin the walk is made again, from the root; that the last entry is the
    /// same would prove nothing, as its table may be out of use.
    #[inline]
    fn second_look(entry: impl FnOnce() -> bool, walk: impl FnOnce() -> bool) -> bool {
        let _ = entry;
        walk()
    }

    /// Between the pin and the second look. SeqCst, pairs with [`Steps::change_barrier`].
    #[inline]
    fn pin_barrier<W: AtomicWord>() {
        W::fence(Ordering::SeqCst);
    }

    /// Between a change of an entry and reading the count of what it maps. SeqCst, pairs with
    /// [`Steps::pin_barrier`].
    #[inline]
    fn change_barrier<W: AtomicWord>() {
        W::fence(Ordering::SeqCst);
    }
}

/// All steps.
#[derive(Clone, Copy, Debug)]
pub struct Complete;

impl Steps for Complete {}

/// Where entries are read.
pub trait Entries {
    /// Format of the entries.
    type Arch: Arch;
    /// Keeps tables that were found from being used for something else until dropped.
    type Section<'a>
    where
        Self: 'a;
    /// A word like those that the entries are in.
    type Word: AtomicWord;

    /// Opens a section.
    fn enter(&self) -> Self::Section<'_>;

    /// Reads an entry. Acquire: what it leads to is ready.
    fn bits(&self, slot: Slot) -> u64;

    /// Walks to the entry that decides about `addr`: a leaf, or the empty one at which the tables
    /// end.
    #[inline]
    fn look_up(&self, root: Pfn, addr: VirtAddr) -> Found {
        let (mut table, mut level) = (root, Level::TOP);
        loop {
            let slot = Slot { table, index: Self::Arch::index(addr, level), level };
            let bits = self.bits(slot);
            match Self::Arch::decode(level, bits) {
                Entry::Table(next) => (table, level) = (next, level.below()),
                _ => return Found { slot, bits },
            }
        }
    }

    /// Walks to the leaf at `addr`, pins under it what `pin` pins, and walks again. `None` if there
    /// is no leaf of which `meets` is true, if there was nothing to pin, or if somebody changed the
    /// entry during the call; what was pinned is dropped then. Says also what the leaf allowed.
    ///
    /// # Errors
    /// Those of `pin`.
    #[inline]
    fn pin_under<S: Steps, R, X>(
        &self,
        root: Pfn,
        addr: VirtAddr,
        meets: impl FnOnce(Flags) -> bool,
        pin: impl FnOnce(Found, Leaf) -> Result<Option<R>, X>,
    ) -> Result<Option<(R, Flags)>, X> {
        let _section = self.enter();
        let found = self.look_up(root, addr);
        let Entry::Leaf(leaf) = Self::Arch::decode(found.slot.level, found.bits) else { return Ok(None) };
        if !meets(leaf.flags) {
            return Ok(None);
        }
        let Some(pinned) = pin(found, leaf)? else { return Ok(None) };
        S::pin_barrier::<Self::Word>();
        // The hardware's notes aside.
        let same = |bits| Self::Arch::settled(bits) == Self::Arch::settled(found.bits);
        let still = S::second_look(
            || same(self.bits(found.slot)),
            || {
                let again = self.look_up(root, addr);
                again.slot == found.slot && same(again.bits)
            },
        );
        Ok(still.then_some((pinned, leaf.flags)))
    }
}
