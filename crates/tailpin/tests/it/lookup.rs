//! What the one-word protocol finds by a frame's number alone: the head, a pin, a reference to the
//! whole.

use std::sync::atomic::AtomicU64;

use crate::common::NoMisuse;
use tailpin::{
    BlockLife, BlockRefs, Class, FrameRange, FrameWords, GetError, Kind, OneWord, Order, Pfn, Pins,
    REF_LIMIT, Rearrange, Zone, ZoneConfig, ZoneLayout, ZoneMemory,
};

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn words() -> Vec<AtomicU64> {
    (0..2048).map(|_| AtomicU64::new(0)).collect()
}

fn begin(protocol: &OneWord<'_>, head: u64, of: u8) {
    protocol.prepare(Pfn::new(head), order(of)).unwrap();
    protocol.publish(Pfn::new(head), order(of), Class::Splittable);
}

/// Each page of the block is found in it, and can be pinned, more than once.
fn is_found(protocol: &OneWord<'_>, head: u64, of: u8) {
    let block = FrameRange::block(Pfn::new(head), order(of));
    for page in block.iter() {
        assert_eq!(protocol.head_of(page), Some((block.start, order(of))));
        let before = protocol.state(page).pins;
        let held = protocol.try_get(page, &NoMisuse).unwrap();
        protocol.get(held, &NoMisuse).unwrap();
        assert_eq!(protocol.state(page).pins, before + 2);
        protocol.put(held, &NoMisuse);
        protocol.put(held, &NoMisuse);
    }
    let pinned = protocol.audit_block(block.start, order(of), &mut |frame, what| panic!("{frame}: {what}"));
    assert_eq!(pinned, 0);
}

#[test]
fn a_block_behind_a_first_frame_that_is_free() {
    // The first frame of the pageblock was never used, or used as a page, or headed a block.
    for before in [None, Some(0), Some(2)] {
        let words = words();
        let protocol = OneWord::new(&words, Pfn::new(0));
        if let Some(of) = before {
            begin(&protocol, 0, of);
            protocol.put_block(Pfn::new(0), order(of), &NoMisuse);
        }
        begin(&protocol, 8, 3);
        is_found(&protocol, 8, 3);
        assert_eq!(protocol.head_of(Pfn::new(7)), None);
    }
}

#[test]
fn a_block_where_a_part_of_a_larger_one_was() {
    // The words of the parts must not go on naming the block that is gone, on whose frames there
    // are others now.
    let words = words();
    let protocol = OneWord::new(&words, Pfn::new(0));
    begin(&protocol, 0, 11);
    protocol.put_block(Pfn::new(0), order(11), &NoMisuse);
    for pageblock in [512, 1024, 1536] {
        assert_eq!(protocol.state(Pfn::new(pageblock)).kind, Kind::Free);
    }
    begin(&protocol, 0, 9);
    begin(&protocol, 512 + 8, 3);
    is_found(&protocol, 512 + 8, 3);
}

#[test]
fn a_block_that_is_being_prepared_is_found_by_nobody() {
    for of in [0, 3, 9, 10] {
        let words = words();
        let protocol = OneWord::new(&words, Pfn::new(0));
        protocol.prepare(Pfn::new(0), order(of)).unwrap();
        for page in FrameRange::block(Pfn::new(0), order(of)).iter() {
            assert_eq!(protocol.head_of(page), None);
            assert_eq!(protocol.try_get(page, &NoMisuse).unwrap_err(), GetError::NotInUse);
        }
    }
}

#[test]
fn a_split_around_a_page_goes_to_the_piece_that_it_is_in_by_now() {
    let words = words();
    let protocol = OneWord::new(&words, Pfn::new(0));
    begin(&protocol, 0, 3);
    let whole = FrameRange::block(Pfn::new(0), order(3));
    protocol.split(whole, order(1), &NoMisuse).unwrap();
    protocol.split_around(whole, Pfn::new(5), Order::PAGE, &NoMisuse).unwrap();
    let heads = [0, 1, 2, 3, 4, 5, 6, 7].map(|page| protocol.head_of(Pfn::new(page)).unwrap().0.get());
    assert_eq!(heads, [0, 0, 2, 2, 4, 5, 6, 6]);
}

#[test]
fn a_block_above_2_mib_that_was_merged_out_of_small_ones() {
    for pieces in [0, 3, 9] {
        let words = words();
        let protocol = OneWord::new(&words, Pfn::new(0));
        begin(&protocol, 0, 10);
        let whole = FrameRange::block(Pfn::new(0), order(10));
        protocol.split(whole, order(pieces), &NoMisuse).unwrap();
        let held = protocol.try_get(Pfn::new(600), &NoMisuse).unwrap();
        protocol.merge(Pfn::new(0), order(10), &NoMisuse).unwrap();
        protocol.put(held, &NoMisuse);
        is_found(&protocol, 0, 10);
    }
}

#[test]
fn one_more_reference_only_to_a_block_of_that_order_that_has_one() {
    let ranges = [FrameRange::new(Pfn::new(0), 1024)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
    let refused = |head, of| assert_eq!(zone.try_block(head, order(of)).err(), Some(GetError::NotInUse));
    let block = zone.alloc(order(3)).unwrap();
    let head = block.pfn();
    refused(head, 2);
    refused(head, 4);
    refused(head.offset(1), 0);
    refused(head.offset(8), 3);
    refused(Pfn::new(1024), 0);
    let second = zone.try_block(head, order(3)).unwrap();
    assert_eq!(zone.state(head).unwrap().refs, 2);
    let raw = zone.raw();
    raw.get_many(raw.token(head), REF_LIMIT - 2).unwrap();
    assert_eq!(zone.try_block(head, order(3)).err(), Some(GetError::CountLimit));
    raw.put_many(raw.token(head), REF_LIMIT - 2).unwrap();
    drop(block);
    let pin = second.pin(0).unwrap();
    drop(second);
    refused(head, 3);
    refused(head, 0); // Pinned, but no block of any caller.
    drop(pin);
    refused(head, 0);
    assert_eq!(zone.used_frames(), 0);
}

#[test]
fn blocks_are_found_from_the_zones_first_frame_to_its_last() {
    let ranges = [FrameRange::new(Pfn::new(1024), 1024)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
    let blocks = [(); 2].map(|()| zone.alloc(Order::HUGE).unwrap());
    for block in &blocks {
        assert_eq!(zone.try_block(block.pfn(), Order::HUGE).map(|found| found.pfn()), Ok(block.pfn()));
    }
    for outside in [0, 512, 2048, 2560, 1 << 40] {
        let found = zone.try_block(Pfn::new(outside), Order::HUGE);
        assert_eq!(found.err(), Some(GetError::NotInUse), "{outside}");
    }
}

/// On two levels: a head counts for the first frame of each 2 MiB, and that one for the others of
/// them.
#[test]
fn pins_of_a_page_are_those_of_callers() {
    use tailpin::*;
    let order = Order::new(11).unwrap();
    let ranges = [FrameRange::new(Pfn::new(0), order.frames())];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    let block = zone.alloc(order).unwrap();
    let head = block.frames().start;
    let pinned = [(0, 1), (3, 2), (512, 1), (515, 3), (700, 1), (1024 + 9, 1), (2047, 2)];
    let pins: Vec<_> = pinned
        .iter()
        .flat_map(|(page, times)| (0..*times).map(|_| zone.try_pin(head.offset(*page)).unwrap()))
        .collect();
    for page in 0..order.frames() {
        let own = pinned.iter().find(|(at, _)| *at == page).map_or(0, |(_, times)| *times);
        assert_eq!(zone.pins_of(head.offset(page)), Some(own), "page {page}");
    }
    let counted = |page| zone.state(head.offset(page)).unwrap().pins;
    assert_eq!((counted(0), counted(512), counted(1024)), (1 + 1 + 3, 1 + 2, 1));
    drop((pins, block));
    assert_eq!(zone.pins_of(head), Some(0));
    assert_eq!(zone.pins_of(head.offset(order.frames())), None, "outside the zone");
}
