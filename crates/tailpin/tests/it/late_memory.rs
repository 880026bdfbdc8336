//! Memory that comes after the zone was made, and frames that come back into service.

use crate::common;

use std::sync::Barrier;

use common::{Classic, OneWord, Random};
use tailpin::{
    AddError, FrameRange, Order, Pfn, Protocol, SetAside, Zone, ZoneConfig, ZoneError, ZoneLayout, ZoneMemory,
};

const SPAN: u64 = 8 * 512;

fn range(start: u64, end: u64) -> FrameRange {
    FrameRange { start: Pfn::new(start), end: Pfn::new(end) }
}

/// Runs a test on a zone of frames 512 to 4608 of which none is in service yet, under both
/// protocols. What was not added must be reserved in the end.
macro_rules! on_an_empty_zone {
    ($test:ident $(, $argument:expr)*) => {
        on_an_empty_zone!(@ OneWord, $test $(, $argument)*);
        on_an_empty_zone!(@ Classic, $test $(, $argument)*);
    };
    (@ $protocol:ident, $test:ident $(, $argument:expr)*) => {{
        let layout = ZoneLayout::spanning(range(512, 512 + SPAN), 2).unwrap();
        let memory = ZoneMemory::for_protocol::<$protocol<'_>>(&layout);
        let heard = common::Heard::default();
        let config = ZoneConfig::default().sink(&heard).cpu(common::thread_number);
        let zone: Zone<'_, $protocol<'_>> = memory.zone_with_protocol(layout, config).unwrap();
        assert_eq!((zone.usable_frames(), zone.free_frames(), zone.free_pageblocks()), (0, 0, 0));
        $test(&zone $(, $argument)*);
        let audit = zone.audit();
        assert_eq!((audit.violations(), heard.count()), (0, 0), "{audit}");
        assert_eq!(audit.reserved, SPAN - zone.usable_frames(), "{audit}");
        assert_eq!(zone.used_frames(), 0);
    }};
}

fn piece_by_piece<P: Protocol>(zone: &Zone<'_, P>) {
    assert!(zone.alloc(Order::PAGE).is_err());
    zone.add(range(700, 750)).unwrap();
    assert!(zone.alloc_run_at(range(700, 750)).is_ok() && zone.alloc_run_at(range(699, 750)).is_err());
    zone.add(range(750, 1600)).unwrap();
    assert_eq!((zone.usable_frames(), zone.free_frames(), zone.free_pageblocks()), (900, 900, 1));
    let pages: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::PAGE).ok()).collect();
    assert_eq!(pages.len(), 900);
    assert!(pages.iter().all(|page| range(700, 1600).contains(page.pfn())));
    drop(pages);
    zone.add(range(2048, 4608)).unwrap();
    zone.add(range(512, 700)).unwrap();
    zone.add(range(1600, 2048)).unwrap();
    assert_eq!((zone.usable_frames(), zone.free_frames()), (SPAN, SPAN));
    assert!(zone.alloc_run(SPAN, 1).is_ok());
}

#[test]
fn memory_enters_service_piece_by_piece() {
    on_an_empty_zone!(piece_by_piece);
}

fn wrong_ranges<P: Protocol>(zone: &Zone<'_, P>) {
    for outside in [
        range(511, 600),
        range(4000, 4609),
        range(0, u64::MAX),
        range(u64::MAX - 1, u64::MAX),
        range(600, 600),
        range(600, 599),
    ] {
        assert_eq!(zone.add(outside), Err(AddError::NotInZone { range: outside }));
    }
    zone.add(range(1000, 1100)).unwrap();
    zone.set_aside(Pfn::new(1099));
    for (again, frame) in [(range(1099, 2000), 1099), (range(512, 1001), 1000), (range(512, 4608), 1000)] {
        assert_eq!(zone.add(again), Err(AddError::InService { frame: Pfn::new(frame) }));
        assert_eq!(zone.usable_frames(), 100, "nothing was added");
    }
    // Reserved frames neither come back nor leave.
    assert!(!zone.restore(Pfn::new(999)) && !zone.restore(Pfn::new(4000)) && !zone.restore(Pfn::new(9)));
    assert_eq!(zone.set_aside(Pfn::new(999)), SetAside::NotInService);
    assert!(zone.restore(Pfn::new(1099)));
}

#[test]
fn what_cannot_be_added_is_told_and_nothing_is() {
    on_an_empty_zone!(wrong_ranges);
    let too_high = range(1 << 52, (1 << 52) + 1);
    for wrong in [range(3, 3), range(5, 3), too_high, range(0, u64::MAX)] {
        assert_eq!(ZoneLayout::spanning(wrong, 1).unwrap_err(), ZoneError::BadRange { range: wrong });
    }
    let all = range(0, 1 << 52);
    assert_eq!(ZoneLayout::spanning(all, usize::MAX).unwrap_err(), ZoneError::TooLarge);
    assert_eq!(ZoneLayout::spanning(range(0, 5), usize::MAX).unwrap_err(), ZoneError::TooLarge);
}

/// Each thread adds every fourth 50 frames, and takes and gives back pages.
fn at_once<P: Protocol>(zone: &Zone<'_, P>) {
    let start = Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let start = &start;
            scope.spawn(move || {
                let mut random = Random::new(thread);
                let mut held = Vec::new();
                start.wait();
                for part in (0..SPAN / 50).filter(|part| part % 4 == thread) {
                    let first = 512 + part * 50;
                    let mut rest = range(first, first + 50);
                    while rest.start < rest.end {
                        match zone.add(rest) {
                            Ok(()) => rest.start = rest.end,
                            Err(AddError::Busy { frame }) => {
                                rest.start = frame;
                                std::thread::yield_now();
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                    held.extend(zone.alloc(Order::PAGE));
                    if random.below(2) == 0 {
                        held.pop();
                    }
                }
            });
        }
    });
    assert_eq!(zone.usable_frames(), SPAN / 50 * 50);
    assert_eq!(zone.free_frames(), SPAN / 50 * 50);
}

#[test]
fn threads_add_parts_of_the_same_pageblocks_at_once() {
    for _ in 0..20 {
        on_an_empty_zone!(at_once);
    }
}

/// Of several threads that add the same frames, one does.
fn the_same_frames<P: Protocol>(zone: &Zone<'_, P>) {
    let start = Barrier::new(3);
    let add = || {
        start.wait();
        loop {
            match zone.add(range(1024, 1536)) {
                Err(AddError::Busy { .. }) => std::thread::yield_now(),
                added => break added.is_ok(),
            }
        }
    };
    let added = std::thread::scope(|scope| {
        let threads = [(); 3].map(|()| scope.spawn(add));
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|added| *added).count()
    });
    assert_eq!((added, zone.usable_frames()), (1, 512));
}

#[test]
fn frames_are_added_once() {
    for _ in 0..20 {
        on_an_empty_zone!(the_same_frames);
    }
}
