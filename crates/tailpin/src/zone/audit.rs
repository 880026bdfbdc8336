//! The audit: at a quiet moment, proof that nothing is lost and nothing is there twice.

use core::fmt;

use crate::frame::{FrameRange, Order, Pfn};
use crate::page_state::Kind;
use crate::protocol::Protocol;
use crate::zone::Zone;

/// Findings kept with their frame; more are only counted.
const KEPT: usize = 16;

/// Something that is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The frame.
    pub frame: Pfn,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {}: {}", self.frame, self.what)
    }
}

/// What an audit counted and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Frames of the span, holes included.
    pub frames: u64,
    /// Free frames.
    pub free: u64,
    /// Frames that are pages of their own.
    pub pages: u64,
    /// Blocks of order 1 and above.
    pub blocks: u64,
    /// Frames in those blocks.
    pub block_frames: u64,
    /// Frames with at least one pin.
    pub pinned: u64,
    /// Frames that were never in service.
    pub reserved: u64,
    /// Frames that have left service.
    pub set_aside: u64,
    found: u64,
    kept: [Option<Finding>; KEPT],
}

impl Audit {
    /// How many things are wrong; 0 is the only good answer.
    pub fn violations(&self) -> u64 {
        self.found
    }

    /// The first findings, in words.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.kept.iter().flatten()
    }

    #[expect(clippy::arithmetic_side_effects, reason = "no more than the zone has frames")]
    fn note(&mut self, frame: Pfn, what: &'static str) {
        if let Some(place) = self.kept.iter_mut().find(|place| place.is_none()) {
            *place = Some(Finding { frame, what });
        }
        self.found += 1;
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames: {} free, {} pages, {} in {} blocks, {} pinned, {} reserved, {} set aside, {} violations",
            self.frames,
            self.free,
            self.pages,
            self.block_frames,
            self.blocks,
            self.pinned,
            self.reserved,
            self.set_aside,
            self.found
        )?;
        self.findings().try_for_each(|finding| write!(f, "\n  {finding}"))
    }
}

#[expect(clippy::arithmetic_side_effects, reason = "no more than the zone has frames")]
pub(crate) fn audit<P: Protocol>(zone: &Zone<'_, P>) -> Audit {
    let mut audit = Audit::default();
    let span = zone.span();
    audit.frames = span.frames();
    zone.drain();
    let mut at = span.start;
    while span.contains(at) {
        if at.is_aligned(Order::HUGE) {
            let pageblock = zone.pool().pageblock_of(at);
            if let Some(fault) = zone.pool().fault(pageblock) {
                audit.note(at, fault);
            }
        }
        at = at.offset(audit_at(zone, at, &mut audit));
    }
    let sum = audit.free + audit.pages + audit.block_frames + audit.reserved + audit.set_aside;
    if sum != audit.frames {
        audit.note(span.start, "the frames do not add up");
    }
    if audit.set_aside != zone.set_aside_frames() {
        audit.note(span.start, "the number of frames set aside is wrong");
    }
    audit
}

/// One frame or block; returns how many frames it is.
#[expect(clippy::arithmetic_side_effects, reason = "no more than the zone has frames")]
fn audit_at<P: Protocol>(zone: &Zone<'_, P>, at: Pfn, audit: &mut Audit) -> u64 {
    let state = zone.protocol().state(at);
    let used = zone.pool().is_used(at);
    match state.kind {
        Kind::Page | Kind::Head | Kind::Splitting | Kind::Merging => {
            let frames = FrameRange::block(at, state.order);
            if frames.end > zone.span().end || !at.is_aligned(state.order) {
                audit.note(at, "a block is misaligned or leaves the zone");
                return 1;
            }
            if let Some(frame) = frames.iter().find(|frame| !zone.pool().is_used(*frame)) {
                audit.note(frame, "a frame in use is free for the allocator");
            }
            if state.refs == 0 && state.pins == 0 {
                audit.note(at, "a block without references or pins was not freed");
            }
            audit.pinned +=
                zone.protocol().audit_block(at, state.order, &mut |frame, what| audit.note(frame, what));
            if state.order == Order::PAGE {
                audit.pages += 1;
            } else {
                audit.blocks += 1;
                audit.block_frames += frames.frames();
            }
            frames.frames()
        }
        Kind::Reserved | Kind::Offline => {
            if !used {
                audit.note(at, "a frame out of service is free for the allocator");
            }
            match state.kind {
                Kind::Reserved => audit.reserved += 1,
                _ => audit.set_aside += 1,
            }
            1
        }
        Kind::Implicit | Kind::Free | Kind::Tail => {
            if state.pins > 0 {
                audit.note(at, "a frame outside every block is pinned");
            }
            if !used {
                audit.free += 1;
            } else if zone.pool().is_withheld(at) {
                audit.reserved += 1;
            } else {
                audit.note(at, "a frame is lost: in use for the allocator, in no block");
            }
            1
        }
    }
}
