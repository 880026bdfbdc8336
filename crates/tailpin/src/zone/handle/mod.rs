//! Safe handles: each owns exactly one count and gives it back when dropped.
//!
//! | handle | owns | made by |
//! | --- | --- | --- |
//! | [`Block`] | one reference to every piece of an aligned block | [`Zone::alloc`](crate::Zone::alloc), splitting, merging |
//! | [`Pieces`] | one reference to each of a run of pieces, to be taken one by one | [`Block::split_to`] and its kin |
//! | [`PageRef`] | one pin on one page | [`Block::pin`], [`Zone::try_pin`](crate::Zone::try_pin) |
//! | [`PageRow`] | one reference to each of some pages of a row, to be taken one by one | [`Blocks::next_row`](crate::Blocks::next_row) |
//! | [`Run`] | one reference to each of any number of frames side by side | [`Zone::alloc_run`](crate::Zone::alloc_run) |
//! | [`PinnedRange`] | one pin on each page of a byte range | [`Block::slice`] |
//!
//! They borrow the zone; over a `&'static Zone` they have no lifetime to carry. All are `Send` and
//! `Sync`.
//!
//! What the compiler refuses:
//!
//! ```compile_fail,E0382
//! # use tailpin::{Block, Order};
//! fn freed_twice(block: Block<'_>) {
//!     drop(block);
//!     drop(block); // the reference is gone
//! }
//! ```
//!
//! ```compile_fail,E0382
//! # use tailpin::Block;
//! fn used_after_split(block: Block<'_>) {
//!     let pieces = block.split();
//!     let _ = block.pin(0); // its reference is the pieces' now
//! }
//! ```
//!
//! ```compile_fail,E0597
//! # use tailpin::*;
//! let kept;
//! {
//!     let ranges = [FrameRange::new(Pfn::new(0), 512)];
//!     let layout = ZoneLayout::new(&ranges, 1).unwrap();
//!     let memory = ZoneMemory::for_layout(&layout);
//!     let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
//!     kept = zone.alloc(Order::PAGE).unwrap().pin(0).unwrap(); // outlives its zone
//! }
//! drop(kept);
//! ```
//!
//! ```compile_fail,E0451
//! # use tailpin::{Block, Order, Pfn, Zone};
//! fn forged<'z>(zone: &'z Zone<'z>) -> Block<'z> {
//!     Block { zone, head: Pfn::new(0), order: Order::PAGE } // only the zone makes blocks
//! }
//! ```

mod block;
mod page_ref;
mod page_row;
mod pieces;
mod pinned_range;
mod raw;
mod run;

pub use block::Block;
pub use page_ref::PageRef;
pub use page_row::PageRow;
pub use pieces::Pieces;
pub use pinned_range::PinnedRange;
pub use raw::Raw;
pub use run::Run;

/// All handles may be sent to and shared with other threads, as may the zone.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Block<'_>>();
    shared::<Pieces<'_>>();
    shared::<PageRef<'_>>();
    shared::<PageRow<'_>>();
    shared::<PinnedRange<'_>>();
    shared::<Run<'_>>();
    shared::<crate::Zone<'_>>();
};
