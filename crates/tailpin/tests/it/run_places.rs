//! Which frames a run gets, and what is as before where it gets none.

use crate::common;

use std::sync::Mutex;

use tailpin::{
    FrameRange, Hooks, OneWord, Order, Pfn, Run, RunError, RunRequest, Zone, ZoneConfig, ZoneLayout,
    ZoneMemory,
};

type TestZone<'z> = Zone<'z, OneWord<'z>>;

/// The zone's first frame, so that alignments by frame numbers are not those by places in the zone.
const FIRST: u64 = 512;

fn on_a_zone(pageblocks: u64, test: impl for<'z> FnOnce(&'z TestZone<'z>)) {
    let ranges = [FrameRange::new(Pfn::new(FIRST), pageblocks * 512)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let heard = common::Heard::default();
    let zone: TestZone<'_> = memory.zone(layout, ZoneConfig::default().sink(&heard)).unwrap();
    test(&zone);
    let audit = zone.audit();
    assert_eq!((audit.violations(), audit.free, heard.count()), (0, pageblocks * 512, 0), "{audit}");
}

fn frames(start: u64, end: u64) -> FrameRange {
    FrameRange { start: Pfn::new(start), end: Pfn::new(end) }
}

fn named<'z>(zone: &'z TestZone<'z>, start: u64, end: u64) -> Run<'z, OneWord<'z>> {
    zone.alloc_run_at(frames(start, end)).unwrap()
}

fn first_of(zone: &TestZone<'_>, request: RunRequest) -> u64 {
    zone.alloc_run_with(request).unwrap().pfn().get()
}

#[test]
fn a_run_lies_where_a_block_with_room_for_it_would_fit_best() {
    on_a_zone(3, |zone| {
        // Free in the first row are six frames that are no block of eight; in the second a gap of
        // sixteen and one of five.
        let _used = [(512, 521), (527, 576 + 6), (576 + 11, 576 + 32), (576 + 48, 1024)]
            .map(|(start, end)| named(zone, start, end));
        let run = RunRequest::new(5);
        for request in [run, run.below(Pfn::new(FIRST + 3 * 512))] {
            assert_eq!(first_of(zone, request), 576 + 6);
        }
        // What a limit keeps from the best place takes the lowest there is.
        assert_eq!(first_of(zone, run.below(Pfn::new(1024))), 521);
    });
}

#[test]
fn half_a_pageblock_is_cut_from_one_that_is_half_in_use() {
    on_a_zone(3, |zone| {
        let _used = named(zone, 1024, 1280);
        assert_eq!(first_of(zone, RunRequest::new(256)), 1280);
        assert_eq!(first_of(zone, RunRequest::new(5).aligned(256)), 1280);
        // These have no room there.
        assert_eq!(first_of(zone, RunRequest::new(257)), 512);
        assert_eq!(first_of(zone, RunRequest::new(5).aligned(512)), 512);
    });
}

#[test]
fn a_long_run_begins_with_a_pageblock_that_is_whole() {
    on_a_zone(4, |zone| {
        let _used = named(zone, 512, 924);
        for n in [257, 300, 511, 512, 513, 700, 1024, 1536] {
            assert_eq!(first_of(zone, RunRequest::new(n)), 1024, "{n}");
        }
        // Longer than all whole ones together: the frames before them are needed as well.
        assert_eq!(first_of(zone, RunRequest::new(1537)), 924);
    });
}

#[test]
fn a_run_that_is_aligned_beyond_a_pageblock_begins_with_a_whole_one_too() {
    on_a_zone(5, |zone| {
        // The first half of the pageblock from 1024 on is free, but not all of it.
        let used = named(zone, 1300, 1400);
        // A request that looks for whole ones has found that out.
        let whole: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::HUGE).ok()).collect();
        assert_eq!(whole.len(), 4);
        drop(whole);
        for n in [5, 300, 512, 900] {
            assert_eq!(first_of(zone, RunRequest::new(n).aligned(1024)), 2048, "{n}");
        }
        drop(used);
        zone.drain();
        assert_eq!(first_of(zone, RunRequest::new(5).aligned(1024)), 1024);
        assert_eq!(first_of(zone, RunRequest::new(900).aligned(2048)), 2048);
    });
}

#[test]
fn a_pageblock_that_was_freed_as_a_whole_is_found_beside_those_of_the_pool() {
    on_a_zone(4, |zone| {
        // Freed as blocks and not drained, they are uncoalesced.
        let mut blocks: Vec<_> = (0..4).map(|_| zone.alloc(Order::HUGE).unwrap()).collect();
        blocks.truncate(1);
        assert_eq!(first_of(zone, RunRequest::new(1100)), 1024);
        blocks.clear();
        // In the middle of one, and up to its end.
        drop(named(zone, 700, 1024));
        assert_eq!(zone.free_frames(), 4 * 512);
    });
}

#[test]
fn a_run_below_a_limit_leaves_pages_that_were_freed_lately_at_hand() {
    on_a_zone(2, |zone| {
        let pages: Vec<_> = (0..200).map(|_| zone.alloc(Order::PAGE).unwrap()).collect();
        let mut kept: Vec<_> = pages.into_iter().filter(|page| page.pfn().get() != 512 + 77).collect();
        assert_eq!(first_of(zone, RunRequest::new(3).below(Pfn::new(1024))), 512 + 256);
        kept.push(zone.alloc(Order::PAGE).unwrap());
        assert_eq!(kept.last().unwrap().pfn().get(), 512 + 77);
    });
}

#[test]
fn frames_that_are_named_are_found_wherever_they_are_free() {
    on_a_zone(4, |zone| {
        // Uncoalesced pages, parked blocks of other sizes, a whole pageblock that is uncoalesced.
        let pages: Vec<_> = (0..70).map(|_| zone.alloc(Order::PAGE).unwrap()).collect();
        let blocks = [1, 2, 3, 5, 7].map(|order| zone.alloc(Order::new(order).unwrap()).unwrap());
        let huge = zone.alloc(Order::HUGE).unwrap();
        let middles = blocks.each_ref().map(|block| (block.pfn().get() + 1, block.frames().end.get()));
        drop((pages, blocks));
        // From the second frame of each block on.
        for (start, end) in middles {
            let run = named(zone, start, end);
            assert_eq!(zone.used_frames(), 512 + end - start);
            assert!(zone.alloc_run_at(frames(start - 1, start)).is_ok(), "the first one is free as well");
            drop(run);
        }
        drop(huge);
        let run = named(zone, 520, FIRST + 4 * 512 - 3);
        assert_eq!(zone.used_frames(), 4 * 512 - 11);
        drop(run);
        assert_eq!(zone.used_frames(), 0);
    });
}

#[test]
fn where_a_named_frame_is_in_use_all_others_are_free_as_before() {
    on_a_zone(4, |zone| {
        // Pages of the second pageblock came back one by one, so its words are not at rest.
        drop(named(zone, 1024, 1536).split_at(100));
        zone.drain();
        for in_use in [512, 600, 1024, 1100, 1535, 1536, 1800, 2047, 2048, 2300] {
            let page = named(zone, in_use, in_use + 1);
            for start in [512, 530, 1000] {
                if start <= in_use {
                    let refused = zone.alloc_run_at(frames(start, 2400)).unwrap_err();
                    assert_eq!(refused, RunError::InUse { frame: page.pfn() });
                    assert_eq!(zone.used_frames(), 1, "{in_use} of those from {start} on");
                }
            }
            // Blocks of them are as good as new.
            let blocks: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::HUGE).ok()).collect();
            assert_eq!(blocks.len(), 3);
        }
    });
}

/// Hears for which order memory is to be reclaimed; has none.
#[derive(Default)]
struct Asked(Mutex<Vec<u8>>);

impl Hooks for Asked {
    fn reclaim(&self, order: Order, _: u64) -> bool {
        self.0.lock().unwrap().push(order.get());
        false
    }
}

#[test]
fn memory_is_reclaimed_for_a_block_with_room_for_the_run_unless_the_zone_is_too_small() {
    let ranges = [FrameRange::new(Pfn::new(FIRST), 4 * 512)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let asked = Asked::default();
    let zone: TestZone<'_> = memory.zone(layout, ZoneConfig::default().hooks(&asked)).unwrap();
    let heard = |request| {
        assert!(zone.alloc_run_with(request).is_err());
        std::mem::take(&mut *asked.0.lock().unwrap())
    };
    let all = zone.alloc_run(4 * 512, 1).unwrap();
    for (n, order) in [(1, 0), (2, 1), (3, 2), (64, 6), (65, 7), (512, 9), (513, 10), (2048, 11)] {
        assert_eq!(heard(RunRequest::new(n)), [order], "{n}");
    }
    let limit = Pfn::new(FIRST + 100);
    assert_eq!(heard(RunRequest::new(100).below(limit)), [7]);
    for too_many in [
        RunRequest::new(2049),
        RunRequest::new(u64::MAX),
        RunRequest::new(101).below(limit),
        RunRequest::new(1).below(Pfn::new(FIRST)),
        RunRequest::new(1).below(Pfn::new(0)),
    ] {
        assert_eq!(heard(too_many), [], "{too_many:?}");
    }
    drop(all);
    // Just as many as there are below it.
    assert_eq!(first_of(&zone, RunRequest::new(100).below(limit)), FIRST);
}
