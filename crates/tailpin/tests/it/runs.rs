//! Runs: any number of frames side by side, named frames, and any part given back in any number of
//! calls; beside blocks, pages and pins, against a plain map of what is in use.

use crate::common;

use std::sync::Mutex;

use common::Random;
use tailpin::{
    Block, Cause, FrameRange, Order, PageRef, Pfn, Protocol, Request, RunError, RunRequest, SetAside, Zone,
};

const FRAMES: u64 = 6 * 512;

/// Which frames are in use, as a person would keep it.
struct Model([bool; FRAMES as usize]);

impl Model {
    fn is_free(&self, range: FrameRange) -> bool {
        range.iter().all(|frame| !self.0[frame.get() as usize])
    }

    fn set(&mut self, range: FrameRange, used: bool) {
        for frame in range.iter() {
            assert_ne!(self.0[frame.get() as usize], used, "frame {frame}");
            self.0[frame.get() as usize] = used;
        }
    }

    fn has_room(&self, n: u64, align: u64, limit: u64) -> bool {
        let starts = (0..limit).step_by(align as usize).take_while(|start| start + n <= limit);
        starts.into_iter().any(|start| self.is_free(FrameRange::new(Pfn::new(start), n)))
    }

    fn free(&self) -> u64 {
        self.0.iter().filter(|used| !**used).count() as u64
    }
}

fn sub_range(range: FrameRange, random: &mut Random) -> FrameRange {
    let start = random.below(range.frames());
    let n = 1 + random.below(range.frames() - start);
    // Often from the start or to the end.
    match random.below(3) {
        0 => FrameRange { start: range.start, end: range.start.offset(n) },
        1 => FrameRange { start: range.start.offset(start), end: range.end },
        _ => FrameRange::new(range.start.offset(start), n),
    }
}

fn at_random<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard, seed: u64) {
    let mut random = Random::new(seed);
    let mut model = Model([false; FRAMES as usize]);
    let mut runs: Vec<FrameRange> = Vec::new();
    let mut blocks: Vec<Block<'_, P>> = Vec::new();
    let raw = zone.raw();
    for _ in 0..1500 {
        match random.below(10) {
            0..3 => {
                let lengths =
                    [1, 2, 3, 5, 7, 31, 33, 48, 64, 65, 100, 257, 300, 440, 511, 512, 513, 700, 1200, 1536];
                let n = lengths[random.below(lengths.len() as u64) as usize];
                let align = 1 << [0, 0, 0, 1, 3, 6, 7, 9, 10][random.below(9) as usize];
                let limit = if random.below(4) == 0 { random.below(FRAMES + 100) } else { FRAMES };
                let request = RunRequest::new(n).aligned(align).below(Pfn::new(limit));
                match raw.alloc_run(request) {
                    Ok(run) => {
                        assert_eq!((run.frames(), run.start.get() % align), (n, 0));
                        assert!(run.end.get() <= limit);
                        model.set(run, true);
                        runs.push(run);
                    }
                    Err(RunError::Exhausted { free_frames, .. }) => {
                        assert_eq!(free_frames, model.free());
                        let limit = limit.min(FRAMES);
                        assert!(!model.has_room(n, align, limit), "{n} frames by {align} below {limit}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            3 => {
                let start = random.below(FRAMES);
                let most = [4, 100, 1100][random.below(3) as usize];
                let n = 1 + random.below(most).min(FRAMES - start - 1);
                let range = FrameRange::new(Pfn::new(start), n);
                match raw.alloc_run_at(range) {
                    Ok(()) => {
                        assert!(model.is_free(range), "{range:?}");
                        model.set(range, true);
                        runs.push(range);
                    }
                    Err(RunError::InUse { frame }) => {
                        assert!(range.contains(frame) && model.0[frame.get() as usize], "{frame}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            4..7 if !runs.is_empty() => {
                let run = runs.swap_remove(random.below(runs.len() as u64) as usize);
                let part = if random.below(2) == 0 { run } else { sub_range(run, &mut random) };
                raw.free_run(part).unwrap();
                model.set(part, false);
                runs.extend(
                    [(run.start, part.start), (part.end, run.end)]
                        .into_iter()
                        .filter_map(|(start, end)| (start < end).then_some(FrameRange { start, end })),
                );
            }
            7 => {
                let order = Order::new([0, 0, 0, 1, 3, 5, 7, 9, 10][random.below(9) as usize]).unwrap();
                if let Ok(block) = zone.alloc(order) {
                    model.set(block.frames(), true);
                    blocks.push(block);
                }
            }
            8 if !blocks.is_empty() => {
                let block = blocks.swap_remove(random.below(blocks.len() as u64) as usize);
                model.set(block.frames(), false);
            }
            9 if !runs.is_empty() && P::REARRANGES => {
                // A page stays in use while it is pinned.
                let run = runs.swap_remove(random.below(runs.len() as u64) as usize);
                let page = run.start.offset(random.below(run.frames()));
                let pin = zone.try_pin(page).unwrap();
                raw.free_run(run).unwrap();
                assert_eq!(zone.used_frames(), FRAMES - model.free() - run.frames() + 1);
                drop(pin);
                model.set(run, false);
            }
            _ => {}
        }
    }
    assert_eq!(zone.free_frames(), model.free());
    let audit = zone.audit();
    assert_eq!((audit.violations(), audit.free), (0, model.free()), "{audit}");
    runs.into_iter().for_each(|run| raw.free_run(run).unwrap());
    drop(blocks);
    let audit = zone.audit();
    assert_eq!((audit.violations(), audit.free, heard.count()), (0, FRAMES, 0), "{audit}");
    assert_eq!(zone.free_pageblocks(), FRAMES / 512);
}

#[test]
fn they_agree_with_a_plain_map_of_what_is_in_use() {
    for seed in 1..9 {
        on_both!(FRAMES, at_random, seed);
    }
}

fn as_many_as_asked<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
    for n in
        [1, 2, 3, 5, 31, 32, 33, 48, 63, 64, 65, 127, 129, 255, 256, 257, 448, 449, 511, 512, 513, 1100, 3000]
    {
        let run = zone.alloc_run(n, 1).unwrap();
        assert_eq!((zone.used_frames(), run.frames().frames()), (n, n));
        let middle = n / 3;
        let (first, rest) = run.split_at(middle);
        drop(first);
        assert_eq!(zone.used_frames(), n - middle);
        drop(rest);
        assert_eq!(zone.used_frames(), 0);
    }
    assert_eq!(zone.audit().violations(), 0);
}

#[test]
fn a_run_takes_as_many_frames_as_were_asked_for() {
    on_both!(FRAMES, as_many_as_asked);
}

fn short_runs<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
    let order_at = |frame| zone.head_of(Pfn::new(frame)).map(|(_, order)| order.get());
    for n in 2..9 {
        let pages = zone.alloc_run_at(FrameRange::new(Pfn::new(1), n)).unwrap();
        assert!((1..=n).all(|frame| order_at(frame) == Some(0)), "{n}");
        drop(pages);
    }
    let blocks = zone.alloc_run_at(FrameRange::new(Pfn::new(1), 9)).unwrap();
    assert_eq!([1, 3, 5, 9].map(order_at), [0, 1, 2, 1].map(Some));
    drop(blocks);
    let block = zone.alloc_run_at(FrameRange::new(Pfn::new(8), 4)).unwrap();
    assert_eq!(order_at(10), Some(2));
    // A page that is pinned beyond the run's own reference, or marked, is given back the long way.
    let (pin, marked) = (block.pin(1).unwrap(), Pfn::new(10));
    assert_eq!(zone.set_aside(marked), SetAside::WhenFreed);
    drop(block);
    assert_eq!((zone.used_frames(), zone.set_aside_frames()), (1, 1));
    drop(pin);
    let pages = zone.alloc_run_at(FrameRange::new(Pfn::new(17), 5)).unwrap();
    let pin = pages.pin(1).unwrap();
    assert_eq!(zone.set_aside(Pfn::new(20)), SetAside::WhenFreed);
    drop(pages);
    assert_eq!((zone.used_frames(), zone.set_aside_frames()), (1, 2));
    drop(pin);
    assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
}

#[test]
fn a_short_run_is_single_pages_unless_it_is_one_block() {
    on_one!(OneWord, FRAMES, short_runs);
}

fn refused_requests<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
    let huge = u64::MAX;
    assert_eq!(zone.alloc_run(0, 1).unwrap_err(), RunError::Empty);
    for align in [0, 3, huge] {
        assert_eq!(zone.alloc_run(1, align).unwrap_err(), RunError::BadAlignment { align });
    }
    let exhausted =
        |frames, align| RunError::Exhausted { frames, align, free_frames: FRAMES, free_pageblocks: 6 };
    for (n, align) in [(huge, 1), (FRAMES + 1, 1), (huge, 1 << 63)] {
        assert_eq!(zone.alloc_run(n, align).unwrap_err(), exhausted(n, align));
    }
    // Frame 0 is a multiple of everything.
    assert!(zone.alloc_run(FRAMES, 1 << 63).is_ok());
    assert!(zone.alloc_run_with(RunRequest::new(2).below(Pfn::new(1))).is_err());
    let range = |start, end| FrameRange { start: Pfn::new(start), end: Pfn::new(end) };
    for empty in [range(5, 5), range(9, 3), range(huge, 0)] {
        assert_eq!(zone.alloc_run_at(empty).unwrap_err(), RunError::Empty);
    }
    for outside in [range(0, FRAMES + 1), range(FRAMES, FRAMES + 1), range(0, huge), range(huge - 1, huge)] {
        assert_eq!(zone.alloc_run_at(outside).unwrap_err(), RunError::NotInZone { range: outside });
    }
    assert_eq!(zone.audit().violations(), 0);
    assert_eq!(zone.free_frames(), FRAMES);
}

#[test]
fn a_request_that_cannot_be_met_is_refused_by_name_up_to_the_largest_numbers() {
    on_both!(FRAMES, refused_requests);
}

fn refused_frees<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let range = |start, end| FrameRange { start: Pfn::new(start), end: Pfn::new(end) };
    let run = raw.alloc_run_at(range(600, 700)).map(|()| range(600, 700)).unwrap();
    // Nothing is given back where one frame of it is wrong.
    for (wrong, at) in [(range(599, 650), 599), (range(650, 701), 700), (range(0, 600), 0)] {
        let misuse = raw.free_run(wrong).unwrap_err();
        assert_eq!((misuse.cause, misuse.frame), (Cause::FrameIsFree, Pfn::new(at)));
        assert_eq!(zone.used_frames(), 100);
    }
    for outside in [range(0, u64::MAX), range(FRAMES, FRAMES + 2), range(u64::MAX - 1, u64::MAX)] {
        assert_eq!(raw.free_run(outside).unwrap_err().cause, Cause::NotInZone);
    }
    assert!(raw.free_run(range(9, 3)).is_ok() && raw.free_run(range(5, 5)).is_ok(), "no frame at all");
    let unsplittable = zone.alloc_with(Request::new(Order::HUGE).unsplittable()).unwrap();
    let part = FrameRange::new(unsplittable.pfn().offset(10), 20);
    let misuse = raw.free_run(part).unwrap_err();
    assert_eq!(misuse.cause, Cause::InsideBlock { head: unsplittable.pfn(), order: Order::HUGE });
    drop(unsplittable);
    // A second free of a part.
    raw.free_run(range(610, 620)).unwrap();
    assert_eq!(raw.free_run(run).unwrap_err().cause, Cause::FrameIsFree);
    raw.free_run(range(600, 610)).unwrap();
    raw.free_run(range(620, 700)).unwrap();
    assert_eq!(heard.count(), 8);
    let audit = zone.audit();
    assert_eq!((audit.violations(), zone.used_frames()), (0, 0), "{audit}");
    // Each misused frame that is in the zone has left service.
    assert_eq!(zone.set_aside_frames(), audit.set_aside);
    assert!(zone.set_aside_frames() >= 4);
}

#[test]
fn a_free_of_what_the_caller_cannot_have_is_refused_and_changes_nothing_else() {
    on_both!(FRAMES, refused_frees);
}

/// A block that ends beyond what is given back, or begins before it, and can't be split.
fn refused_ends<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
    let range = |start, end| FrameRange { start: Pfn::new(start), end: Pfn::new(end) };
    let around = [range(0, 8), range(16, FRAMES)].map(|range| zone.alloc_run_at(range).unwrap());
    let block = zone.alloc_with(Request::new(Order::new(3).unwrap()).unsplittable()).unwrap();
    assert_eq!(block.frames(), range(8, 16));
    for (part, first) in [(range(6, 12), 8), (range(12, 20), 12)] {
        let misuse = zone.raw().free_run(part).unwrap_err();
        let expected = Cause::InsideBlock { head: block.pfn(), order: block.order() };
        assert_eq!((misuse.cause, misuse.frame), (expected, Pfn::new(first)));
        assert_eq!(zone.used_frames(), FRAMES, "nothing was given back");
    }
    drop((around, block));
    assert_eq!((zone.used_frames(), zone.set_aside_frames()), (0, 2));
}

#[test]
fn a_free_that_ends_within_a_block_that_cannot_be_split_gives_nothing_back() {
    on_both!(FRAMES, refused_ends);
}

fn out_of_service<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let frame = Pfn::new(700);
    let run = zone.alloc_run_at(FrameRange::new(Pfn::new(600), 512)).unwrap();
    assert_eq!(zone.set_aside(frame), SetAside::WhenFreed);
    drop(run);
    assert_eq!(zone.set_aside_frames(), 1);
    let error = zone.alloc_run_at(FrameRange::new(Pfn::new(600), 512)).unwrap_err();
    assert_eq!(error, RunError::InUse { frame });
    // The longest runs lie on either side of it.
    let above = zone.alloc_run(FRAMES - 701, 1).unwrap();
    let below = zone.alloc_run(700, 1).unwrap();
    assert_eq!((below.frames().end, above.pfn()), (frame, frame.offset(1)));
    drop((above, below));
    assert!(zone.restore(frame) && !zone.restore(frame));
    assert!(zone.alloc_run(FRAMES, 1).is_ok());
    let audit = zone.audit();
    assert_eq!((audit.violations(), audit.free, heard.count()), (0, FRAMES, 0), "{audit}");
}

#[test]
fn a_frame_of_a_run_leaves_service_and_comes_back() {
    on_both!(FRAMES, out_of_service);
}

/// Runs are had, parted and given back by several threads, with pins of all of them about.
fn play<'z, P: Protocol>(
    zone: &'z Zone<'z, P>,
    table: &Mutex<Vec<FrameRange>>,
    pins: &Mutex<Vec<PageRef<'z, P>>>,
    seed: u64,
    turns: u64,
) {
    let mut random = Random::new(seed);
    let raw = zone.raw();
    let take = |random: &mut Random| {
        let mut table = table.lock().unwrap();
        let n = table.len() as u64;
        (n > 0).then(|| table.swap_remove(random.below(n) as usize))
    };
    for _ in 0..turns {
        match random.below(8) {
            0 | 1 => {
                let n = [1, 5, 17, 48, 100, 512, 700][random.below(7) as usize];
                if let Ok(run) = raw.alloc_run(RunRequest::new(n)) {
                    // Two threads are going to give back parts of one block.
                    let middle = run.start.offset(random.below(n + 1));
                    let parts = [(run.start, middle), (middle, run.end)];
                    let parts = parts.map(|(start, end)| FrameRange { start, end });
                    table.lock().unwrap().extend(parts.into_iter().filter(|part| part.frames() > 0));
                }
            }
            2 => {
                let range = FrameRange::new(Pfn::new(random.below(FRAMES - 40)), 40);
                if raw.alloc_run_at(range).is_ok() {
                    table.lock().unwrap().push(range);
                }
            }
            3..6 => {
                if let Some(run) = take(&mut random) {
                    raw.free_run(run).unwrap();
                }
            }
            6 => {
                if let Ok(pin) = zone.try_pin(Pfn::new(random.below(FRAMES))) {
                    pins.lock().unwrap().push(pin);
                }
                let mut pins = pins.lock().unwrap();
                while pins.len() > 20 {
                    let n = pins.len() as u64;
                    pins.swap_remove(random.below(n) as usize);
                }
            }
            _ => drop(zone.alloc(Order::new([0, 0, 3, 9][random.below(4) as usize]).unwrap())),
        }
    }
}

fn stress<'z, P: Protocol>(zone: &'z Zone<'z, P>, heard: &common::Heard, turns: u64) {
    let (table, pins) = (Mutex::default(), Mutex::default());
    for round in 0..4 {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (table, pins) = (&table, &pins);
                scope.spawn(move || play(zone, table, pins, round * 1000 + thread, turns));
            }
        });
        let audit = zone.audit();
        assert_eq!((audit.violations(), heard.count()), (0, 0), "{audit}");
    }
    table.into_inner().unwrap().into_iter().for_each(|run| zone.raw().free_run(run).unwrap());
    drop(pins);
    let audit = zone.audit();
    assert_eq!((audit.violations(), audit.free, heard.count()), (0, FRAMES, 0), "{audit}");
    assert_eq!(zone.free_pageblocks(), FRAMES / 512);
}

#[test]
fn threads_give_back_parts_of_the_same_blocks_at_once() {
    on_one!(OneWord, FRAMES, stress, 10_000);
    on_one!(Classic, FRAMES, stress, 1_000);
}
