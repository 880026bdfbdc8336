//! The trace's own world: which blocks it has live and which frames pinned. Whatever can't follow
//! from what came before is refused.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use tailpin::Order;

use crate::trace::RecordFault;

/// Most blocks live at once. Bounds the memory a hostile trace can ask for, as do the following.
const MAX_LIVE_BLOCKS: u64 = 1 << 24;
/// Most frames live at once: 256 GiB of memory.
const MAX_LIVE_FRAMES: u64 = 1 << 26;
/// Most references held at once.
const MAX_HELD_REFS: u64 = 1 << 22;

/// Where a live block of the trace is with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// A block of ours, at this place.
    Own(u32),
    /// Part of this merged block.
    Merged(u32),
    /// Part of a block whose split Linux refused and we carried out: only what this refusal kept is
    /// left.
    Refused(u32),
}

/// A live block of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) order: Order,
    pub(crate) home: Home,
    /// The split it came from, if any: pieces with the same number lie side by side with us too.
    pub(crate) family: Option<u32>,
    /// How many of its frames are pinned.
    pub(crate) pinned: u32,
    /// Step and time of the last unpin of one of its frames.
    pub(crate) last_unpin: Option<(u32, u64)>,
}

/// Pins on one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    /// Place of its references.
    pub(crate) cell: u32,
    /// How many.
    pub(crate) refs: u64,
}

/// All live blocks and pinned frames.
#[derive(Debug, Default)]
pub(crate) struct Model {
    live: BTreeMap<u32, Live>,
    pins: BTreeMap<u32, Pinned>,
    frames: u64,
    huge_frames: u64,
    pinned_blocks: u64,
    held_refs: u64,
}

/// Frame numbers of the block of `order` at `pfn`.
fn span(pfn: u32, order: Order) -> RangeInclusive<u32> {
    pfn..=pfn + (order.frames() - 1) as u32
}

impl Model {
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    pub(crate) fn point(&self) -> super::timeline::Point {
        super::timeline::Point {
            frames: self.frames,
            huge_frames: self.huge_frames,
            pinned_frames: self.pins.len() as u64,
            pinned_blocks: self.pinned_blocks,
        }
    }

    /// All live blocks, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Live)> {
        self.live.iter().map(|(&pfn, live)| (pfn, live))
    }

    /// The live blocks that begin in the span of `order` at `pfn`, ascending.
    pub(crate) fn within(&self, pfn: u32, order: Order) -> impl Iterator<Item = (u32, &Live)> {
        self.live.range(span(pfn, order)).map(|(&pfn, live)| (pfn, live))
    }

    /// The live blocks that begin in the span of `order` at `pfn`, to be changed.
    pub(crate) fn within_mut(&mut self, pfn: u32, order: Order) -> impl Iterator<Item = (u32, &mut Live)> {
        self.live.range_mut(span(pfn, order)).map(|(&pfn, live)| (pfn, live))
    }

    /// The pinned frames in the span of `order` at `pfn`, ascending.
    pub(crate) fn pinned_within(&self, pfn: u32, order: Order) -> impl Iterator<Item = (u32, Pinned)> {
        self.pins.range(span(pfn, order)).map(|(&pfn, &pinned)| (pfn, pinned))
    }

    /// The live block that begins at `pfn`, of whatever order.
    pub(crate) fn at(&self, op: &'static str, pfn: u32) -> Result<&Live, RecordFault> {
        self.live.get(&pfn).ok_or(RecordFault::NotLive { op, pfn })
    }

    /// The live block that begins at `pfn`, which must have this order.
    pub(crate) fn exact(
        &mut self,
        op: &'static str,
        pfn: u32,
        order: Order,
    ) -> Result<&mut Live, RecordFault> {
        match self.live.get_mut(&pfn) {
            None => Err(RecordFault::NotLive { op, pfn }),
            Some(live) if live.order != order => {
                Err(RecordFault::WrongOrder { op, pfn, order, live_order: live.order })
            }
            Some(live) => Ok(live),
        }
    }

    /// The live block that `frame` lies in.
    pub(crate) fn around(&mut self, op: &'static str, frame: u32) -> Result<(u32, &mut Live), RecordFault> {
        match self.live.range_mut(..=frame).next_back() {
            Some((&pfn, live)) if span(pfn, live.order).contains(&frame) => Ok((pfn, live)),
            _ => Err(RecordFault::NotLive { op, pfn: frame }),
        }
    }

    /// A block is born.
    pub(crate) fn add(&mut self, pfn: u32, order: Order, home: Home) -> Result<(), RecordFault> {
        let span = span(pfn, order);
        if let Some((&live, &Live { order: live_order, .. })) = self.live.range(..=*span.end()).next_back()
            && live + (live_order.frames() - 1) as u32 >= pfn
        {
            return Err(RecordFault::OverLive { pfn, order, live, live_order });
        }
        if self.frames + order.frames() > MAX_LIVE_FRAMES {
            return Err(RecordFault::Beyond { what: "frames live at once", limit: MAX_LIVE_FRAMES });
        }
        self.insert(pfn, Live { order, home, family: None, pinned: 0, last_unpin: None })
    }

    /// A block goes, or is about to be replaced by its pieces.
    pub(crate) fn remove(&mut self, pfn: u32) -> Option<Live> {
        let live = self.live.remove(&pfn)?;
        self.frames -= live.order.frames();
        if live.order >= Order::HUGE {
            self.huge_frames -= live.order.frames();
        }
        if live.order > Order::PAGE && live.pinned > 0 {
            self.pinned_blocks -= 1;
        }
        Some(live)
    }

    /// A piece of a split block; its pins are counted here.
    pub(crate) fn insert_piece(
        &mut self,
        pfn: u32,
        order: Order,
        home: Home,
        family: Option<u32>,
    ) -> Result<(), RecordFault> {
        let pinned = self.pinned_within(pfn, order).count() as u32;
        self.insert(pfn, Live { order, home, family, pinned, last_unpin: None })
    }

    fn insert(&mut self, pfn: u32, live: Live) -> Result<(), RecordFault> {
        if self.live.len() as u64 >= MAX_LIVE_BLOCKS {
            return Err(RecordFault::Beyond { what: "blocks live at once", limit: MAX_LIVE_BLOCKS });
        }
        self.frames += live.order.frames();
        if live.order >= Order::HUGE {
            self.huge_frames += live.order.frames();
        }
        if live.order > Order::PAGE && live.pinned > 0 {
            self.pinned_blocks += 1;
        }
        self.live.insert(pfn, live);
        Ok(())
    }

    /// References are taken on a frame of a live block; `cell` gives the place for a frame that had
    /// none.
    pub(crate) fn pin(
        &mut self,
        frame: u32,
        refs: u16,
        cell: impl FnOnce() -> u32,
    ) -> Result<u32, RecordFault> {
        if self.held_refs + u64::from(refs) > MAX_HELD_REFS {
            return Err(RecordFault::Beyond { what: "references held at once", limit: MAX_HELD_REFS });
        }
        let fresh = !self.pins.contains_key(&frame);
        let (_, live) = self.around("PIN", frame)?;
        if fresh {
            live.pinned += 1;
            let first = live.pinned == 1 && live.order > Order::PAGE;
            self.pinned_blocks += u64::from(first);
        }
        let pinned = self.pins.entry(frame).or_insert_with(|| Pinned { cell: cell(), refs: 0 });
        pinned.refs += u64::from(refs);
        self.held_refs += u64::from(refs);
        Ok(pinned.cell)
    }

    /// References on a frame are dropped; says where they are kept and whether they were the last.
    pub(crate) fn unpin(&mut self, frame: u32, refs: u16) -> Result<(u32, bool), RecordFault> {
        let held = self.pins.get(&frame).map_or(0, |pinned| pinned.refs);
        if held < u64::from(refs) {
            return Err(RecordFault::NotPinned { pfn: frame, refs, held });
        }
        self.held_refs -= u64::from(refs);
        if held > u64::from(refs) {
            let pinned = self.pins.get_mut(&frame).expect("looked up above");
            pinned.refs -= u64::from(refs);
            return Ok((pinned.cell, false));
        }
        let pinned = self.pins.remove(&frame).expect("looked up above");
        let (_, live) = self.around("UNPIN", frame)?;
        live.pinned -= 1;
        if live.pinned == 0 && live.order > Order::PAGE {
            self.pinned_blocks -= 1;
        }
        Ok((pinned.cell, true))
    }
}
