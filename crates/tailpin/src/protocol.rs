//! What a page protocol is: how frames are counted, pinned, split and merged.
//!
//! Two exist. [`OneWord`](crate::OneWord) keeps a frame's whole state in one word and takes no lock;
//! [`Classic`](crate::Classic) is the design of the 2013 mail with the mail's corrections. The allocator, the handles
//! and the audit are written against this trait and run on either.

use core::fmt;

use crate::atomic::AtomicWord;
use crate::error::{GetError, MergeError, SplitError};
use crate::frame::{FrameRange, Order, Pfn};
use crate::report::{Cause, Misuse};

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Free, or an unpinned tail of a block that never touched it.
    Rest,
    /// Free.
    Free,
    /// In use by itself: a block of order 0.
    Page,
    /// First frame of a larger block.
    Head,
    /// Another frame of a larger block.
    Tail,
    /// Head of a block that is being split.
    Splitting,
    /// Head of a block that is being merged from smaller ones.
    Merging,
    /// Never in service: a hole, or a range the caller kept.
    Reserved,
    /// Taken out of service after a misuse or a memory failure.
    SetAside,
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
    /// How often a block has begun here, modulo the protocol's width.
    pub generation: u8,
    /// Tails of this block are not counted.
    pub unsplittable: bool,
    /// The frame goes out of service when freed.
    pub poisoned: bool,
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
        poisoned: false,
    };
}

impl fmt::Display for PageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} order {} pins {} refs {}", self.kind, self.order, self.pins, self.refs)?;
        if self.unsplittable {
            write!(f, " unsplittable")?;
        }
        if self.poisoned {
            write!(f, " poisoned")?;
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
    Unsplittable,
}

/// A pin on `page`, and the frame in whose word it is counted.
///
/// The two differ only for tails of an unsplittable block. The place is settled when the pin is taken, so that
/// "is this tail counted?" has the same answer when it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// The page that is pinned.
    pub page: Pfn,
    /// The frame whose word counts the pin.
    pub counted_at: Pfn,
}

/// Who takes back what the protocol frees, and hears of misuse.
pub trait Owner {
    /// The last reference to this block is gone; its frames are the callee's.
    fn freed_block(&self, head: Pfn, order: Order);
    /// Of the area that begins at `area`, the frames with a bit set in `frames` are the callee's.
    fn freed_frames(&self, area: Pfn, frames: &[u64; 8]);
    /// These frames of the caller's went out of service when they were freed.
    fn retired(&self, frame: Pfn);
    /// A misuse was noticed: to be reported, and the frame set aside.
    fn misuse(&self, misuse: Misuse);
}

/// A protocol that can be put over memory of the caller's.
pub trait Attach<'m>: Protocol {
    /// Over zero-filled `words`, the first of which are for frame `base`, the first of a 2 MiB area.
    fn attach(words: &'m [Self::Word], base: Pfn) -> Self;
}

/// How frames are counted, pinned, split and merged.
///
/// All methods may be called from any number of threads at once, except where they say that the caller owns the
/// frames. Frame numbers must lie in the protocol's span: the zone above checks what comes from outside.
pub trait Protocol: Sized + Send + Sync {
    /// The atomic word it is made of.
    type Word: AtomicWord;
    /// Name for people and reports.
    const NAME: &'static str;
    /// Words of metadata per frame.
    const WORDS_PER_FRAME: usize;
    /// Whether blocks can be merged, split around a page, and split themselves on their last reference.
    const REARRANGES: bool;

    /// Whether the frames of this block may be handed out. What is left to do then is done by
    /// [`Protocol::publish`]; nobody can obtain any of them before. The caller owns the frames. Errs with the first frame in a wrong state.
    fn prepare(&self, head: Pfn, order: Order) -> Result<(), Pfn>;
    /// Last step of an allocation: one reference, visible with everything written before. Returns the
    /// generation of the block.
    fn publish(&self, head: Pfn, order: Order, class: Class) -> u8;
    /// Puts a wholly free area that the caller owns back to rest. Errs with the first frame in a wrong state.
    fn scrub(&self, area: Pfn) -> Result<(), Pfn>;
    /// Marks a frame as never in service. Only before the first allocation.
    fn reserve(&self, frame: Pfn);
    /// Takes a free frame that the caller owns out of service.
    fn retire(&self, frame: Pfn);

    /// The state of a frame, a hint unless the caller has a reference.
    fn state(&self, frame: Pfn) -> PageState;
    /// Head and order of the live block that `frame` is in, `None` if it is in none. A hint, true at some instant
    /// during the call, unless the caller has a reference.
    fn head_of(&self, frame: Pfn) -> Option<(Pfn, Order)>;

    /// Pins a page found by its number alone (`get_page_unless_zero`). Whoever found the number in some
    /// structure looks there again afterwards.
    fn try_get(&self, page: Pfn, owner: &impl Owner) -> Result<Held, GetError>;
    /// One more pin where the caller has one already.
    fn get(&self, held: Held, owner: &impl Owner) -> Result<(), GetError>;
    /// Gives back a pin. The caller must have it.
    fn put(&self, held: Held, owner: &impl Owner);
    /// `n` more references on every piece of `range`; the caller has one on each.
    fn get_block(&self, range: FrameRange, n: u64, owner: &impl Owner) -> Result<(), GetError>;
    /// Gives back `n` references on every piece of `range`.
    fn put_block(&self, range: FrameRange, n: u64, owner: &impl Owner);

    /// Splits every piece of `range` that is larger than `target`; the caller has a reference on each, and
    /// afterwards one on each of the new pieces. Pins stay on their pages.
    fn split(&self, range: FrameRange, target: Order, owner: &impl Owner) -> Result<(), SplitError>;
    /// Splits only what is around `page`: afterwards `page` heads or lies in a piece of `target` and everything
    /// else in `range` is in pieces as large as possible.
    fn split_around(
        &self,
        range: FrameRange,
        page: Pfn,
        target: Order,
        owner: &impl Owner,
    ) -> Result<(), SplitError>;
    /// Makes one block of `order` at `head` of the pieces there; the caller has the only reference on each.
    fn merge(&self, head: Pfn, order: Order, owner: &impl Owner) -> Result<(), MergeError>;

    /// The raw put: gives back a pin after checking that there is one.
    fn raw_put(&self, page: Pfn, owner: &impl Owner) -> Result<(), Cause>;
    /// The raw free: drops the only reference to a block after checking order, generation and kind.
    fn raw_free(&self, head: Pfn, order: Order, generation: u8, owner: &impl Owner) -> Result<(), Cause>;
    /// Checks one live block at a quiet moment, calling `found` for each frame that is wrong. Returns how many
    /// of its pages are pinned.
    fn audit_block(&self, head: Pfn, order: Order, found: &mut dyn FnMut(Pfn, &'static str)) -> u64;
    /// Marks a frame that is in use so that it leaves service when freed. False if it is free.
    fn poison(&self, frame: Pfn, owner: &impl Owner) -> bool;
}
