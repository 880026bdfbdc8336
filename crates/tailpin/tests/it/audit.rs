//! The audit finds what is planted, says it of the right frame, and counts what is pinned; where
//! nothing is planted it finds nothing.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::common::NoMisuse;
use tailpin::{
    BlockLife, Class, Finding, FrameRange, FrameWords, OneWord, Order, PagePin, Pfn, Pins, SetAside, Zone,
    ZoneConfig, ZoneLayout, ZoneMemory,
};

// Fields of the page word, as its module draws them.
const PIN: u64 = 1;
const REF: u64 = 1 << 24;
const POISONED: u64 = 1 << 49;
const RECORDED: u64 = 1 << 51;
const ORDER: u64 = 1 << 56;
const KIND: u64 = 1 << 61;
/// From a tail to a free frame.
const FREE: u64 = KIND;
const OUT: u64 = 2 * KIND;
/// From a head to one that is being split; the kinds go round.
const SPLITTING: u64 = 5 * KIND;
/// From a head to one that is being merged.
const MERGING: u64 = 7 * KIND;
const HEAD: u64 = 6 * KIND;
/// From a head to one of a block that never splits.
const UNSPLITTABLE: u64 = KIND;

const SPLIT_OR_MERGE: &str = "a split or merge was left unfinished";
const NO_REFERENCES: &str = "a block without references should have split itself";
const FOREIGN_PART: &str = "a 2 MiB part does not belong to its block";
const PART_HOLDS: &str = "a 2 MiB part has fewer pins than holds";
const HEAD_HOLDS: &str = "a head has fewer pins than holds";
const NO_TAIL: &str = "a frame inside a block is not a tail";
const OTHER_ORDER: &str = "an explicit tail names another order than its block's";
const ALL_IMPLICIT: &str = "a tail is explicit, but its head says that all are implicit";
const COUNTED: &str = "a tail of an unsplittable block is counted";

/// A block at frame 0 of a map of its own.
struct One {
    words: Vec<AtomicU64>,
    order: Order,
    pins: Vec<PagePin>,
}

impl One {
    fn new(order: u8, class: Class, pins: &[u64]) -> Self {
        let order = Order::new(order).unwrap();
        let words: Vec<_> = (0..order.frames().max(512)).map(|_| AtomicU64::new(0)).collect();
        let protocol = OneWord::new(&words, Pfn::new(0));
        protocol.prepare(Pfn::new(0), order).unwrap();
        protocol.publish(Pfn::new(0), order, class);
        let pins =
            pins.iter().map(|page| protocol.try_get(Pfn::new(*page), &NoMisuse).unwrap().pin()).collect();
        Self { words, order, pins }
    }

    fn add(&self, frame: usize, field: u64) -> &Self {
        self.words[frame].fetch_add(field, Relaxed);
        self
    }

    fn sub(&self, frame: usize, field: u64) -> &Self {
        self.words[frame].fetch_sub(field, Relaxed);
        self
    }

    /// What is found, and how many pages are pinned.
    fn audit(&self) -> (Vec<(u64, &'static str)>, u64) {
        let mut found = Vec::new();
        let protocol = OneWord::new(&self.words, Pfn::new(0));
        let pinned =
            protocol.audit_block(Pfn::new(0), self.order, &mut |frame, what| found.push((frame.get(), what)));
        (found, pinned)
    }

    fn finds(&self, expected: &[(u64, &'static str)]) {
        assert_eq!(self.audit().0, expected);
    }
}

#[test]
fn every_pinned_page_is_counted_once_and_nothing_is_wrong() {
    let sets: [(u8, &[u64]); 12] = [
        (0, &[]),
        (0, &[0]),
        (2, &[0]),
        (2, &[1, 3]),
        (2, &[0, 1, 2, 3]),
        (9, &[0, 7, 511]),
        (10, &[0]),
        (10, &[512]),
        (10, &[513, 1023]),
        (10, &[0, 3, 512, 513]),
        (11, &[5, 512, 1024, 1025, 1026, 2047]),
        (11, &[600, 1200, 1800]),
    ];
    for (order, pins) in sets {
        for often in 1..3 {
            let pins = pins.repeat(often);
            let pinned = pins.len() / often;
            let one = One::new(order, Class::Splittable, &pins);
            assert_eq!(one.audit(), (vec![], pinned as u64), "order {order}, pins {pins:?}");
            let protocol = OneWord::new(&one.words, Pfn::new(0));
            one.pins.iter().for_each(|held| protocol.put(protocol.counted(*held), &NoMisuse));
            assert_eq!(one.audit(), (vec![], 0), "order {order}, pins given back");
        }
    }
    // All pins of an unsplittable block are its head's.
    assert_eq!(One::new(2, Class::Unsplittable, &[1, 3]).audit(), (vec![], 1));
    assert_eq!(One::new(2, Class::Unsplittable, &[]).audit(), (vec![], 0));
}

#[test]
fn a_head_that_is_not_settled() {
    One::new(2, Class::Splittable, &[]).add(0, SPLITTING).finds(&[(0, SPLIT_OR_MERGE)]);
    One::new(2, Class::Splittable, &[]).add(0, MERGING).finds(&[(0, SPLIT_OR_MERGE)]);
}

#[test]
fn a_head_without_references() {
    One::new(2, Class::Splittable, &[1]).sub(0, REF).finds(&[(0, NO_REFERENCES)]);
    One::new(10, Class::Splittable, &[0]).sub(0, REF).finds(&[(0, NO_REFERENCES)]);
    // A page, or a block that can't split, may have pins alone.
    One::new(0, Class::Splittable, &[0]).sub(0, REF).finds(&[]);
    One::new(2, Class::Unsplittable, &[1]).sub(0, REF).finds(&[]);
}

#[test]
fn fewer_pins_than_holds() {
    One::new(2, Class::Splittable, &[1]).sub(0, PIN).finds(&[(0, HEAD_HOLDS)]);
    One::new(2, Class::Splittable, &[1, 2]).sub(0, PIN).finds(&[(0, HEAD_HOLDS)]);
    One::new(2, Class::Splittable, &[0, 1]).sub(0, 2 * PIN).finds(&[(0, HEAD_HOLDS)]);
    One::new(10, Class::Splittable, &[600]).sub(0, PIN).finds(&[(0, HEAD_HOLDS)]);
    One::new(10, Class::Splittable, &[600, 601]).sub(512, PIN).finds(&[(512, PART_HOLDS)]);
    One::new(10, Class::Splittable, &[3, 600]).sub(0, PIN).finds(&[(0, HEAD_HOLDS)]);
}

#[test]
fn a_part_of_another_block() {
    // Of an order below, and no tail at all.
    One::new(11, Class::Splittable, &[]).sub(1024, ORDER).finds(&[(1024, FOREIGN_PART)]);
    One::new(11, Class::Splittable, &[]).add(1024, FREE).finds(&[(1024, FOREIGN_PART)]);
    One::new(11, Class::Splittable, &[]).sub(1536, 11 * ORDER).finds(&[(1536, FOREIGN_PART)]);
}

#[test]
fn a_tail_that_is_none_or_another_s() {
    let recorded = || {
        let one = One::new(9, Class::Splittable, &[]);
        one.add(0, RECORDED);
        one
    };
    recorded().add(5, FREE).finds(&[(5, NO_TAIL)]);
    recorded().add(5, 9 * ORDER).finds(&[]);
    recorded().add(5, 8 * ORDER).add(511, ORDER).finds(&[(5, OTHER_ORDER), (511, OTHER_ORDER)]);
    let silent = One::new(9, Class::Splittable, &[]);
    silent.add(5, 9 * ORDER).finds(&[(5, ALL_IMPLICIT)]);
    // The same under the parts of a larger block.
    One::new(10, Class::Splittable, &[]).add(700, 9 * ORDER).finds(&[(700, ALL_IMPLICIT)]);
    One::new(10, Class::Splittable, &[]).add(512, RECORDED).add(700, 10 * ORDER).finds(&[(700, OTHER_ORDER)]);
    One::new(10, Class::Splittable, &[]).add(0, RECORDED).add(7, 10 * ORDER).finds(&[(7, OTHER_ORDER)]);
}

#[test]
fn a_counted_tail_of_a_block_that_counts_at_its_head() {
    let one = One::new(2, Class::Splittable, &[1]);
    one.add(0, UNSPLITTABLE).finds(&[(1, COUNTED)]);
    One::new(10, Class::Splittable, &[700]).add(0, UNSPLITTABLE).finds(&[(700, COUNTED)]);
}

/// Plants something in the words of a zone of two pageblocks in which 4 frames at frame 0 are one
/// block and another is free. Returns what the zone's own audit finds.
fn planted(plant: impl FnOnce(&[AtomicU64])) -> Vec<(u64, &'static str)> {
    let ranges = [FrameRange::new(Pfn::new(0), 1024)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let words = |n| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    let (pages, allocator) = (words(layout.page_words::<OneWord>()), words(layout.allocator_words()));
    let zone: Zone<'_> = Zone::new(layout, ZoneConfig::default(), &pages, &allocator).unwrap();
    let block = zone.alloc(Order::new(2).unwrap()).unwrap();
    assert_eq!(block.pfn(), Pfn::new(0), "the first free frames");
    assert_eq!(zone.audit().violations(), 0);
    plant(&pages);
    let audit = zone.audit();
    let found: Vec<_> = audit.findings().map(|Finding { frame, what }| (frame.get(), *what)).collect();
    assert_eq!(audit.violations(), found.len() as u64);
    std::mem::forget(block);
    found
}

#[test]
fn an_audit_counts_each_frame_as_what_it_is() {
    // A pageblock is a hole, one begins late, and of one some frames are reserved.
    let frames = |start, end| FrameRange { start: Pfn::new(start), end: Pfn::new(end) };
    let (ranges, reserved) = ([frames(100, 1024), frames(1536, 3072)], [frames(1540, 1550)]);
    let layout = ZoneLayout::new(&ranges, 1).unwrap().without(&reserved);
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
    let pages: Vec<_> = (0..3).map(|_| zone.alloc(Order::PAGE).unwrap()).collect();
    let blocks: Vec<_> = [1, 1, 3, 9].map(|order| zone.alloc(Order::new(order).unwrap()).unwrap()).into();
    let pins = [pages[0].pin(0), blocks[3].pin(5), blocks[3].pin(5), blocks[3].pin(6)];
    for frame in [3000, 3001, 3071] {
        assert_eq!(zone.set_aside(Pfn::new(frame)), SetAside::Done);
    }
    let audit = zone.audit();
    assert_eq!((audit.violations(), audit.frames), (0, 3072), "{audit}");
    assert_eq!((audit.pages, audit.blocks, audit.block_frames), (3, 4, 2 + 2 + 8 + 512));
    assert_eq!((audit.pinned, audit.reserved, audit.set_aside), (3, 100 + 512 + 10, 3));
    assert_eq!(audit.free, 3072 - 3 - 524 - 622 - 3);
    drop(pins);
}

#[test]
fn a_zone_whose_words_contradict_its_allocator() {
    let set = |frame: usize, word: u64| move |pages: &[AtomicU64]| pages[frame].store(word, Relaxed);
    let plain_page = HEAD + REF;
    assert_eq!(planted(set(600, plain_page)), [(600, "a frame in use is free for the allocator")]);
    let dead = [
        (600, "a frame in use is free for the allocator"),
        (600, "a block without references or pins was not freed"),
    ];
    assert_eq!(planted(set(600, HEAD)), dead);
    assert_eq!(planted(set(600, PIN)), [(600, "a frame outside every block is pinned")]);
    assert_eq!(planted(set(600, OUT)), [(600, "a frame out of service is free for the allocator")]);
    let aside = [
        (600, "a frame out of service is free for the allocator"),
        (0, "the number of frames set aside is wrong"),
    ];
    assert_eq!(planted(set(600, OUT + POISONED)), aside);
    let lost = "a frame is lost: in use for the allocator, in no block";
    let gone = [(0, lost), (1, lost), (2, lost), (3, lost), (0, "the frames do not add up")];
    assert_eq!(planted(set(0, FREE)), gone);
    let misaligned = planted(set(601, plain_page + ORDER));
    assert_eq!(misaligned[0], (601, "a block is misaligned or leaves the zone"));
    let too_large = planted(set(512, plain_page + 10 * ORDER));
    assert_eq!(too_large[0], (512, "a block is misaligned or leaves the zone"));
}
