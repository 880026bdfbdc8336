//! The refcount behind each leaf: what a mapping counts on the memory that it maps.
//!
//! A leaf stands for one count, which the core keeps in the page's own word:
//!
//! * a reference on each block in its reach, as a [`Block`](tailpin::Block) handle does. While the
//!   memory is one block that is one reference; after a split of the block it is one on each piece,
//!   and the leaf is not rewritten.
//! * or ([`Flags::BY_PIN`], leaves of 4 KiB only) a pin on its page. The page may be in the middle
//!   of a block of which other owners have references; when the last of these goes, the block
//!   splits itself and this page stays.
//!
//! The page of zeroes is not counted, nor are foreign frames.

use tailpin::{Kind, Pfn};

use crate::addr::Level;
use crate::arch::{Flags, Leaf};
use crate::env::Env;
use crate::error::Shortage;
use crate::mm::MmCore;

impl<E: Env> MmCore<'_, E> {
    /// Takes one more count of the leaf's kind, for one more leaf like it. The caller knows that
    /// the leaf stays during the call.
    pub(crate) fn count_leaf(&self, level: Level, leaf: Leaf) -> Result<(), Shortage> {
        if !leaf.flags.is_counted() {
            Ok(())
        } else if leaf.flags.has(Flags::BY_PIN) {
            self.pin(leaf.frame)
        } else {
            self.add_reference(leaf.frame, level.order())
        }
    }

    /// Gives back the count of a leaf that is gone and whose translations are invalidated. Pages
    /// without another count are free when this returns.
    pub(crate) fn uncount_leaf(&self, level: Level, leaf: Leaf) {
        if !leaf.flags.is_counted() {
        } else if leaf.flags.has(Flags::BY_PIN) {
            self.unpin(leaf.frame);
        } else {
            self.drop_block(leaf.frame, level.order());
        }
    }

    /// Pins a page that the caller knows to be in use.
    pub(crate) fn pin(&self, page: Pfn) -> Result<(), Shortage> {
        self.zone.raw().pin(page).map(|_| ()).map_err(|_| Shortage::Count)
    }

    /// Gives back a pin on a page.
    pub(crate) fn unpin(&self, page: Pfn) {
        // On misuse the zone has reported it and taken the frame out of service: nothing is left to
        // do.
        let _ = self.zone.raw().unpin(page);
    }

    /// Whether the memory is exclusive to the leaf: its count is the only one on everything it
    /// maps, with no other mapping and no pin.
    ///
    /// May be wrong in one direction only: a count of a moment (a speculative pin that its thread
    /// is about to give back, a tail's hold on its head) makes it say no. Pins that last are taken
    /// through leaves that are [`Flags::EXCLUSIVE`]; for such a leaf, which has no other mapping,
    /// "no" means *may be pinned*.
    pub(crate) fn is_exclusive(&self, level: Level, leaf: Leaf) -> bool {
        if !leaf.flags.is_counted() {
            return false;
        }
        if leaf.flags.has(Flags::BY_PIN) {
            let state = self.zone.state(leaf.frame);
            return state.is_some_and(|state| state.kind == Kind::Page && state.refs == 0 && state.pins == 1);
        }
        let end = leaf.frame.offset(level.order().frames());
        let mut at = leaf.frame;
        while at < end {
            let Some(state) = self.zone.state(at) else { return false };
            if !matches!(state.kind, Kind::Page | Kind::Head) || state.refs != 1 || state.pins != 0 {
                return false;
            }
            at = at.offset(state.order.frames());
        }
        true
    }
}
