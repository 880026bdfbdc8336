//! Naturally aligned runs of set bits in a word, by order. Pure functions; a set bit is a free
//! frame (or, in the eight bits of a pageblock, a free word).

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
