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

use crate::addr::VirtAddr;
use crate::arch::{Arch, Flags, Leaf, TableEntry};
use crate::page_table::walk::{Entries, WalkEnd};

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

/// Walks to the leaf at `addr`, pins under it what `pin` pins, and walks again. `None` if there
/// is no leaf of which `meets` is true, if there was nothing to pin, or if somebody changed the
/// entry during the call; what was pinned is dropped then. Says also what the leaf allowed.
///
/// # Errors
/// Those of `pin`.
#[inline]
pub fn gup_fast<S: Steps, T: Entries, R, X>(
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
    S::pin_barrier::<T::Word>();
    // The hardware's notes aside.
    let same = |bits| T::Arch::stable_bits(bits) == T::Arch::stable_bits(found.bits);
    let still = S::second_look(
        || same(entries.bits(found.slot)),
        || {
            let again = entries.look_up(root, addr);
            again.slot == found.slot && same(again.bits)
        },
    );
    Ok(still.then_some((pinned, leaf.flags)))
}
