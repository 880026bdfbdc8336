//! Exact accounts: every frame in use has an owner, found by walking everything that can own one.
//!
//! Owned are page tables, what their leaves map, what is in the page caches of objects, what is
//! pinned, and the one or two pages of zeroes of the `Mm`. A frame that is in use and none of these
//! is lost; a frame that is one of these and not in use was given back too early. So it is checked
//! to the page that what has no other owner is free on return.

#![allow(dead_code, unreachable_pub)] // Each test that uses it uses a part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::{Order, Pfn, Zone};
use tailpin_mm::arch::{Arch, Flags, TableEntry, X86_64};
use tailpin_mm::{DirectMap, Env, Level, Object, Pins, Space};

/// The entries of a page table.
pub fn entries(env: &impl DirectMap, table: Pfn) -> &[AtomicU64; 512] {
    // SAFETY: the environment gives 4096 aligned bytes for every frame of the zone, which a table
    // is, and they are accessed as atomic words only, here and by the crate.
    unsafe { env.frame(table).cast::<[AtomicU64; 512]>().as_ref() }
}

/// References and pins on a frame, as the zone has them; `None` if it is free.
fn counts(zone: &Zone<'_>, frame: Pfn) -> Option<u64> {
    let (head, _) = zone.head_of(frame)?;
    Some(zone.state(head)?.refs + zone.pins_of(frame)?)
}

/// Frames, by what owns them.
#[derive(Default)]
pub struct Accounts {
    tables: BTreeSet<Pfn>,
    /// Each frame of memory, and how many counts there are on it: leaves, a cache's reference,
    /// pins.
    memory: BTreeMap<Pfn, u64>,
    /// Those in hugetlb blocks that are pinned: whether by pins on the head or by a reference can't
    /// be told from outside.
    pinned_hugetlb: BTreeSet<Pfn>,
}

impl Accounts {
    /// A space: its tables and what they map.
    pub fn space<E: Env>(&mut self, env: &impl DirectMap, space: &Space<'_, E>) {
        self.table(env, space.load().root(), <X86_64 as Arch>::TOP);
    }

    fn table(&mut self, env: &impl DirectMap, table: Pfn, level: Level) {
        assert!(self.tables.insert(table), "{table} is a page table in two places");
        for entry in entries(env, table) {
            match X86_64::decode(level, entry.load(Ordering::Acquire)) {
                TableEntry::Empty => {}
                TableEntry::Table(below) => {
                    let levels = [Level::PTE, Level::PMD, Level::PUD, Level::P4D];
                    self.table(env, below, levels[usize::from(level.get()) - 1]);
                }
                TableEntry::Leaf(leaf) if leaf.flags.has(Flags::ZERO) => {}
                TableEntry::Leaf(leaf) => self.block(leaf.frame, level.order()),
            }
        }
    }

    /// An object: what is in its cache.
    pub fn object<E: Env>(&mut self, object: &Object<'_, E>) {
        for (_, head, order) in object.blocks() {
            self.block(head, order);
        }
    }

    /// Pins; a pin into a hugetlb block keeps the block. Which of the pages lie in one is the
    /// caller's to know.
    pub fn pins<E: Env>(&mut self, pins: &Pins<'_, E>, hugetlb: impl Fn(usize) -> bool) {
        for (page, frame) in pins.frames().enumerate() {
            if hugetlb(page) {
                let head = frame.head(Order::HUGE);
                self.block(head, Order::HUGE);
                self.pinned_hugetlb.extend((0..Order::HUGE.frames()).map(|i| head.offset(i)));
            } else {
                self.count(frame);
            }
        }
    }

    fn block(&mut self, head: Pfn, order: Order) {
        (0..order.frames()).for_each(|i| self.count(head.offset(i)));
    }

    fn count(&mut self, frame: Pfn) {
        *self.memory.entry(frame).or_default() += 1;
    }

    /// Page tables found.
    pub fn tables(&self) -> u64 {
        self.tables.len() as u64
    }

    /// Frames of the page tables found.
    pub fn table_frames(&self) -> impl Iterator<Item = Pfn> {
        self.tables.iter().copied()
    }

    /// Compares the accounts with the zone, while no other thread is at work.
    pub fn settle(self, zone: &Zone<'_>) {
        for frame in &self.tables {
            assert!(!self.memory.contains_key(frame), "page table {frame} is mapped as memory");
            assert_eq!(counts(zone, *frame), Some(1), "page table {frame} has one owner");
        }
        for (frame, expected) in &self.memory {
            let found = counts(zone, *frame);
            assert!(found.is_some(), "{frame} is in use and free");
            if !self.pinned_hugetlb.contains(frame) {
                assert_eq!(found, Some(*expected), "counts on {frame}");
            }
        }
        let found = (self.tables.len() + self.memory.len()) as u64;
        let used = zone.used_frames();
        let zeroes = used.wrapping_sub(found);
        assert!(
            zeroes == 1 || zeroes == 1 + Order::HUGE.frames(),
            "{used} frames are in use, {} as page tables, {} as memory, 1 or 513 as zeroes",
            self.tables.len(),
            self.memory.len(),
        );
        let audit = zone.audit();
        assert_eq!(audit.violations(), 0, "{audit}");
        assert_eq!(zone.set_aside_frames(), 0, "a misuse was reported: {audit}");
    }
}
