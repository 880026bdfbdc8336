//! Safe handles: each owns exactly one count and gives it back when dropped.
//!
//! | handle | owns | made by |
//! | --- | --- | --- |
//! | [`Block`] | one reference to every piece of an aligned block | [`Zone::alloc`](crate::Zone::alloc), splitting, merging |
//! | [`Pieces`] | the same for a run of pieces, to be taken one by one | [`Block::split_to`] and its kin |
//! | [`Page`] | one reference to a block of order 0 | [`Block::into_page`] |
//! | [`PageRef`] | one pin on one page | [`Block::pin`], [`Zone::try_pin`](crate::Zone::try_pin) |
//! | [`Slice`] | one pin on each page of a byte range | [`Block::slice`] |
//!
//! They borrow the zone; over a `&'static Zone` they have no lifetime to carry.

mod block;
mod page;
mod page_ref;
mod pieces;
mod raw;
mod slice;

pub use block::Block;
pub use page::Page;
pub use page_ref::PageRef;
pub use pieces::Pieces;
pub use raw::{Raw, RawBlock};
pub use slice::Slice;
