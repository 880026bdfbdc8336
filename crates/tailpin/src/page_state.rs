//! What a frame is, decoded: the words in which protocols, reports and audits speak of it.

use core::fmt;

use crate::frame::Order;

/// What a frame is: free, a page or head in use, a tail, or out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Zero but for its generation: free, or a tail without pins of the block that covers it.
    Implicit,
    /// Free.
    Free,
    /// In use as a block of order 0.
    Page,
    /// First frame of a larger block.
    Head,
    /// Another frame of a larger block. If [`head_of`](crate::Zone::head_of) finds no block for it,
    /// that block is no more, and the frame is free.
    Tail,
    /// Head of a block that is being split.
    Splitting,
    /// Head of a block that is being merged from smaller ones.
    Merging,
    /// Never in service: a hole, or a range the caller kept.
    Reserved,
    /// Taken out of service after a misuse or a memory failure.
    Offline,
}

/// The state of one frame, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageState {
    /// What the frame is.
    pub kind: Kind,
    /// Order of the block it heads or, for a tail, belongs to.
    pub order: Order,
    /// Pins on the page; on a head also the holds of its pinned tails.
    pub pins: u64,
    /// References to the whole block (heads and pages).
    pub refs: u64,
    /// How often a block has begun here, been merged here or been adopted from its token, modulo
    /// 64.
    pub generation: u8,
    /// Tails of this block are not counted.
    pub unsplittable: bool,
    /// The frame goes out of service when freed.
    pub hwpoison: bool,
}

impl PageState {
    /// Said of a frame that the zone does not know.
    pub const NOT_IN_ZONE: Self = Self {
        kind: Kind::Reserved,
        order: Order::PAGE,
        pins: 0,
        refs: 0,
        generation: 0,
        unsplittable: false,
        hwpoison: false,
    };
}

impl fmt::Display for PageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} order {} pins {} refs {}", self.kind, self.order, self.pins, self.refs)?;
        if self.unsplittable {
            write!(f, " unsplittable")?;
        }
        if self.hwpoison {
            write!(f, " hwpoison")?;
        }
        Ok(())
    }
}

/// How a block is to be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Class {
    /// Tails carry their own pins and the block can be split.
    #[default]
    Splittable,
    /// The hugetlb class: the block never splits, a pin on any page is a pin on the head.
    #[doc(alias = "hugetlb")]
    Unsplittable,
}
