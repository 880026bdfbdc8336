//! The count behind each leaf: what a mapping holds of the memory it maps.
//!
//! A leaf stands for one count, kept in the page's own word by the core:
//!
//! * a reference on each block in its reach, as a [`Block`](tailpin::Block) handle does. While the
//!   memory is one block that is one reference; after a split of the block it is one on each piece,
//!   without anybody rewriting the leaf.
//! * or ([`Flags::BY_PIN`], leaves of 4 KiB only) a pin on its page. The page may be in the middle
//!   of a block that others have whole; when the last of them goes, the block splits itself and
//!   this page stays.
//!
//! The page of zeroes is not counted.

use tailpin::{Kind, Pfn};

use crate::addr::Level;
use crate::arch::{Flags, Leaf};
use crate::env::Env;
use crate::error::Shortage;
use crate::mm::MmCore;

impl<E: Env> MmCore<'_, E> {
    /// One more count of the same kind, for one more leaf like this one. The caller knows that the
    /// leaf stays.
    pub(crate) fn count_leaf(&self, level: Level, leaf: Leaf) -> Result<(), Shortage> {
        if leaf.flags.has(Flags::ZERO) {
            Ok(())
        } else if leaf.flags.has(Flags::BY_PIN) {
            self.pin(leaf.frame)
        } else {
            self.add_reference(leaf.frame, level.order())
        }
    }

    /// Gives back the count of a leaf that is gone and whose translations are invalidated. What
    /// nobody else has is free when this returns.
    pub(crate) fn uncount_leaf(&self, level: Level, leaf: Leaf) {
        if leaf.flags.has(Flags::ZERO) {
        } else if leaf.flags.has(Flags::BY_PIN) {
            self.unpin(leaf.frame);
        } else {
            self.drop_block(leaf.frame, level.order());
        }
    }

    /// A pin on a page that is known to be in use.
    pub(crate) fn pin(&self, page: Pfn) -> Result<(), Shortage> {
        self.zone.raw().pin(page).map(|_| ()).map_err(|_| Shortage::Count)
    }

    /// Gives back a pin.
    pub(crate) fn unpin(&self, page: Pfn) {
        // A misuse has been told to the zone's sink, and the frame is out of service: nothing is
        // left to do.
        let _ = self.zone.raw().unpin(page);
    }

    /// Whether the leaf's own count is the only one on everything it maps: no other mapping, no
    /// pin.
    ///
    /// May be wrong in one direction only: somebody in passing (a speculative pin about to be given
    /// back, a tail's hold on its head) makes it say no. Pins that last are taken through leaves
    /// that are [`Flags::EXCLUSIVE`]; for such a leaf, which has no other mapping, "no" means *may be
    /// pinned*.
    pub(crate) fn is_exclusive(&self, level: Level, leaf: Leaf) -> bool {
        if leaf.flags.has(Flags::ZERO) {
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
