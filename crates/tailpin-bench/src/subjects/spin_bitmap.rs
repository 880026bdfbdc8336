//! The plain thing to do: one bit per frame, a lock, and a search from where the last one ended.

use spin::Mutex;

use super::Frames;

struct Bits {
    used: Vec<u64>,
    next: usize,
}

impl Bits {
    fn take(&mut self, order: u8) -> Option<usize> {
        let words = self.used.len();
        let stride = if order < 6 { 1 } else { 1 << (order - 6) };
        let mut at = self.next / stride * stride;
        for _ in 0..words.div_ceil(stride) {
            if at >= words {
                at = 0;
            }
            if let Some(bit) = self.take_at(at, stride, order) {
                self.next = at;
                return Some(at * 64 + bit);
            }
            at += stride;
        }
        None
    }

    #[inline]
    fn take_at(&mut self, at: usize, stride: usize, order: u8) -> Option<usize> {
        if order >= 6 {
            let run = self.used.get_mut(at..at + stride)?;
            return run.iter().all(|word| *word == 0).then(|| {
                run.fill(!0);
                0
            });
        }
        let n = 1_u32 << order;
        let run = !0_u64 >> (64 - n);
        // Each folding leaves a bit set where it and its neighbours at that distance are free.
        let mut free = !self.used[at];
        for step in 0..order {
            free &= free >> (1_u32 << step);
        }
        free &= !0_u64 / run;
        (free != 0).then(|| {
            let bit = free.trailing_zeros();
            self.used[at] |= run << bit;
            bit as usize
        })
    }

    fn give(&mut self, frame: usize, order: u8) {
        if order >= 6 {
            self.used[frame / 64..][..1 << (order - 6)].fill(0);
        } else {
            self.used[frame / 64] &= !((!0_u64 >> (64 - (1_u32 << order))) << (frame % 64));
        }
    }
}

/// A bitmap under a spin lock, next fit.
pub(crate) struct SpinBitmap(Mutex<Bits>);

impl SpinBitmap {
    pub(crate) fn new(frames: u64) -> Self {
        Self(Mutex::new(Bits { used: vec![0; frames as usize / 64], next: 0 }))
    }
}

impl Frames for SpinBitmap {
    type Held = usize;
    const NAME: &'static str = "spin-bitmap";

    #[inline]
    fn take(&self, order: u8) -> Option<usize> {
        self.0.lock().take(order)
    }

    #[inline]
    fn give(&self, held: usize, order: u8) {
        self.0.lock().give(held, order);
    }

    fn frame(&self, held: &usize) -> u64 {
        *held as u64
    }

    fn metadata_bytes(&self) -> Option<usize> {
        Some(self.0.lock().used.len() * 8)
    }
}
