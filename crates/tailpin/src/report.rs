//! Misuse: what was done to which frame, what state it was in, and why that is wrong.

use core::fmt;

use crate::frame::{Order, Pfn};
use crate::page_state::PageState;

/// The operation during which a misuse was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Taking a reference or pin that the caller must already have one of.
    Get,
    /// Giving back a pin.
    Put,
    /// Giving back references to a whole block.
    PutBlock,
    /// Freeing a block through its raw token.
    Free,
    /// Making a handle of a raw token.
    Adopt,
    /// Handing out a frame.
    Allocate,
    /// Splitting a block.
    Split,
    /// Merging blocks.
    Merge,
}

/// Why an operation is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The frame is free: no caller can have had a reference to give back.
    FrameIsFree,
    /// The frame has no pin to give back.
    NotPinned,
    /// The block has fewer references than were given back.
    TooFewReferences,
    /// The token says this order, the frame heads a block of another.
    WrongOrder {
        /// The order the caller believes in.
        claimed: Order,
    },
    /// The frame lies inside a live block and can't be freed alone.
    InsideBlock {
        /// Head of that block.
        head: Pfn,
        /// Its order.
        order: Order,
    },
    /// The token is of an earlier generation of this frame: its block was freed, merged or adopted
    /// since.
    StaleToken {
        /// The generation the token was made in.
        claimed: u8,
    },
    /// The block has other references, so it can't be freed outright or adopted.
    StillReferenced,
    /// The block is being merged: its only reference is in use elsewhere.
    BeingMerged,
    /// The frame is not in a state in which the allocator may hand it out.
    BadState,
    /// The allocator already has this frame.
    AlreadyFree,
    /// The frame belongs to no zone, or lies in a hole of one.
    NotInZone,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameIsFree => write!(f, "the frame is free"),
            Self::NotPinned => write!(f, "the frame has no pin to give back"),
            Self::TooFewReferences => write!(f, "the block has fewer references than were given back"),
            Self::WrongOrder { claimed } => write!(f, "the frame heads no block of order {claimed}"),
            Self::InsideBlock { head, order } => {
                write!(f, "the frame lies inside the live block {head} of order {order}")
            }
            Self::StaleToken { claimed } => {
                write!(f, "the token is of another generation of the frame ({claimed})")
            }
            Self::StillReferenced => write!(f, "the block has other references"),
            Self::BeingMerged => write!(f, "the block is being merged"),
            Self::BadState => write!(f, "the state is not one that may be handed out"),
            Self::AlreadyFree => write!(f, "the allocator already has the frame"),
            Self::NotInZone => write!(f, "the frame belongs to no range of the zone"),
        }
    }
}

/// One misuse, as handed to the zone's [`Sink`] and returned by the raw interface (the kernel's
/// `bad_page`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Misuse {
    /// The frame it was done to.
    pub frame: Pfn,
    /// What the frame was at that moment.
    pub state: PageState,
    /// What was being done.
    pub operation: Operation,
    /// Why that is wrong.
    pub cause: Cause,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad page {} ({}): {:?}: {}", self.frame, self.state, self.operation, self.cause)
    }
}

impl core::error::Error for Misuse {}

/// Receives each misuse as it is found. The frame leaves service, but for what
/// [`ask_again`](Self::ask_again) tells.
///
/// Called from inside whatever operation found it, so it must not call back into the zone.
pub trait Sink: Sync {
    /// One misuse was found.
    fn misuse(&self, misuse: &Misuse);

    /// Whether a misused frame leaves service is not certain, as of a request that is answered
    /// [`SetAside::AskAgain`](crate::SetAside::AskAgain): it is to be
    /// [set aside](crate::Zone::set_aside) once more, from outside the call that found the misuse.
    /// Comes after the call of [`misuse`](Self::misuse); does nothing unless it is implemented.
    fn ask_again(&self, frame: Pfn) {
        let _ = frame;
    }
}

impl<F: Fn(&Misuse) + Sync> Sink for F {
    fn misuse(&self, misuse: &Misuse) {
        self(misuse);
    }
}
