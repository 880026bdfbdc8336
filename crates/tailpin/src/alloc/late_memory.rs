//! Frames that enter service after the zone was made: memory that is found or plugged in later.
//!
//! A pageblock of which nothing is in service is *withheld*, and its page words are as they came.
//! All of it enters service in one step. If only a part does, the words of the other frames have to
//! say first that these are reserved, which one thread does; from then on each frame enters
//! service by a compare-and-swap on its own word.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::error::AddError;
use crate::frame::{FrameRange, Order, PAGEBLOCK_FRAMES, Pfn};
use crate::frame_mask::FrameMask;
use crate::page_state::Kind;
use crate::protocol::Protocol;

use super::allocator::Allocator;
use super::take_run::pageblocks_of;

impl<P: Protocol> Allocator<'_, P> {
    /// Puts frames into service that never were.
    pub(crate) fn add(&self, range: FrameRange) -> Result<(), AddError> {
        if !self.pool.span().holds(range) {
            return Err(AddError::NotInZone { range });
        }
        let in_service = |pageblock: Pfn| {
            let reserved = |frame: Pfn| matches!(self.protocol.state(frame).kind, Kind::Reserved);
            let mut frames = within(pageblock, range).iter();
            if self.pool.is_withheld(pageblock) { None } else { frames.find(|frame| !reserved(*frame)) }
        };
        match pageblocks_of(range).find_map(in_service) {
            Some(frame) => Err(AddError::InService { frame }),
            None => pageblocks_of(range)
                .try_for_each(|pageblock| self.add_in(pageblock, within(pageblock, range))),
        }
    }

    /// Has frames of one pageblock enter service.
    #[expect(clippy::arithmetic_side_effects, reason = "the frame lies in the pageblock")]
    fn add_in(&self, pageblock: Pfn, range: FrameRange) -> Result<(), AddError> {
        let id = self.pool.pageblock_of(pageblock);
        let all = range.frames() == PAGEBLOCK_FRAMES as u64;
        while self.pool.is_withheld(pageblock) {
            if all && self.pool.admit(id) {
                self.count_added(PAGEBLOCK_FRAMES as u64);
                return Ok(());
            }
            if self.pool.begin_opening(id) {
                let frames = FrameRange::block(pageblock, Order::HUGE);
                frames.iter().for_each(|frame| self.protocol.reserve(frame));
                self.pool.end_opening(id);
            } else if self.pool.is_opening(id) {
                return Err(AddError::Busy { frame: range.start });
            }
        }
        let mut entered = FrameMask::NONE;
        let not_ours = range.iter().find(|frame| {
            let is_ours = self.protocol.enter_service(*frame, Kind::Reserved);
            if is_ours {
                entered.insert(frame.get() - pageblock.get());
            }
            !is_ours
        });
        self.count_added(entered.count());
        self.given(pageblock, Order::PAGE, self.pool.give_some(pageblock, &entered));
        not_ours.map_or(Ok(()), |frame| Err(AddError::InService { frame }))
    }

    fn count_added(&self, frames: u64) {
        // Relaxed: a statistic.
        self.added.fetch_add(frames, Ordering::Relaxed);
    }
}

/// The frames of a pageblock that are in `range`, which has some of it.
fn within(pageblock: Pfn, range: FrameRange) -> FrameRange {
    let end = pageblock.offset(PAGEBLOCK_FRAMES as u64);
    FrameRange { start: range.start.max(pageblock), end: range.end.min(end) }
}
