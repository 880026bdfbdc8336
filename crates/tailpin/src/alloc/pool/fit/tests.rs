//! Where a request is served from, against a plain map of the free frames.

use super::*;
use crate::alloc::layout::ZoneLayout;
use crate::alloc::pageblock::ALL_ROWS;
use crate::alloc::tests::random;
use crate::frame::FrameRange;
use crate::frame_mask::FrameMask;
use core::sync::atomic::AtomicU64;
use std::vec::Vec;

const PAGEBLOCKS: usize = 5;
const FRAMES: u64 = PAGEBLOCKS as u64 * 512;
const BASE: Pfn = Pfn::new(1024);

fn on_a_pool(test: impl FnOnce(&Pool<'_, AtomicU64>)) {
    let ranges = [FrameRange::new(BASE, FRAMES)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let words: Vec<_> = (0..layout.allocator_words()).map(|_| AtomicU64::new(0)).collect();
    let pool = Pool::new(&layout, &words);
    pool.begin();
    test(&pool);
}

fn order(order: u8) -> Order {
    Order::wrap(order)
}

/// The largest run that is less than a pageblock.
const PART: Order = Order::wrap(8);

/// Which frames are free, as a person would keep it.
struct Plain([[u64; 8]; PAGEBLOCKS]);

/// How good a place is, the least the best: how full its pageblock is (whole ones last), then
/// whether it lies in a row that is free as a whole, then how large the run is that it is cut from.
type Rank = (u8, bool, Option<Order>, usize);

impl Plain {
    fn free(&self, row: RowId) -> u64 {
        self.0[row.pageblock().index()][row.within()]
    }

    fn whole_rows(&self, id: usize) -> u64 {
        (0..8).filter(|row| self.0[id][*row] == !0).fold(0, |rows, row| rows | 1 << row)
    }

    /// 0 with 64 frames or more in use, 1 with fewer, 2 with none.
    fn class(&self, id: usize) -> u8 {
        match self.0[id].iter().map(|free| free.count_zeros()).sum() {
            0 => 2,
            1..64 => 1,
            _ => 0,
        }
    }

    /// The row that is best for a run of `order`, 0 to 5.
    fn best_row(&self, order: Order, most: Order) -> Option<RowId> {
        let rows = (0..PAGEBLOCKS * 8).filter_map(|index| -> Option<(Rank, RowId)> {
            let (id, within, row) = (index / 8, index % 8, RowId::from_index(index));
            let (free, whole) = (self.0[id][within], self.whole_rows(id));
            if free != !0 {
                let run = largest(free).filter(|run| *run >= order)?;
                return Some(((self.class(id), false, Some(run), index), row));
            }
            let is_best = best(whole, Order::PAGE) == Some(within as u32);
            let allowed = whole != ALL_ROWS || most == Order::HUGE;
            (is_best && allowed).then_some(((self.class(id), true, largest(whole), index), row))
        });
        rows.min().map(|(_, row)| row)
    }

    /// The pageblock that is best for a run of rows of `order`, 6 to 8.
    fn best_pageblock(&self, order: Order, most: Order) -> Option<usize> {
        let fits = |id: &usize| {
            let run = largest(self.whole_rows(*id)).map(|run| Order::wrap(run.get() + 6));
            run.is_some_and(|run| order <= run && run <= most)
        };
        (0..PAGEBLOCKS).filter(fits).min_by_key(|id| (self.class(*id), largest(self.whole_rows(*id)), *id))
    }

    fn set(&mut self, frames: &FrameMask, id: usize, is_free: bool) {
        for (row, frames) in frames.words().iter().enumerate() {
            let free = &mut self.0[id][row];
            assert_eq!(*free & frames, if is_free { 0 } else { *frames });
            *free ^= frames;
        }
    }
}

/// What was taken, and of which pageblock.
type Part = (usize, FrameMask);

fn in_row(row: RowId, frames: u64) -> Part {
    let mut words = [0; 8];
    words[row.within()] = frames;
    (row.pageblock().index(), FrameMask::from_words(words))
}

fn in_rows(id: usize, rows: u64, n: u64) -> Part {
    let words = core::array::from_fn(|row| if rows >> row & 1 != 0 { !0 } else { 0 });
    (id, FrameMask::from_words(words).lowest(n))
}

fn run_of(first: Pfn, n: u64) -> Part {
    let pageblock = first.head(Order::HUGE);
    let frames = FrameMask::of_range(FrameRange::new(first, n), pageblock);
    (((pageblock.get() - BASE.get()) / 512) as usize, frames)
}

/// A request, and what of the plain map it has to be.
fn request(pool: &Pool<'_, AtomicU64>, plain: &Plain, below: &mut impl FnMut(u64) -> u64) -> Option<Part> {
    let most = if below(3) == 0 { Order::HUGE } else { PART };
    // Where no block has room, every place is looked at, the lowest first.
    let everywhere = |places: usize| 0..if most == Order::HUGE { places } else { 0 };
    let rows_of = |order: Order, select: &dyn Fn(u64) -> Option<u64>, n: u64| {
        let in_pageblock = |id: usize| select(plain.whole_rows(id)).map(|rows| in_rows(id, rows, n));
        let best = plain.best_pageblock(order, most);
        best.map_or_else(|| everywhere(PAGEBLOCKS).find_map(in_pageblock), in_pageblock)
    };
    let row_of = |order: Order, select: &dyn Fn(u64) -> Option<u64>| {
        let take_of = |row: RowId| select(plain.free(row)).map(|frames| in_row(row, frames));
        let best = plain.best_row(order, most);
        let mut rows = everywhere(PAGEBLOCKS * 8).map(RowId::from_index);
        best.map_or_else(|| rows.find_map(take_of), take_of)
    };
    let (taken, expected) = match below(5) {
        0 => {
            let limit = 1 + below(64) as usize;
            let taken = pool.take_pages(most, limit).map(|(row, frames)| in_row(row, frames));
            (taken, row_of(Order::PAGE, &|free| Some(lowest(smallest(free), limit))))
        }
        1 | 2 => {
            let order = order(below(9) as u8);
            let taken = pool.take_part(order, most);
            assert!(taken.is_none_or(|taken| !taken.needs_scrub));
            let taken = taken.map(|taken| run_of(taken.head, order.frames()));
            let expected = if order < Order::ROW {
                row_of(order, &|free| best(free, order).map(|bit| run(order, bit)))
            } else {
                let in_rows = Order::wrap(order.get() - 6);
                rows_of(order, &|rows| best(rows, in_rows).map(|row| run(in_rows, row)), 512)
            };
            (taken, expected)
        }
        _ => {
            let n = [1, 3, 5, 8, 17, 32, 33, 48, 64, 65, 100, 128, 129, 192, 200, 256][below(16) as usize];
            let align = order([0, 0, 0, 1, 3, 5, 6, 7, 8][below(9) as usize]);
            let taken = pool.take_side_by_side(n, align, most).map(|first| run_of(first, n));
            // It is looked for where a block that has room for it fits.
            let room = order(n.next_power_of_two().ilog2() as u8).max(align);
            let expected = if room < Order::ROW {
                row_of(room, &|free| fitting(free, n as u32, align))
            } else {
                let align = Order::wrap(align.get().saturating_sub(6));
                rows_of(room, &|rows| fitting(rows, n.div_ceil(64) as u32, align), n)
            };
            (taken, expected)
        }
    };
    assert_eq!(taken, expected);
    taken
}

#[test]
fn a_request_takes_the_best_place_of_all() {
    let mut below = random(11);
    for _ in 0..8 {
        on_a_pool(|pool| {
            let (mut plain, mut parts) = (Plain([[!0; 8]; PAGEBLOCKS]), Vec::<Part>::new());
            let mut target = 0;
            for turn in 0..600 {
                if turn % 60 == 0 {
                    target = [60, 300, 1000, 2000, FRAMES][below(5) as usize];
                }
                if FRAMES - pool.free_frames() < target && (below(4) != 0 || parts.is_empty()) {
                    if let Some((id, frames)) = request(pool, &plain, &mut below) {
                        plain.set(&frames, id, false);
                        parts.push((id, frames));
                    }
                } else if !parts.is_empty() {
                    let (id, frames) = parts.swap_remove(below(parts.len() as u64) as usize);
                    pool.give_some(BASE.offset(id as u64 * 512), &frames).unwrap();
                    plain.set(&frames, id, true);
                }
                for (id, free) in plain.0.iter().enumerate() {
                    let id = PageblockId::from_index(id);
                    assert_eq!(pool.fault(id), None);
                    assert!(id.rows().map(|row| pool.free_of(row)).eq(*free));
                }
            }
        });
    }
}

/// Takes all frames but those of one pageblock for which `is_free` says so.
fn all_but(pool: &Pool<'_, AtomicU64>, id: usize, is_free: impl Fn(u64) -> bool) {
    for _ in 0..PAGEBLOCKS {
        assert!(pool.take_pageblock(PageblockId::FIRST).is_some());
    }
    let free = (0..512).filter(|frame| is_free(*frame));
    let mut frames = FrameMask::NONE;
    free.for_each(|frame| frames.insert(frame));
    pool.give_some(BASE.offset(id as u64 * 512), &frames).unwrap();
}

/// Takes away all hints to places of a pageblock.
fn forget(pool: &Pool<'_, AtomicU64>, id: usize) {
    let id = PageblockId::from_index(id);
    for index in pool.run_indexes() {
        for order in (0..6).map(order) {
            id.rows().for_each(|row| index.rows_with(order).clear(row, || false));
        }
        (6..9).map(order).for_each(|order| index.pageblocks_with(order).clear(id, || false));
    }
    pool.whole.clear(id, || false);
}

/// As while a thread that took a hint away has not looked yet whether it has to put it back.
#[test]
fn what_no_hint_leads_to_is_found_before_a_request_fails() {
    type Take<'a> = &'a dyn Fn(&Pool<'_, AtomicU64>, Order) -> Option<Part>;
    let part = |order: Order| {
        move |pool: &Pool<'_, AtomicU64>, most| {
            pool.take_part(order, most).map(|taken| run_of(taken.head, order.frames()))
        }
    };
    let (of_row, of_rows) = (part(order(2)), part(order(7)));
    let pages =
        |pool: &Pool<'_, AtomicU64>, most| pool.take_pages(most, 2).map(|(row, bits)| in_row(row, bits));
    let beside = |n: u64| {
        move |pool: &Pool<'_, AtomicU64>, most| {
            pool.take_side_by_side(n, Order::PAGE, most).map(|first| run_of(first, n))
        }
    };
    let (few, many) = (beside(20), beside(100));
    // What is free, the request, and what it takes.
    let cases: [(core::ops::Range<u64>, Take<'_>, u64, u64); 8] = [
        (132..140, &of_row, 132, 4),
        (128..192, &of_row, 128, 4),
        (0..512, &of_row, 0, 4),
        (128..384, &of_rows, 128, 128),
        (0..512, &of_rows, 0, 128),
        (133..138, &pages, 133, 1),
        // No block has room for these.
        (150..180, &few, 150, 20),
        (64..192, &many, 64, 100),
    ];
    for (free, take, first, n) in cases {
        on_a_pool(|pool| {
            all_but(pool, 3, |frame| free.contains(&frame));
            forget(pool, 3);
            let before = pool.free_frames();
            assert_eq!(take(pool, PART), None, "{free:?}: where hints lead");
            let taken = take(pool, Order::HUGE);
            assert_eq!(taken, Some(run_of(BASE.offset(3 * 512 + first), n)), "{free:?}");
            assert_eq!(pool.free_frames(), before - n);
        });
    }
}

#[test]
fn a_block_has_free_frames_also_where_its_rows_have_the_same_ones() {
    on_a_pool(|pool| {
        all_but(pool, 2, |frame| frame % 64 == 5 && frame < 128);
        let has_any = |first: u64, of: u8| pool.has_any_of(BASE.offset(2 * 512 + first), order(of));
        assert!(has_any(0, 6) && has_any(64, 6) && has_any(0, 7) && has_any(0, 8));
        assert!(!has_any(128, 7) && !has_any(256, 8) && !has_any(128, 6));
    });
}

#[test]
fn frames_of_a_row_are_taken_together_or_not_at_all() {
    on_a_pool(|pool| {
        let (row, whole) = (RowId::from_index(9), RowId::from_index(10));
        all_but(pool, 1, |frame| (64..192).contains(&frame) && frame != 64);
        assert_eq!(pool.free_of(row), !1);
        assert!(!pool.take_all_of(row, 0b0011) && !pool.take_all_of(whole, 0b0110));
        assert!(pool.take_all_of(row, 0b0110) && !pool.take_all_of(row, 0b1100));
        assert_eq!((pool.free_of(row), pool.free_of(whole)), (!0b0111, !0));
        assert_eq!(pool.fault(PageblockId::from_index(1)), None);
    });
}
