//! One 2 MiB area as the allocator sees it: 512 bits (set = used) in one cache line, and a count.
//!
//! Frames are *reserved* in the count first and *claimed* in the bits second; they are given back in the opposite
//! order. So the bits always hold at least as many free frames as the count promises, and an area whose count is
//! zero has no bit set and belongs to whoever moves the count away from zero.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::frame::{AREA_FRAMES, Order};

const USED_MASK: u64 = 0x3ff;
/// Some frame of the area has been handed out by itself since it was last at rest.
const TOUCHED: u64 = 1 << 16;
/// The area never enters service.
const WITHHELD: u64 = 1 << 17;
const FULL_FROM_SHIFT: u32 = 24;
const FULL_FROM_MASK: u64 = 0xf << FULL_FROM_SHIFT;

const _: () = assert!(AREA_FRAMES as u64 <= USED_MASK);

/// The counter word of an area, as a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AreaCount(u64);

impl AreaCount {
    /// Frames that are in use or reserved.
    pub(crate) fn used(self) -> usize {
        (self.0 & USED_MASK) as usize
    }

    pub(crate) fn is_touched(self) -> bool {
        self.0 & TOUCHED != 0
    }

    pub(crate) fn is_withheld(self) -> bool {
        self.0 & WITHHELD != 0
    }

    pub(crate) fn is_partial(self) -> bool {
        (1..AREA_FRAMES).contains(&self.used())
    }

    /// No run of this order was found at the last search, and nothing was given back since.
    fn lacks(self, order: Order) -> bool {
        let from = (self.0 & FULL_FROM_MASK) >> FULL_FROM_SHIFT;
        from != 0 && order.get() as u64 >= from
    }

    /// `n` frames more in use; `None` if they can't be there.
    fn reserve(self, n: usize) -> Option<Self> {
        (self.used() + n <= AREA_FRAMES).then_some(Self(self.0 + n as u64))
    }

    /// `n` frames less after a search for `order` in vain.
    fn unreserve(self, n: usize, order: Order) -> Self {
        Self((self.0 - n as u64) & !FULL_FROM_MASK | (order.get() as u64) << FULL_FROM_SHIFT)
    }

    /// `n` frames given back.
    fn release(self, n: usize) -> Self {
        Self((self.0 - n as u64) & !FULL_FROM_MASK | TOUCHED)
    }
}

/// What came of an attempt to claim frames.
pub(crate) enum Claim<T> {
    /// The frames, and the count before; `None` if the count was also raised in vain on the way.
    Got(T, Option<AreaCount>),
    /// Nothing, and the count was not touched.
    Full,
    /// Nothing, but the count was raised for a moment: summaries may have followed it.
    Cancelled,
}

/// An area's words.
pub(crate) struct Area<'m, W> {
    pub(crate) bits: &'m [W],
    pub(crate) count: &'m W,
}

impl<W: AtomicWord> Area<'_, W> {
    /// Acquire: pairs with the Release of whoever gave frames back.
    pub(crate) fn count(&self) -> AreaCount {
        AreaCount(self.count.load(Ordering::Acquire))
    }

    fn change(&self, seen: AreaCount, new: AreaCount) -> bool {
        // AcqRel: what the giver did to the frames is before the taker's use of them.
        self.count.compare_exchange(seen.0, new.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Claims an aligned run of `order` (0 to 8): the index of its first frame. A thorough search doesn't believe that an earlier one was in vain:
    /// runs that another search held for a moment and gave up are not announced.
    pub(crate) fn claim(&self, order: Order, thorough: bool) -> Claim<usize> {
        let n = order.frames() as usize;
        if !thorough && self.count().lacks(order) {
            return Claim::Full;
        }
        let Some(before) = self.reserve(n) else { return Claim::Full };
        match self.claim_bits(order) {
            Some(index) => Claim::Got(index, Some(before)),
            None => {
                self.unreserve(AreaCount(before.0 + n as u64), n, order);
                Claim::Cancelled
            }
        }
    }

    /// Claims up to `want` single frames of one bitmap word, as (word index, bits).
    pub(crate) fn claim_batch(&self, want: u32) -> Claim<(usize, u64)> {
        let mut cancelled = false;
        for (index, word) in self.bits.iter().enumerate() {
            let seen = word.load(Ordering::Relaxed);
            if seen == !0 {
                continue;
            }
            let mut take = !seen;
            while take.count_ones() > want {
                take &= !(1 << (63 - take.leading_zeros()));
            }
            let n = take.count_ones() as usize;
            let Some(before) = self.reserve(n) else { break };
            // Acquire: pairs with the Release that cleared these bits.
            if word.compare_exchange(seen, seen | take, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Claim::Got((index, take), (!cancelled).then_some(before));
            }
            self.cancel(n);
            cancelled = true;
        }
        if cancelled { Claim::Cancelled } else { Claim::Full }
    }

    /// Claims the whole area. Returns whether its words have to be put to rest.
    pub(crate) fn claim_whole(&self) -> Option<bool> {
        let seen = self.count();
        if seen.used() != 0 || !self.change(seen, AreaCount(AREA_FRAMES as u64)) {
            return None;
        }
        for word in self.bits {
            // Relaxed: the count was ours alone to move from zero; who gives frames back has them from us.
            word.store(!0, Ordering::Relaxed);
        }
        Some(seen.is_touched())
    }

    /// Takes the area out of service. Before the zone is shared.
    pub(crate) fn withhold(&self) {
        self.claim_whole();
        self.count.fetch_or(WITHHELD, Ordering::Relaxed);
    }

    /// Gives back a whole area that `claim_whole` returned. False if it is not wholly in use.
    pub(crate) fn release_whole(&self) -> bool {
        // Relaxed loads and stores: all frames of the area are the caller's.
        if self.bits.iter().any(|word| word.load(Ordering::Relaxed) != !0) {
            return false;
        }
        for word in self.bits {
            word.store(0, Ordering::Relaxed);
        }
        loop {
            let seen = self.count();
            let left = AreaCount(seen.0 & TOUCHED);
            if self.change(seen, left) {
                return true;
            }
        }
    }

    /// Gives back the frames of `mask` in bitmap word `index`. Errs with those that are free already, and then
    /// gives back none. Otherwise returns the count before.
    pub(crate) fn release(&self, index: usize, mask: u64) -> Result<AreaCount, u64> {
        // Release: what was done to the frames is before their next owner's Acquire.
        let word = &self.bits[index];
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            if seen & mask != mask {
                return Err(mask & !seen);
            }
            match word.compare_exchange(seen, seen & !mask, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Ok(self.release_count(mask.count_ones() as usize)),
                Err(now) => seen = now,
            }
        }
    }

    /// The count's part of giving back `n` frames whose bits are clear.
    pub(crate) fn release_count(&self, n: usize) -> AreaCount {
        loop {
            let seen = self.count();
            if self.change(seen, seen.release(n)) {
                return seen;
            }
        }
    }

    /// Claims those frames of bitmap word `index` that are free and wanted.
    pub(crate) fn claim_some(&self, index: usize, wanted: u64) -> Claim<u64> {
        let mut cancelled = false;
        loop {
            let seen = self.bits[index].load(Ordering::Relaxed);
            let take = wanted & !seen;
            let n = take.count_ones() as usize;
            let reserved = if take == 0 { None } else { self.reserve(n) };
            let Some(before) = reserved else {
                return if cancelled { Claim::Cancelled } else { Claim::Full };
            };
            // Acquire: as in `claim_batch`.
            let taken =
                self.bits[index].compare_exchange(seen, seen | take, Ordering::Acquire, Ordering::Relaxed);
            if taken.is_ok() {
                return Claim::Got(take, (!cancelled).then_some(before));
            }
            self.cancel(n);
            cancelled = true;
        }
    }

    /// Takes the one free frame `index` out; false if it is in use or cached.
    pub(crate) fn claim_frame(&self, index: usize) -> bool {
        if self.reserve(1).is_none() {
            return false;
        }
        let mask = 1u64 << (index % 64);
        // Acquire: as in `claim_batch`.
        let taken = self.bits[index / 64].fetch_or(mask, Ordering::Acquire) & mask == 0;
        if !taken {
            self.cancel(1);
        }
        taken
    }

    fn reserve(&self, n: usize) -> Option<AreaCount> {
        loop {
            let seen = self.count();
            let new = seen.reserve(n)?;
            if self.change(seen, new) {
                return Some(seen);
            }
        }
    }

    /// Gives up a reservation that found no run; remembers that, if nothing else happened meanwhile.
    fn unreserve(&self, ours: AreaCount, n: usize, order: Order) {
        if order == Order::PAGE || !self.change(ours, ours.unreserve(n, order)) {
            self.cancel(n);
        }
    }

    /// Gives up a reservation. AcqRel: as in `change`.
    fn cancel(&self, n: usize) {
        self.count.fetch_sub(n as u64, Ordering::AcqRel);
    }

    fn claim_bits(&self, order: Order) -> Option<usize> {
        if order.get() >= 6 {
            return self.claim_words(order);
        }
        for (index, word) in self.bits.iter().enumerate() {
            let mut seen = word.load(Ordering::Relaxed);
            while let Some(bit) = first_run(!seen, order) {
                let run = (!0 >> (64 - order.frames())) << bit;
                // Acquire: as in `claim_batch`.
                match word.compare_exchange(seen, seen | run, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return Some(index * 64 + bit as usize),
                    Err(now) => seen = now,
                }
            }
        }
        None
    }

    /// Orders 6 to 8: one, two or four whole words.
    fn claim_words(&self, order: Order) -> Option<usize> {
        let n = (order.frames() / 64) as usize;
        (0..self.bits.len()).step_by(n).find(|&first| self.claim_run(first, n)).map(|first| first * 64)
    }

    fn claim_run(&self, first: usize, n: usize) -> bool {
        for taken in 0..n {
            // Acquire: as in `claim_batch`.
            if self.bits[first + taken].compare_exchange(0, !0, Ordering::Acquire, Ordering::Relaxed).is_err()
            {
                for word in &self.bits[first..first + taken] {
                    word.store(0, Ordering::Release); // Wholly ours until now.
                }
                return false;
            }
        }
        true
    }
}

/// Position of the first naturally aligned run of `order` (0 to 5) set bits.
fn first_run(free: u64, order: Order) -> Option<u32> {
    let mut runs = free;
    for step in 0..order.get() {
        runs &= runs >> (1u32 << step);
    }
    // Bits at multiples of 1, 2, 4, 8, 16 and 32.
    const ALIGNED: [u64; 6] = [
        !0,
        0x5555_5555_5555_5555,
        0x1111_1111_1111_1111,
        0x0101_0101_0101_0101,
        0x0001_0001_0001_0001,
        0x1_0000_0001,
    ];
    runs &= ALIGNED[order.get() as usize];
    (runs != 0).then(|| runs.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_aligned_and_free() {
        let mut seed = 3u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let free = seed & seed.rotate_left(17) | seed.rotate_left(31);
            for order in 0..6 {
                let n = 1u32 << order;
                let mask = !0u64 >> (64 - n);
                let expected = (0..64).step_by(n as usize).find(|bit| free >> bit & mask == mask);
                assert_eq!(first_run(free, Order::new(order).unwrap()), expected);
            }
        }
    }
}
