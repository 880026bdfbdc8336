//! Each public function that takes a number, with the smallest and the largest there are. The tests
//! are built with overflow checks, so arithmetic that wraps is a panic here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::common::Heard;
use tailpin::{
    AddError, Block, BlockRefs, FrameMask, FrameRange, OneWord, Order, Pfn, Protocol, RawBlock, Request,
    RunError, RunRequest, SetAside, Zone, ZoneConfig, ZoneLayout,
};

const FRAMES: u64 = 1024;

/// Numbers around every border.
fn numbers() -> impl Iterator<Item = u64> + Clone {
    let powers = (0..64).flat_map(|shift| [(1_u64 << shift) - 1, 1 << shift]);
    powers.chain([FRAMES - 1, FRAMES, FRAMES + 1, u64::MAX - 1, u64::MAX])
}

/// Ranges with such ends, those that end before they begin among them.
fn ranges() -> impl Iterator<Item = FrameRange> {
    let some = || numbers().step_by(5).chain([FRAMES - 1, FRAMES, u64::MAX - 1, u64::MAX]);
    some().flat_map(move |start| {
        some().map(move |end| FrameRange { start: Pfn::new(start), end: Pfn::new(end) })
    })
}

fn is_as_it_was<P: Protocol>(zone: &Zone<'_, P>) {
    let audit = zone.audit();
    assert_eq!((audit.violations(), audit.free), (0, FRAMES - audit.set_aside), "{audit}");
}

fn frames_by_number<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
    for frame in numbers().map(Pfn::new) {
        let inside = frame.get() < FRAMES;
        assert_eq!(zone.state(frame).is_some(), inside);
        assert_eq!(zone.pins_of(frame), inside.then_some(0));
        assert!(zone.head_of(frame).is_none() && zone.try_pin(frame).is_err() && !zone.restore(frame));
        let whole = inside && frame.is_aligned(Order::HUGE);
        assert_eq!(zone.claim_pageblock(frame).is_some(), whole);
        assert_eq!(zone.claim(frame, &FrameMask::ALL).count(), if whole { 512 } else { 0 });
        assert!(zone.used_in_pageblock(frame) <= 512);
        if !inside {
            assert_eq!(zone.set_aside(frame), SetAside::NotInService);
        }
    }
    is_as_it_was(zone);
}

#[test]
fn frames_by_their_numbers() {
    on_both!(FRAMES, frames_by_number);
}

#[test]
fn blocks_found_by_number() {
    fn found(zone: &Zone<'_, OneWord<'_>>, _: &Heard) {
        for (head, order) in numbers().flat_map(|head| Order::all().map(move |order| (head, order))) {
            assert!(zone.try_block(Pfn::new(head), order).is_err());
        }
        is_as_it_was(zone);
    }
    on_one!(OneWord, FRAMES, found);
}

/// What is set aside as misused is told, and no frame of the zone is touched by what names none.
fn raw_by_number<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
    let raw = zone.raw();
    for frame in numbers().map(Pfn::new).filter(|frame| frame.get() >= FRAMES) {
        assert!(raw.pin(frame).is_err() && raw.unpin(frame).is_err());
        for token in Order::all().map(|order| RawBlock::from_parts(frame, order, 0)).chain([raw.token(frame)])
        {
            assert!(raw.free(token).is_err() && raw.adopt(token).is_err());
            for n in numbers() {
                // Nothing is what may be given to a block that is none.
                assert!(n == 0 || raw.get_many(token, n).is_err() && raw.put_many(token, n).is_err());
            }
            for target in Order::all() {
                assert!(raw.split(token, target).is_err());
                assert!(raw.split_around(token, frame, target).is_err());
            }
            assert!(raw.merge([token, token].into_iter()).is_err());
        }
    }
    let block = raw.alloc(Request::new(Order::HUGE)).unwrap();
    for n in numbers().filter(|n| *n > 1) {
        assert!(raw.put_many(block, n).is_err(), "{n}");
    }
    is_as_it_was_but(zone, block);
}

fn is_as_it_was_but<P: Protocol>(zone: &Zone<'_, P>, block: RawBlock) {
    // The misuse has marked its head, so that it is out of service when it is freed.
    zone.raw().put_many(block, 1).unwrap();
    assert_eq!(zone.set_aside_frames(), 1);
    is_as_it_was(zone);
}

#[test]
fn tokens_by_their_numbers() {
    on_both!(FRAMES, raw_by_number);
}

fn runs_by_number<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
    for (n, align) in numbers().flat_map(|n| numbers().step_by(3).map(move |align| (n, align))) {
        for run in [zone.alloc_run(n, align), zone.alloc_run_with(RunRequest::new(n).below(Pfn::new(align)))]
        {
            match run {
                Ok(run) => assert!(run.frames().frames() == n && n <= FRAMES),
                Err(RunError::Empty) => assert_eq!(n, 0),
                Err(error) => assert!(n > 0, "{n}, {align}: {error}"),
            }
        }
    }
    for range in ranges() {
        let inside = range.start < range.end && range.end.get() <= FRAMES;
        assert_eq!(zone.alloc_run_at(range).is_ok(), inside, "{range:?}");
        if !inside {
            assert!(!matches!(zone.add(range), Err(AddError::Busy { .. })));
        }
    }
    is_as_it_was(zone);
}

#[test]
fn pages_of_a_run_and_cpus_by_their_numbers() {
    fn within(zone: &Zone<'_, OneWord<'_>>, _: &Heard) {
        let run = zone.alloc_run(48, 1).unwrap();
        for n in numbers() {
            assert_eq!(run.pin(n).is_ok(), n < 48);
            let local = zone.local(n as usize);
            local.free(local.alloc(Order::PAGE).unwrap());
        }
        drop(run);
        is_as_it_was(zone);
        for n in numbers() {
            let run = zone.alloc_run(48, 1).unwrap();
            let parts = catch_unwind(AssertUnwindSafe(|| run.split_at(n)));
            assert_eq!(parts.is_ok(), n <= 48, "{n}");
            drop(parts);
            is_as_it_was(zone);
        }
    }
    on_one!(OneWord, FRAMES, within);
}

#[test]
fn frames_of_a_mask_by_their_numbers() {
    for n in numbers() {
        assert_eq!(FrameMask::ALL.contains(n), n < 512);
        let inserted = catch_unwind(|| {
            let mut mask = FrameMask::NONE;
            mask.insert(n);
            mask.count()
        });
        assert_eq!(inserted.ok(), (n < 512).then_some(1), "{n}");
    }
}

#[test]
fn runs_by_their_numbers() {
    on_one!(OneWord, FRAMES, runs_by_number);
}

fn parts_by_number<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
    let take = || -> Block<'_, P> { zone.alloc(Order::new(4).unwrap()).unwrap() };
    let block = take();
    for n in numbers() {
        assert_eq!(block.pin(n).is_ok(), n < 16);
        for m in numbers().step_by(3) {
            let bytes = block.slice(n..m);
            assert_eq!(bytes.is_ok(), n < m && m <= 16 * 4096, "{n}..{m}");
            if let Ok(bytes) = bytes {
                assert!(bytes.slice(m..u64::MAX).is_err() && bytes.slice(0..u64::MAX).is_err());
            }
        }
    }
    drop(block);
    for n in numbers() {
        match take().split_around(n, Order::PAGE) {
            Ok(pieces) => assert!(n < 16 && P::REARRANGES && pieces.frames().frames() == 16),
            Err((block, _)) => assert_eq!(block.order().get(), 4),
        }
    }
    for n in numbers() {
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        let blocks: Vec<_> = zone.alloc_many(Request::new(Order::HUGE), n).collect();
        assert_eq!(blocks.len(), n.min(2));
    }
    for limit in numbers() {
        let block = zone.alloc_with(Request::new(Order::PAGE).below(Pfn::new(limit)));
        assert!(block.is_err() || block.unwrap().pfn().get() < limit);
    }
    is_as_it_was(zone);
}

#[test]
fn parts_of_blocks_by_their_numbers() {
    on_both!(FRAMES, parts_by_number);
}

#[test]
fn layouts_and_masks() {
    for range in ranges() {
        for cpus in numbers().step_by(7).map(|n| usize::try_from(n).unwrap_or(usize::MAX)) {
            // Either an error, or sizes that can be told.
            for layout in
                [ZoneLayout::spanning(range, cpus), ZoneLayout::new(&[range], cpus)].into_iter().flatten()
            {
                assert!(layout.metadata_bytes::<OneWord<'_>>() > layout.allocator_words());
                assert!(layout.span_frames() >= range.frames());
            }
        }
        for pageblock in numbers().step_by(3).map(Pfn::new) {
            assert!(FrameMask::of_range(range, pageblock).count() <= 512);
        }
    }
    for n in numbers() {
        assert_eq!(FrameMask::ALL.lowest(n).count(), n.min(512));
        assert_eq!(FrameMask::ALL.contains(n), n < 512);
        assert_eq!(Pfn::new(n).checked_offset(u64::MAX).is_some(), n == 0);
        let _ = ZoneConfig::default().low_watermark(n);
    }
    for order in 0..=u8::MAX {
        assert_eq!(Order::new(order).is_some(), order <= Order::MAX.get());
    }
}

#[test]
fn values_of_frames_blocks_and_masks() {
    for (n, order) in numbers().flat_map(|n| Order::all().map(move |order| (n, order))) {
        let frame = Pfn::new(n);
        let head = frame.head(order);
        assert!(head <= frame && head.is_aligned(order) && n - head.get() < order.frames());
        let end = n.checked_add(order.frames());
        let block = catch_unwind(|| FrameRange::block(frame, order)).ok();
        assert_eq!(block.map(|block| block.end.get()), end);
        assert_eq!(catch_unwind(|| frame.offset(order.frames())).ok().map(Pfn::get), end);
        let mask = catch_unwind(|| FrameMask::of_block(head, order).count()).ok();
        let fits = head.checked_offset(order.frames().min(512)).is_some();
        assert_eq!(mask, fits.then_some(order.frames().min(512)), "{head}, {order}");
        assert_eq!(FrameMask::from_words([n; 8]).count(), 8 * u64::from(n.count_ones()));
        let run = RunRequest::new(n).aligned(order.frames() ^ n);
        assert_eq!((run, run.below(frame)), (run, run.below(frame)));
    }
}

fn ranges_of_raw<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
    let raw = zone.raw();
    for range in ranges().step_by(3) {
        // Nothing is what a range that has no frame gives back.
        let inside = range.start < range.end && range.end.get() <= FRAMES;
        assert!(raw.tokens(range).take(2048).count() <= 2048);
        if !inside {
            assert_eq!(raw.free_run(range).is_ok(), range.frames() == 0, "{range:?}");
        }
    }
    // Frames that are in the zone, and named by none of the calls that were refused.
    assert_eq!(zone.audit().violations(), 0);
}

#[test]
fn ranges_of_the_raw_interface() {
    on_both!(FRAMES, ranges_of_raw);
}

#[test]
fn zones_of_any_ranges_and_words_alone() {
    for range in ranges().filter(|range| range.frames() > 1 << 45 || range.frames() == 0) {
        // There is no memory for the words, or no such zone.
        let made = catch_unwind(|| Zone::leaked(&[range], 1, ZoneConfig::default()).is_err());
        assert!(made.unwrap_or(true), "{range:?}");
        if let Ok(layout) = ZoneLayout::spanning(FrameRange::new(Pfn::new(0), FRAMES), 1) {
            let reserved = [range];
            let layout = layout.without(&reserved);
            let memory = tailpin::ZoneMemory::for_layout(&layout);
            let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
            assert_eq!(zone.audit().violations(), 0);
        }
    }
    let words: [std::sync::atomic::AtomicU64; 8] = Default::default();
    for (base, n) in numbers().flat_map(|base| numbers().step_by(5).map(move |n| (base, n))) {
        let made = catch_unwind(|| OneWord::<'_>::new(&words, Pfn::new(base)));
        assert_eq!(made.is_ok(), base % 512 == 0);
        let Ok(protocol) = made else { continue };
        let there = n.wrapping_sub(base) < 8;
        let found = catch_unwind(AssertUnwindSafe(|| protocol.get_block_found(Pfn::new(n), Order::PAGE)));
        assert_eq!(found.is_ok(), there, "{base}, {n}");
        assert!(!matches!(found, Ok(Ok(()))));
        assert_eq!(tailpin::FrameWords::covers(&protocol, Pfn::new(n)), there);
        let freed = catch_unwind(AssertUnwindSafe(|| protocol.free_page_step(Pfn::new(n))));
        assert_eq!(freed.ok(), there.then_some(None), "{base}, {n}");
    }
}

#[test]
fn nodes_by_their_numbers() {
    fn of<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
        let zones = [zone, zone];
        let fallback: [&[usize]; 3] = [&[0, 1], &[], &[1]];
        let nodes = tailpin::Nodes::new(&zones, &fallback);
        for n in numbers().map(|n| usize::try_from(n).unwrap_or(usize::MAX)) {
            for order in Order::all() {
                let served = [0, 2].contains(&n) && order.frames() <= FRAMES;
                assert_eq!(nodes.alloc(n, order).is_ok(), served, "{n}, {order}");
                assert_eq!(nodes.alloc_with(n, Request::new(order)).is_ok(), served, "{n}, {order}");
            }
            let lists: [&[usize]; 1] = [&[n]];
            let made = catch_unwind(AssertUnwindSafe(|| tailpin::Nodes::new(&zones, &lists)));
            assert_eq!(made.is_ok(), n < 2, "{n}");
        }
        is_as_it_was(zone);
    }
    on_both!(FRAMES, of);
}

fn orders_of_splits<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
    for order in Order::all() {
        match zone.alloc(Order::new(4).unwrap()).unwrap().split_to(order) {
            Ok(pieces) => assert_eq!(pieces.frames().frames(), 16),
            Err((block, _)) => assert_eq!(block.order().get(), 4),
        }
    }
    is_as_it_was(zone);
}

#[test]
fn pieces_of_any_order() {
    on_both!(FRAMES, orders_of_splits);
}
