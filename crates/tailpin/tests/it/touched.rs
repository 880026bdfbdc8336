//! Memory touched stays within a constant of memory in use: what was given back in pieces is found
//! again before memory that was never used.

use crate::common;

use std::cell::Cell;
use std::collections::BTreeSet;

use common::{OneWord, Random};
use tailpin::{Block, FrameRange, Order, Pfn, Run, Zone, ZoneConfig, ZoneLayout, ZoneMemory};

/// Pageblocks of a zone.
const PAGEBLOCKS: u64 = 16;

/// Buffers one after the other.
const ROUNDS: u64 = 10;

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

type TestZone<'z> = Zone<'z, OneWord<'z>>;

/// How a buffer is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Whole,
    PageByPage,
    PageByPageFromTheEnd,
    PageByPageAtRandom,
    /// As smaller blocks, every other one first.
    InBlocks,
    /// A page of each block is pinned for longer than the block.
    APinLast,
    /// What is around a page goes first.
    AroundAPage,
}

const WAYS: [Way; 7] = [
    Way::Whole,
    Way::PageByPage,
    Way::PageByPageFromTheEnd,
    Way::PageByPageAtRandom,
    Way::InBlocks,
    Way::APinLast,
    Way::AroundAPage,
];

/// How a buffer is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// As blocks, the largest that are not too large first.
    Blocks,
    /// As pages.
    Pages,
    /// As a run, to be given back in three parts.
    Run,
}

fn blocks<'z>(zone: &'z TestZone<'z>, n: u64, largest: Order) -> Vec<Block<'z, OneWord<'z>>> {
    let (mut left, mut blocks) = (n, Vec::new());
    while left > 0 {
        let order = Order::all().rev().find(|order| order.frames() <= left && *order <= largest).unwrap();
        blocks.push(zone.alloc(order).unwrap());
        left -= order.frames();
    }
    blocks
}

fn give_back<'z>(blocks: Vec<Block<'z, OneWord<'z>>>, way: Way, random: &mut Random) {
    let in_pieces = |order: Order| {
        let to = move |block: Block<'z, OneWord<'z>>| {
            let order = order.min(block.order());
            block.split_to(order).map_err(|(_, error)| error).unwrap().collect::<Vec<_>>()
        };
        move |blocks: Vec<_>| blocks.into_iter().flat_map(to).collect::<Vec<_>>()
    };
    let pages = in_pieces(Order::PAGE);
    match way {
        Way::Whole => drop(blocks),
        Way::PageByPage => drop(pages(blocks)),
        Way::PageByPageFromTheEnd => pages(blocks).into_iter().rev().for_each(drop),
        Way::PageByPageAtRandom => {
            let mut pages = pages(blocks);
            while !pages.is_empty() {
                pages.swap_remove(random.below(pages.len() as u64) as usize);
            }
        }
        Way::InBlocks => {
            let pieces = in_pieces(Order::new(4).unwrap())(blocks);
            let (even, odd): (Vec<_>, Vec<_>) = pieces.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
            drop((even, odd));
        }
        Way::APinLast => {
            let pin = |block: &Block<'z, _>| block.pin(random.below(block.order().frames())).unwrap();
            let pins: Vec<_> = blocks.iter().map(pin).collect();
            drop(blocks);
            drop(pins);
        }
        Way::AroundAPage => {
            let around = |block: Block<'z, OneWord<'z>>| {
                let page = random.below(block.order().frames());
                let pieces = block.split_around(page, Order::PAGE).map_err(|(_, error)| error).unwrap();
                pieces.collect::<Vec<_>>()
            };
            let mut pieces: Vec<_> = blocks.into_iter().flat_map(around).collect();
            pieces.sort_by_key(|piece| std::cmp::Reverse(piece.order()));
            drop(pieces);
        }
    }
}

fn in_three_parts(run: Run<'_, OneWord<'_>>, random: &mut Random) {
    let n = run.frames().frames();
    let (first, rest) = run.split_at(random.below(n + 1));
    let left = rest.frames().frames();
    let (middle, last) = rest.split_at(random.below(left + 1));
    drop(first);
    drop(last);
    drop(middle);
}

/// Pageblocks that buffers of `n` pages, one alive at a time, ever had frames of.
fn touched(n: u64, taken: Taken, way: Way, cpus: usize) -> u64 {
    let ranges = [FrameRange::new(Pfn::new(0), PAGEBLOCKS * 512)];
    let layout = ZoneLayout::new(&ranges, cpus).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: TestZone<'_> = memory.zone(layout, ZoneConfig::default().cpu(|| CPU.get())).unwrap();
    let (mut touched, mut random) = (BTreeSet::new(), Random::new(n));
    let mut touch = |frames: FrameRange| {
        touched.extend(frames.start.get() / 512..frames.end.get().div_ceil(512));
    };
    for _ in 0..ROUNDS {
        CPU.set(random.below(cpus as u64) as usize);
        match taken {
            Taken::Run => {
                let run = zone.alloc_run(n, 1).unwrap();
                touch(run.frames());
                CPU.set(random.below(cpus as u64) as usize);
                in_three_parts(run, &mut random);
            }
            Taken::Blocks | Taken::Pages => {
                let largest = if taken == Taken::Pages { Order::PAGE } else { Order::MAX };
                let blocks = blocks(&zone, n, largest);
                blocks.iter().for_each(|block| touch(block.frames()));
                CPU.set(random.below(cpus as u64) as usize);
                give_back(blocks, way, &mut random);
            }
        }
    }
    CPU.set(0);
    assert_eq!(zone.used_frames(), 0);
    touched.len() as u64
}

/// For every length from a page to 4 MiB, what one buffer alive at a time touches is what it needs,
/// and `more` pageblocks.
fn stays_within(cpus: usize, more: u64) {
    for n in 1..=1024 {
        let all = |taken| WAYS.map(|way| (taken, way));
        let of_pages = (Taken::Pages, Way::Whole);
        let cases = all(Taken::Blocks).into_iter().chain([of_pages, (Taken::Run, Way::Whole)]);
        for (taken, way) in cases {
            let touched = touched(n, taken, way, cpus);
            let most = n.div_ceil(512) + more;
            assert!(touched <= most, "{n} pages, {taken:?}, {way:?}, {cpus} CPUs: {touched} pageblocks");
        }
    }
}

#[test]
fn one_buffer_at_a_time_touches_little_more_than_itself() {
    stays_within(1, 1);
}

#[test]
fn so_it_does_if_another_cpu_gives_it_back() {
    // Each of the CPUs begins to look in its own part of the zone, and has one row reserved.
    stays_within(2, 4);
}

#[test]
fn a_pageblock_is_whole_when_its_last_page_comes_back() {
    let ranges = [FrameRange::new(Pfn::new(0), PAGEBLOCKS * 512)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: TestZone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
    let blocks: Vec<_> = (0..PAGEBLOCKS).map(|_| zone.alloc(Order::HUGE).unwrap()).collect();
    let pins: Vec<_> =
        blocks.iter().flat_map(|block| [3, 70, 71, 500].map(|page| block.pin(page).unwrap())).collect();
    drop(blocks);
    assert_eq!(zone.free_pageblocks(), 0);
    drop(pins);
    // Nothing was drained: each of them is found by the next request for so much.
    assert_eq!(zone.free_pageblocks(), PAGEBLOCKS);
}
