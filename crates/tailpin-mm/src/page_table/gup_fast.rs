//! Fast GUP (`get_user_pages_fast`): the walk, the pin, and the second walk, without a lock.
//!
//! A thread that pins by address and a thread that changes an entry never miss each other:
//!
//! | the thread that pins | the thread that changes an entry and counts |
//! | --- | --- |
//! | walks to the leaf | changes the entry |
//! | pins the page | full barrier |
//! | full barrier | reads the page's count |
//! | walks again: the same? | |
//!
//! In whatever order the steps fall, at least one of the two last ones sees the other thread's
//! first step: a pin that stays is in the count that was read, or the second walk ends elsewhere
//! and the pin is given back. `fork` (H21) and `collapse` (H19) read the count; `unmap` needs no
//! count, since it gives one back, and a page that is free can't be pinned.
//!
//! It is written over any words that hold entries, so that what a model checker explores is what
//! ships. [`AllSafeguards`] keeps every [`Safeguard`]; a checker implements [`Safeguards`] with one
//! left out.

use core::sync::atomic::Ordering;

pub use tailpin::{AllSafeguards, Safeguards};
use tailpin::{AtomicWord, Pfn};

use crate::addr::VirtAddr;
use crate::arch::{Arch, Flags, Leaf, TableEntry};
use crate::page_table::walk::{LocklessWalk, WalkEnd};

/// A protective step of pinning by address, under its name in docs/races.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safeguard {
    /// After the pin the entry is read again: a pin that stays was there while the page was mapped.
    H13Entry,
    /// That second reading is a walk from the root. That the last entry is the same would prove
    /// nothing, as its table may be out of use.
    H19,
    /// A full barrier between the pin and the second walk; pairs with [`Safeguard::H21Change`].
    H21Pin,
    /// A full barrier between the change of an entry and reading the count of what it maps; pairs
    /// with [`Safeguard::H21Pin`].
    H21Change,
}

/// Orders the change of an entry before reading the count of what it maps.
#[inline]
pub fn change_barrier<S: Safeguards<Safeguard>, W: AtomicWord>() {
    if S::keeps(Safeguard::H21Change) {
        // SeqCst: pairs with the fence of `gup_fast`.
        W::fence(Ordering::SeqCst);
    }
}

/// Walks to the leaf at `addr`, pins under it what `pin` pins, and walks again. `None` if there is
/// no leaf of which `meets` is true, if there was nothing to pin, or if another thread changed the
/// entry during the call; what was pinned is dropped then. Says also what the leaf allowed.
///
/// # Errors
/// Those of `pin`.
#[inline]
pub fn gup_fast<S: Safeguards<Safeguard>, T: LocklessWalk, R, X>(
    entries: &T,
    root: Pfn,
    addr: VirtAddr,
    meets: impl FnOnce(Flags) -> bool,
    pin: impl FnOnce(WalkEnd, Leaf) -> Result<Option<R>, X>,
) -> Result<Option<(R, Flags)>, X> {
    let _section = entries.enter();
    let found = entries.look_up(root, addr);
    let TableEntry::Leaf(leaf) = T::Arch::decode(found.slot.level, found.bits) else { return Ok(None) };
    if !meets(leaf.flags) {
        return Ok(None);
    }
    let Some(pinned) = pin(found, leaf)? else { return Ok(None) };
    if S::keeps(Safeguard::H21Pin) {
        // SeqCst: pairs with the fence of `change_barrier`.
        T::Word::fence(Ordering::SeqCst);
    }
    if S::keeps(Safeguard::H13Entry) {
        let again = if S::keeps(Safeguard::H19) {
            entries.look_up(root, addr)
        } else {
            WalkEnd { bits: entries.bits(found.slot), ..found }
        };
        // Accessed and dirty aside, which the hardware sets at any time.
        let same = T::Arch::stable_bits(again.bits) == T::Arch::stable_bits(found.bits);
        if again.slot != found.slot || !same {
            return Ok(None);
        }
    }
    Ok(Some((pinned, leaf.flags)))
}

#[cfg(test)]
mod tests {
    use core::convert::Infallible;
    use core::sync::atomic::AtomicU64;

    use super::*;
    use crate::addr::Level;
    use crate::arch::X86_64;
    use crate::page_table::walk::{Entries, EntrySlot};

    /// Tables 0 to 3, one for each level, the root first, and table 4 beside the last one. In each
    /// only entry 0 is used.
    struct Tables([AtomicU64; 5]);

    const FRAME: u64 = 77;

    fn leaf(frame: u64) -> u64 {
        X86_64::leaf(Level::PTE, Leaf { frame: Pfn::new(frame), flags: Flags::USER })
    }

    impl Tables {
        fn new() -> Self {
            let table = |frame| X86_64::table(Pfn::new(frame));
            Self([table(1), table(2), table(3), leaf(FRAME), leaf(FRAME)].map(AtomicU64::new))
        }

        /// Pins the frame at address 0, with a change by another thread between the pin and the
        /// second walk; whether the pin stays.
        fn pin<S: Safeguards<Safeguard>>(table: usize, change: u64) -> bool {
            let tables = Self::new();
            let pin = |_, leaf: Leaf| {
                tables.0[table].store(change, Ordering::SeqCst);
                Ok::<_, Infallible>(Some(leaf.frame))
            };
            let done = gup_fast::<S, _, _, _>(&tables, Pfn::new(0), VirtAddr::new(0), |_| true, pin);
            let Ok(pinned) = done;
            assert!(pinned.is_none_or(|(frame, _)| frame == Pfn::new(FRAME)));
            pinned.is_some()
        }
    }

    impl Entries for Tables {
        type Arch = X86_64;
        type Word = AtomicU64;

        fn bits(&self, slot: EntrySlot) -> u64 {
            assert_eq!(slot.index, 0);
            self.0[slot.table.get() as usize].load(Ordering::SeqCst)
        }
    }

    impl LocklessWalk for Tables {
        type Section<'a> = ();

        fn enter(&self) {}
    }

    struct WithoutH13Entry;

    impl Safeguards<Safeguard> for WithoutH13Entry {
        const WITHOUT: Option<Safeguard> = Some(Safeguard::H13Entry);
    }

    struct WithoutH19;

    impl Safeguards<Safeguard> for WithoutH19 {
        const WITHOUT: Option<Safeguard> = Some(Safeguard::H19);
    }

    #[test]
    fn a_pin_stays_where_nothing_but_the_accessed_bit_changed() {
        let accessed = Leaf { frame: Pfn::new(FRAME), flags: Flags::USER.with(Flags::ACCESSED) };
        assert!(Tables::pin::<AllSafeguards>(3, X86_64::leaf(Level::PTE, accessed)));
    }

    #[test]
    fn an_entry_that_changed_is_noticed_by_reading_it_again() {
        for change in [0, leaf(FRAME + 1)] {
            assert!(!Tables::pin::<AllSafeguards>(3, change));
            assert!(!Tables::pin::<WithoutH19>(3, change));
            assert!(Tables::pin::<WithoutH13Entry>(3, change));
        }
    }

    #[test]
    fn a_table_that_was_taken_out_is_noticed_by_walking_from_the_root() {
        // Emptied, or replaced by a table whose entry is the same.
        for change in [0, X86_64::table(Pfn::new(4))] {
            assert!(!Tables::pin::<AllSafeguards>(2, change));
            assert!(Tables::pin::<WithoutH19>(2, change));
        }
    }
}
