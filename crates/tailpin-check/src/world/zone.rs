//! The same world with the allocator over it, whose own words are explored too.
//!
//! A role acts on a [`Zone`] made of the execution's words. Making one writes nothing that is not
//! there already, so each role makes its own, unscheduled, and all of them are the same zone.

use tailpin::{FrameRange, Misuse, Order, Pfn, RawBlock, Request, Sink, Zone, ZoneConfig, ZoneLayout};

use super::{World, o};
use crate::engine::{Engine, enter_role, role};
use crate::family::Family;
use crate::trace::{self, Name, violation};
use crate::word::{CheckWord, unscheduled};

/// Of a slot, the words at its beginning that are explored: the group it answers for among them.
/// The stack of places to look at, which may be wrong anyhow, is not.
const SLOT_EXPLORED: usize = 3;

fn layout(ranges: &[FrameRange; 1], slots: usize) -> ZoneLayout<'_> {
    ZoneLayout::new(ranges, slots).expect("a scenario's zone has frames")
}

fn hex(value: u64) -> String {
    if value < 10 { value.to_string() } else { format!("{value:#x}") }
}

/// The words of a zone's allocator, named for what they are: bits and homes of areas, hints, slots.
/// Of areas, those over frames that are explored are so too.
pub(super) fn allocator_words<E: Engine>(
    frames: u64,
    explored: fn(u64) -> bool,
    slots: usize,
) -> Vec<CheckWord<E>> {
    let ranges = [FrameRange::new(Pfn::new(0), frames)];
    let all = layout(&ranges, slots).area_words();
    let slot = layout(&ranges, 2).area_words() - layout(&ranges, 1).area_words();
    let (areas, slots_at) = (frames as usize / 512, all - slots * slot);
    let meets = |mut frames: std::ops::Range<u64>| frames.any(explored);
    (0..all)
        .map(|index| {
            let (field, number, explored) = match index {
                i if i < areas * 8 => ("bits", i, meets(i as u64 * 64..(i as u64 + 1) * 64)),
                i if i < areas * 9 => {
                    let area = i - areas * 8;
                    ("home", area, meets(area as u64 * 512..(area as u64 + 1) * 512))
                }
                i if i < slots_at => ("hint", i - areas * 9, true),
                i => ("slot", i - slots_at, (i - slots_at) % slot < SLOT_EXPLORED),
            };
            let name = Name { frame: number as u32, field, decode: hex };
            if explored { CheckWord::explored(name) } else { CheckWord::plain(name) }
        })
        .collect()
}

impl<E: Engine, F: Family<CheckWord<E>>> World<E, F> {
    /// Runs `body` on the zone of this execution.
    pub(crate) fn with_zone<T>(&self, body: impl FnOnce(&Zone<'_, F::Over<'_>>) -> T) -> T {
        let ranges = [FrameRange::new(Pfn::new(0), self.memory.len() as u64)];
        let config = ZoneConfig::default().sink(self).cpu(role);
        let zone = unscheduled(|| Zone::new(layout(&ranges, self.slots), config, &self.words, &self.areas));
        body(&zone.expect("words for the zone are there"))
    }

    /// A block from the allocator, if it has one. Its frames must be nobody's.
    pub(crate) fn take(&self, order: u8) -> Option<RawBlock> {
        let block = self.with_zone(|zone| zone.raw().alloc(Request::new(o(order)))).ok()?;
        self.taken(&block);
        Some(block)
    }

    /// Up to `n` pages of one request for so many.
    pub(crate) fn take_many(&self, n: usize) -> Vec<RawBlock> {
        self.with_zone(|zone| {
            let pages = zone.alloc_many(Request::new(Order::PAGE), n).map(|page| page.into_raw());
            pages.inspect(|page| self.taken(page)).collect()
        })
    }

    /// What the allocator handed out was nobody's.
    fn taken(&self, block: &RawBlock) {
        trace::note(|| format!("gets block {}, order {}", block.pfn(), block.order()));
        for frame in block.frames().iter().map(Pfn::get) {
            let twice = std::mem::replace(&mut self.ledger()[frame as usize].used, true);
            if twice {
                violation(format!("frame {frame} was handed out twice"));
            }
            self.write(frame);
        }
    }

    /// Gives a block back, and its frames with it.
    pub(crate) fn give(&self, block: RawBlock) {
        for frame in block.frames().iter().map(Pfn::get) {
            self.write(frame);
            self.ledger()[frame as usize].used = false;
        }
        trace::note(|| format!("gives back block {}, order {}", block.pfn(), block.order()));
        if let Err(misuse) = self.with_zone(|zone| zone.raw().put_many(block, 1)) {
            violation(format!("block {} is in the zone, but: {misuse}", block.pfn()));
        }
    }

    /// In the set-up: does something as this role would, at its slot.
    pub(crate) fn as_role(&self, as_role: usize, act: impl FnOnce(&Self)) {
        let before = role();
        enter_role(as_role);
        act(self);
        enter_role(before);
    }

    /// Takes blocks of these orders and keeps them.
    pub(crate) fn occupy(&self, orders: impl IntoIterator<Item = u8>) {
        for order in orders {
            let block = self.take(order).expect("the set-up asks for what there is");
            self.keep_block(block);
        }
    }

    /// Keeps a block for later.
    pub(crate) fn keep_block(&self, block: RawBlock) {
        self.blocks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(block);
    }

    /// Gives back the block that was kept last, if there is any.
    pub(crate) fn give_kept(&self) -> bool {
        let block = self.blocks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        block.is_some_and(|block| {
            self.give(block);
            true
        })
    }

    /// At a quiet moment the allocator's words agree with each other and with the pages.
    pub(crate) fn audit_allocator(&self) {
        let audit = self.with_zone(|zone| zone.audit());
        if audit.violations() > 0 {
            violation(format!("the audit found: {audit}"));
        }
    }

    /// Whatever is left is given back; then every frame must be free, and every area whole.
    pub(super) fn audit_zone(&self) {
        while self.give_kept() {}
        self.audit_allocator();
        self.with_zone(|zone| {
            let audit = zone.audit();
            let areas = audit.frames / 512;
            if (audit.free, zone.free_areas()) != (audit.frames, areas) {
                violation(format!("not everything came back: {audit}"));
            }
        });
        // The summaries have to lead to every frame: all of it can be had again.
        let all: Vec<_> = std::iter::from_fn(|| self.take(9)).collect();
        if all.len() as u64 != self.memory.len() as u64 / 512 {
            violation(format!("of the free areas only {} are found", all.len()));
        }
        all.into_iter().for_each(|block| self.give(block));
        // Loose ones too: what is free is as it was.
        self.with_zone(|zone| zone.drain());
    }
}

impl<E: Engine, F> Sink for World<E, F> {
    fn misuse(&self, misuse: &Misuse) {
        violation(format!("reported as misuse: frame {}: {misuse}", misuse.frame.get()));
    }
}
