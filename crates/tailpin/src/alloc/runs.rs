//! Naturally aligned runs of set bits in a word, by order. Pure functions; a set bit is a free
//! frame (or, in the eight bits of a pageblock, a free word).

#![expect(
    clippy::arithmetic_side_effects,
    reason = "orders below 6, and numbers and places of a word's bits"
)]

use crate::frame::Order;

/// Bits at multiples of 1, 2, 4, 8, 16 and 32.
const ALIGNED: [u64; 6] = [
    !0,
    0x5555_5555_5555_5555,
    0x1111_1111_1111_1111,
    0x0101_0101_0101_0101,
    0x0001_0001_0001_0001,
    0x1_0000_0001,
];

/// The run of `order` that begins at `bit`, as a mask.
#[inline]
pub(super) const fn run(order: Order, bit: u32) -> u64 {
    (!0 >> (64 - order.frames())) << bit
}

/// Where runs of one order begin, from where those of the order below do.
#[inline]
const fn paired(starts: u64, order: usize) -> u64 {
    starts & starts >> (1 << (order - 1)) & ALIGNED[order]
}

/// All bits of the runs of `order` that begin at `starts`.
#[inline]
const fn covered(mut starts: u64, order: usize) -> u64 {
    let mut step = 0;
    while step < order {
        starts |= starts << (1 << step);
        step += 1;
    }
    starts
}

/// Order of the largest run in `free`, 0 to 5; `None` without any. Without branches: bits of free
/// frames are as good as random.
#[inline]
pub(super) const fn largest(free: u64) -> Option<Order> {
    let mut starts = free;
    let mut largest = 0;
    let mut order = 1;
    while order < 6 {
        starts = paired(starts, order);
        largest += (starts != 0) as u8;
        order += 1;
    }
    if free == 0 { None } else { Some(Order::wrap(largest)) }
}

/// First bit of the best run for `order` (0 to 5): the lowest one that is part of no larger run,
/// else the lowest in the smallest larger ones.
#[inline]
pub(super) const fn best(free: u64, order: Order) -> Option<u32> {
    let mut starts = free;
    let mut at = 0;
    while at < order.get() as usize {
        at += 1;
        starts = paired(starts, at);
    }
    while starts != 0 {
        let larger = if at < 5 { paired(starts, at + 1) } else { 0 };
        let exact = starts & !(larger | larger << (1 << at));
        if exact != 0 {
            return Some(exact.trailing_zeros());
        }
        starts = larger;
        at += 1;
    }
    None
}

/// Where `n` set bits side by side begin, `n` from 1 to 64.
#[inline]
const fn starts_of(bits: u64, n: u32) -> u64 {
    let mut starts = bits;
    let mut have = 1;
    while have < n {
        let step = if have < n - have { have } else { n - have };
        starts &= starts >> step;
        have += step;
    }
    starts
}

/// The best place for `n` bits side by side, 1 to 64, the first of them at a multiple of the
/// frames of `align`, at most a row's: a gap of just that size, else the lower end of a gap, else
/// the lowest place there is.
#[inline]
pub(super) const fn fitting(free: u64, n: u32, align: Order) -> Option<u64> {
    let multiples = if align.get() < 6 { ALIGNED[align.get() as usize] } else { 1 };
    let starts = starts_of(free, n) & multiples;
    let ends = starts & !(free << 1);
    let exact = if n < 64 { ends & !starts_of(free, n + 1) } else { ends };
    let best = if exact != 0 {
        exact
    } else if ends != 0 {
        ends
    } else {
        starts
    };
    if best == 0 { None } else { Some((!0 >> (64 - n)) << best.trailing_zeros()) }
}

/// All runs of the smallest order that is there: the bits that are part of no larger run.
#[inline]
pub(super) const fn smallest(free: u64) -> u64 {
    let mut starts = free;
    let mut order = 0;
    while order < 5 {
        let larger = paired(starts, order + 1);
        let rest = free & !covered(larger, order + 1);
        if rest != 0 {
            return rest;
        }
        starts = larger;
        order += 1;
    }
    free
}

/// The lowest bits, at most so many.
#[inline]
pub(super) fn lowest(bits: u64, most: usize) -> u64 {
    let mut bits = bits;
    while bits.count_ones() as usize > most {
        bits ^= 1 << bits.ilog2();
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn samples() -> impl Iterator<Item = u64> {
        let mut seed = 3u64;
        (0..20_000).map(move |_| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed & seed.rotate_left(17) | seed.rotate_left(31)) & !(seed >> 40)
        })
    }

    /// The maximal runs as a buddy allocator would list them.
    fn buddies(free: u64) -> Vec<(Order, u32)> {
        let mut all = Vec::new();
        let mut bit = 0;
        while bit < 64 {
            let fits = |order: &Order| {
                bit % order.frames() as u32 == 0 && free & run(*order, bit) == run(*order, bit)
            };
            match (0..6).rev().map(Order::wrap).find(fits) {
                Some(order) => {
                    all.push((order, bit));
                    bit += order.frames() as u32;
                }
                None => bit += 1,
            }
        }
        all
    }

    #[test]
    fn a_fitting_place_is_the_tightest_gap_else_the_lower_end_of_one() {
        for free in samples().step_by(97).chain([0, 1, !0, !0 >> 32, 1 << 63, !0 << 3]) {
            for n in [1, 2, 3, 5, 8, 13, 31, 32, 33, 48, 63, 64] {
                for align in [0, 1, 3, 5, 6].map(Order::wrap) {
                    let mask = !0 >> (64 - n);
                    let is_free = |bit: i64| (0..64).contains(&bit) && free >> bit & 1 != 0;
                    let fits = |bit: &i64| {
                        *bit % align.frames() as i64 == 0 && (*bit..bit + i64::from(n)).all(is_free)
                    };
                    let rank = |bit: &i64| {
                        let ends = !is_free(bit - 1);
                        (!ends || is_free(bit + i64::from(n)), !ends, *bit)
                    };
                    let best = (0..64).filter(fits).min_by_key(rank);
                    assert_eq!(fitting(free, n, align), best.map(|bit| mask << bit), "{free:#x} {n} {align}");
                }
            }
        }
    }

    #[test]
    fn they_are_those_of_a_buddy_list() {
        for free in samples().chain([0, 1, !0, !0 >> 32, 1 << 63]) {
            let all = buddies(free);
            assert_eq!(largest(free), all.iter().map(|(order, _)| *order).max());
            for order in (0..6).map(Order::wrap) {
                let fitting = all.iter().filter(|(found, _)| *found >= order);
                assert_eq!(best(free, order), fitting.min().map(|(_, bit)| *bit), "{free:#x} {order}");
            }
            let least = all.iter().map(|(order, _)| *order).min();
            let of_least = all.iter().filter(|(order, _)| Some(*order) == least);
            assert_eq!(smallest(free), of_least.fold(0, |mask, (order, bit)| mask | run(*order, *bit)));
        }
    }
}
