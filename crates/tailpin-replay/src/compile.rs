//! From a trace to a [`Plan`]: every record is checked against those before it and given its
//! places.
//!
//! Two things need to know the future, and are patched into steps written earlier: a split that
//! only waited for a pin moves up to just before that pin went, and a page of a refused split that
//! is pinned again later was evidently still in use. Places handed out for such a step have never
//! been used before, so they are free at that time too.

use std::collections::BTreeMap;

use tailpin::{Order, PAGEBLOCK_FRAMES};

use super::model::{Home, Model};
use super::plan::{Plan, Reading, Refusal, Step};
use crate::trace::{FreeKind, Op, RecordFault, Trace, TraceError};

/// Most pieces that the splits of one trace may make in all.
const MAX_PIECES: usize = 1 << 26;

/// Numbered places, the most recently freed given out first.
#[derive(Default)]
struct Places {
    free: Vec<u32>,
    used: u32,
}

impl Places {
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| self.take_unused())
    }

    /// A place that nothing has been at yet.
    fn take_unused(&mut self) -> u32 {
        self.used += 1;
        self.used - 1
    }

    fn give(&mut self, place: u32) {
        self.free.push(place);
    }
}

/// A merged block: the trace still sees its pieces.
struct Merged {
    place: u32,
    base: u32,
    piece: Order,
}

/// What [`Refusal`] will say, while it can still change.
struct Refused {
    base: u32,
    pinned: Vec<u32>,
    kept: BTreeMap<u32, u32>,
}

struct Compiler {
    reading: Reading,
    model: Model,
    blocks: Places,
    cells: Places,
    merged: Vec<Merged>,
    refused: Vec<Refused>,
    families: u32,
    now_ns: u64,
    plan: Plan,
}

/// Works out the replay of `trace`.
///
/// # Errors
/// [`TraceError::Record`] for the first record that can't be, alone or after those before it.
pub fn compile(trace: &Trace, reading: Reading) -> Result<Plan, TraceError> {
    let mut compiler = Compiler {
        reading,
        model: Model::default(),
        blocks: Places::default(),
        cells: Places::default(),
        merged: Vec::new(),
        refused: Vec::new(),
        families: 0,
        now_ns: 0,
        plan: Plan::new(trace.duration_ns()),
    };
    for (index, record) in trace.records().enumerate() {
        let record = record?;
        compiler.now_ns += u64::from(record.dt);
        compiler.record(record.op).map_err(|fault| TraceError::Record {
            index: index as u64,
            of: trace.len() as u64,
            fault,
        })?;
        compiler.plan.records += 1;
    }
    Ok(compiler.finish())
}

impl Compiler {
    fn push(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    fn record(&mut self, op: Op) -> Result<(), RecordFault> {
        match op {
            Op::Alloc { pfn, order } => self.alloc(pfn, order)?,
            Op::Free { pfn, order, kind } => self.free(pfn, order, kind)?,
            Op::Split { pfn, order, to } => self.split(pfn, order, to)?,
            Op::Pin { pfn, refs } => self.pin(pfn, refs)?,
            Op::Unpin { pfn, refs } => self.unpin(pfn, refs)?,
            Op::Collapse { pfn } => self.collapse(pfn)?,
            Op::Time => self.push(Step::Nothing),
            Op::SplitFail { pfn, order } => self.refuse(pfn, order)?,
        }
        self.plan.timeline.note(self.now_ns, self.model.point());
        let (steps, intervals) = (self.plan.steps.len(), self.plan.timeline.points.len());
        self.plan.marks.resize(intervals, steps);
        if let Some(last) = self.plan.marks.last_mut() {
            *last = steps;
        }
        Ok(())
    }

    fn alloc(&mut self, pfn: u32, order: Order) -> Result<(), RecordFault> {
        let block = self.blocks.take();
        self.model.add(pfn, order, Home::Own(block))?;
        self.plan.largest = self.plan.largest.max(order);
        self.push(Step::Alloc { order, block });
        if self.model.frames() > self.plan.peak_frames {
            self.plan.peak_frames = self.model.frames();
            self.plan.peak_step = self.plan.steps.len() - 1;
        }
        Ok(())
    }

    fn free(&mut self, pfn: u32, order: Order, kind: FreeKind) -> Result<(), RecordFault> {
        let live_order = match kind {
            FreeKind::Larger => self.model.at("FREE", pfn)?.order,
            FreeKind::Seen | FreeKind::Implied => self.model.exact("FREE", pfn, order)?.order,
        };
        if live_order > order {
            return Err(RecordFault::WrongOrder { op: "FREE", pfn, order, live_order });
        }
        if let Some((pfn, pinned)) = self.model.pinned_within(pfn, order).next() {
            return Err(RecordFault::FreedWhilePinned { pfn, refs: pinned.refs });
        }
        let gone: Vec<u32> = self.model.within(pfn, order).map(|(pfn, _)| pfn).collect();
        for (nth, pfn) in gone.into_iter().enumerate() {
            self.free_one(pfn, nth == 0)?;
        }
        Ok(())
    }

    /// Lets go of what is left of one live block; only the first of a record stands for it.
    fn free_one(&mut self, pfn: u32, first: bool) -> Result<(), RecordFault> {
        self.unmerge(pfn)?;
        let Some(live) = self.model.remove(pfn) else { return Ok(()) };
        match live.home {
            Home::Own(block) => {
                self.push(if first { Step::Free { block } } else { Step::Drop { block } });
                self.blocks.give(block);
            }
            Home::Refused(refusal) => {
                let last = pfn + (live.order.frames() - 1) as u32;
                while let Some((&frame, &block)) =
                    self.refused[refusal as usize].kept.range(pfn..=last).next()
                {
                    self.refused[refusal as usize].kept.remove(&frame);
                    self.push(Step::Drop { block });
                    self.blocks.give(block);
                }
                if first {
                    self.push(Step::FreeNothing);
                }
            }
            Home::Merged(_) => unreachable!("unmerged above"),
        }
        Ok(())
    }

    fn split(&mut self, pfn: u32, order: Order, to: Order) -> Result<(), RecordFault> {
        self.model.exact("SPLIT", pfn, order)?;
        self.unmerge(pfn)?;
        let live = *self.model.exact("SPLIT", pfn, order)?;
        let count = 1 << (order.get() - to.get());
        let starts = (0..count).map(|piece| pfn + (piece << to.get()));
        match live.home {
            Home::Own(block) => {
                // Nothing is pinned now: the split may have waited for the last pin to go.
                let waited_for = live.last_unpin.filter(|_| live.pinned == 0 && !self.reading.as_recorded);
                let pieces = self.new_places(count, waited_for.is_some())?;
                match waited_for {
                    Some((step, time_ns)) => {
                        self.plan.steps[step as usize] = Step::Split { to, under_pins: true, block, pieces };
                        self.plan.waited_ns += self.now_ns - time_ns;
                        self.push(Step::Nothing);
                    }
                    None => self.push(Step::Split { to, under_pins: live.pinned > 0, block, pieces }),
                }
                self.blocks.give(block);
                self.families += 1;
                self.model.remove(pfn);
                for (nth, start) in starts.enumerate() {
                    let home = Home::Own(self.plan.places[pieces as usize + nth]);
                    self.model.insert_piece(start, to, home, Some(self.families))?;
                }
            }
            home => {
                // Linux refused this split before, and we did it then.
                self.push(Step::Nothing);
                self.model.remove(pfn);
                for start in starts {
                    self.model.insert_piece(start, to, home, None)?;
                }
            }
        }
        Ok(())
    }

    /// Places for the pieces of a split; returns where in [`Plan::places`] they are written.
    fn new_places(&mut self, count: u32, unused: bool) -> Result<u32, RecordFault> {
        let start = self.plan.places.len();
        if start + count as usize > MAX_PIECES {
            return Err(RecordFault::Beyond { what: "pieces of split blocks", limit: MAX_PIECES as u64 });
        }
        for _ in 0..count {
            let place = if unused { self.blocks.take_unused() } else { self.blocks.take() };
            self.plan.places.push(place);
        }
        Ok(start as u32)
    }

    fn pin(&mut self, frame: u32, refs: u16) -> Result<(), RecordFault> {
        let cell = self.model.pin(frame, refs, || self.cells.take())?;
        let (pfn, live) = self.model.around("PIN", frame)?;
        let (block, index) = match live.home {
            Home::Own(block) => (block, frame - pfn),
            Home::Merged(merged) => {
                let merged = &self.merged[merged as usize];
                (merged.place, frame - merged.base)
            }
            Home::Refused(refusal) => (self.keep(refusal, frame), 0),
        };
        self.push(Step::Pin { refs, block, index, cell });
        Ok(())
    }

    /// The page of a refused split that is pinned again: it stays with its owner, at this place.
    fn keep(&mut self, refusal: u32, frame: u32) -> u32 {
        let refused = &mut self.refused[refusal as usize];
        if let Some(&block) = refused.kept.get(&frame) {
            return block;
        }
        let block = self.blocks.take_unused();
        refused.kept.insert(frame, block);
        let refusal = &mut self.plan.refusals[refusal as usize];
        refusal.kept.push((frame - refused.base, block));
        refusal.freed -= u64::from(refused.pinned.binary_search(&frame).is_err());
        block
    }

    fn unpin(&mut self, frame: u32, refs: u16) -> Result<(), RecordFault> {
        let (cell, last) = self.model.unpin(frame, refs)?;
        let step = self.plan.steps.len() as u32;
        let now_ns = self.now_ns;
        let (_, live) = self.model.around("UNPIN", frame)?;
        if !self.reading.as_recorded && live.order > Order::PAGE && matches!(live.home, Home::Own(_)) {
            live.last_unpin = Some((step, now_ns));
            self.push(Step::Nothing);
        }
        self.push(Step::Unpin { refs, cell });
        if last {
            self.cells.give(cell);
        }
        Ok(())
    }

    fn collapse(&mut self, pfn: Option<u32>) -> Result<(), RecordFault> {
        let base = pfn.map(|pfn| pfn & !(PAGEBLOCK_FRAMES as u32 - 1));
        let pieces = base.filter(|_| self.reading.merges).and_then(|base| self.mergeable(base));
        let (Some(base), Some((piece, places))) = (base, pieces) else {
            self.push(Step::Collapse);
            return Ok(());
        };
        if self.plan.places.len() + places.len() > MAX_PIECES {
            return Err(RecordFault::Beyond { what: "pieces of split blocks", limit: MAX_PIECES as u64 });
        }
        let place = self.blocks.take();
        let step =
            Step::Merge { count: places.len() as u16, pieces: self.plan.places.len() as u32, block: place };
        self.push(step);
        self.plan.places.extend_from_slice(&places);
        places.into_iter().for_each(|place| self.blocks.give(place));
        let merged = self.merged.len() as u32;
        self.merged.push(Merged { place, base, piece });
        for (_, live) in self.model.within_mut(base, Order::HUGE) {
            live.home = Home::Merged(merged);
            live.last_unpin = None;
        }
        Ok(())
    }

    /// Order and places of the blocks in the pageblock at `base`, if together they are one former
    /// block, or an aligned part of one, and fill the pageblock.
    fn mergeable(&self, base: u32) -> Option<(Order, Vec<u32>)> {
        let mut blocks = self.model.within(base, Order::HUGE).peekable();
        let &(_, &first) = blocks.peek()?;
        let family = first.family?;
        if first.order >= Order::HUGE {
            return None;
        }
        let places: Option<Vec<u32>> = blocks
            .map(|(_, live)| match live.home {
                Home::Own(place) if live.family == Some(family) && live.order == first.order => Some(place),
                _ => None,
            })
            .collect();
        places
            .filter(|places| places.len() << first.order.get() == PAGEBLOCK_FRAMES)
            .map(|places| (first.order, places))
    }

    /// If the live block at `pfn` is part of a merged one, splits that again.
    fn unmerge(&mut self, pfn: u32) -> Result<(), RecordFault> {
        let &Home::Merged(merged) = &self.model.at("block", pfn)?.home else { return Ok(()) };
        let Merged { place, base, piece } = self.merged[merged as usize];
        let count = PAGEBLOCK_FRAMES as u32 >> piece.get();
        let pieces = self.new_places(count, false)?;
        self.push(Step::Unmerge { to: piece, block: place, pieces });
        self.blocks.give(place);
        let places = &self.plan.places[pieces as usize..];
        for ((_, live), &place) in self.model.within_mut(base, Order::HUGE).zip(places) {
            live.home = Home::Own(place);
        }
        Ok(())
    }

    fn refuse(&mut self, pfn: u32, order: Order) -> Result<(), RecordFault> {
        self.model.exact("SPLITFAIL", pfn, order)?;
        self.unmerge(pfn)?;
        let refusal = self.refused.len() as u32;
        let live = self.model.exact("SPLITFAIL", pfn, order)?;
        let Home::Own(block) = live.home else {
            self.push(Step::RefuseAgain);
            return Ok(());
        };
        live.home = Home::Refused(refusal);
        live.last_unpin = None;
        let pinned: Vec<u32> = self.model.pinned_within(pfn, order).map(|(frame, _)| frame).collect();
        self.plan.refusals.push(Refusal {
            freed: order.frames() - pinned.len() as u64,
            under_pins: !pinned.is_empty(),
            kept: Vec::new(),
        });
        self.refused.push(Refused { base: pfn, pinned, kept: BTreeMap::new() });
        self.push(Step::Refuse { block, refusal });
        self.blocks.give(block);
        Ok(())
    }

    fn finish(mut self) -> Plan {
        self.plan.frames_at_end = self
            .model
            .iter()
            .map(|(pfn, live)| match live.home {
                Home::Own(_) | Home::Merged(_) => live.order.frames(),
                Home::Refused(refusal) => {
                    let kept = &self.refused[refusal as usize].kept;
                    let last = pfn + (live.order.frames() - 1) as u32;
                    let pinned = self.model.pinned_within(pfn, live.order);
                    let pinned = pinned.filter(|(frame, _)| !kept.contains_key(frame)).count();
                    (kept.range(pfn..=last).count() + pinned) as u64
                }
            })
            .sum();
        self.plan.refusals.iter_mut().for_each(|refusal| refusal.kept.sort_unstable());
        self.plan.trace_frames_at_end = self.model.frames();
        self.plan.blocks = self.blocks.used as usize;
        self.plan.cells = self.cells.used as usize;
        self.plan
    }
}
