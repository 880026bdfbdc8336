//! What a replay does, step by step, worked out before the clock starts.
//!
//! A trace names frames; a plan names numbered places. Each live block has one place and each
//! pinned frame another, so that the timed part is calls into the library and nothing else: no map
//! from frame numbers is searched in it.

use tailpin::Order;

use super::timeline::Timeline;

/// One step. Those marked *extra* stand for no record of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Allocates a block and keeps it at `block`.
    Alloc { order: Order, block: u32 },
    /// Lets go of the block at `block`.
    Free { block: u32 },
    /// A FREE of something of which nothing is left.
    FreeNothing,
    /// Extra: lets go of the block at `block`.
    Drop { block: u32 },
    /// Splits the block at `block` into pieces, which go to the places in [`Plan::places`] from
    /// `pieces` on.
    Split { to: Order, under_pins: bool, block: u32, pieces: u32 },
    /// Extra: splits a merged block again, because the trace goes on to treat its pieces one by
    /// one.
    Unmerge { to: Order, block: u32, pieces: u32 },
    /// Takes `refs` pins on page `index` of the block at `block` and keeps them in `cell`.
    Pin { refs: u16, block: u32, index: u32, cell: u32 },
    /// Drops `refs` of the pins in `cell`.
    Unpin { refs: u16, cell: u32 },
    /// A COLLAPSE where there is nothing to merge.
    Collapse,
    /// A COLLAPSE that merges `count` pieces, whose places begin at `pieces`, into one block kept
    /// at `block`.
    Merge { count: u16, pieces: u32, block: u32 },
    /// A split that Linux refused: carried out as [`Plan::refusals`] says.
    Refuse { block: u32, refusal: u32 },
    /// A split that was refused before is refused once more.
    RefuseAgain,
    /// Nothing: time passed, or what the record says was done before.
    Nothing,
}

const _: () = assert!(size_of::<Step>() == 16, "a step is read once per event: keep it small");

/// A split that Linux refused and this library carries out: the owner's reference to the block is
/// dropped and every page that has no pin is free at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Frames of the block that are free from this moment on.
    pub(crate) freed: u64,
    /// Whether any page of it was pinned.
    pub(crate) under_pins: bool,
    /// Pages that are pinned again later, so evidently still in use: index in the block and place,
    /// ascending.
    pub(crate) kept: Vec<(u32, u32)>,
}

/// All steps of one trace, and what they need and should lead to.
#[derive(Debug)]
pub struct Plan {
    /// In the order of the trace.
    pub(crate) steps: Vec<Step>,
    /// Where the pieces of splits and merges go.
    pub(crate) places: Vec<u32>,
    /// What [`Step::Refuse`] does.
    pub(crate) refusals: Vec<Refusal>,
    /// How many places for blocks.
    pub(crate) blocks: usize,
    /// How many places for pins of one frame.
    pub(crate) cells: usize,
    /// Records of the trace.
    pub(crate) records: u64,
    /// Number of the step after which most frames are live.
    pub(crate) peak_step: usize,
    /// How many that are.
    pub(crate) peak_frames: u64,
    /// Order of the largest block.
    pub(crate) largest: Order,
    /// Frames that the trace leaves live.
    pub(crate) trace_frames_at_end: u64,
    /// Frames that the replay leaves in use: fewer if Linux refused splits.
    pub(crate) frames_at_end: u64,
    /// By how much splits come earlier than Linux did them, in all.
    pub(crate) waited_ns: u64,
    /// How many steps are done at the end of each interval of the timeline.
    pub(crate) marks: Vec<usize>,
    /// Course of the trace, for the report.
    pub timeline: Timeline,
}

impl Plan {
    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// How many records of the trace they stand for.
    pub fn events(&self) -> u64 {
        self.records
    }

    /// A plan of nothing, for a trace of this duration.
    pub(crate) fn new(duration_ns: u64) -> Self {
        Self {
            steps: Vec::new(),
            places: Vec::new(),
            refusals: Vec::new(),
            blocks: 0,
            cells: 0,
            records: 0,
            peak_step: 0,
            peak_frames: 0,
            largest: Order::PAGE,
            trace_frames_at_end: 0,
            frames_at_end: 0,
            waited_ns: 0,
            marks: Vec::new(),
            timeline: Timeline::new(duration_ns),
        }
    }
}

/// How to read a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Splits happen where they were recorded, not where only a pin stood against them.
    pub as_recorded: bool,
    /// The protocol can merge.
    pub merges: bool,
}
