//! The contents of frames: cleared, copied, read and written through the environment's direct map.

use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::{Order, Pfn};

use crate::env::Env;
use crate::env::direct_map::{WORDS, words};
use crate::mm::MmCore;

impl<E: Env> MmCore<'_, E> {
    /// The words of a frame of the zone, or of the kernel's page table.
    pub(crate) fn words(&self, frame: Pfn) -> &[AtomicU64; WORDS] {
        let known = self.zone.span().contains(frame) || self.config.kernel_root == Some(frame);
        assert!(known, "frame {frame} is not of this zone");
        words(self.env, frame)
    }

    /// Clears a block. The frames are the caller's.
    pub(crate) fn clear(&self, head: Pfn, order: Order) {
        self.env.clear(head, order.frames());
    }

    /// Copies frames; the target is the caller's, the source stays by a count that the caller has.
    pub(crate) fn copy_frames(&self, from: Pfn, to: Pfn, frames: u64) {
        self.env.copy(from, to, frames);
    }

    /// Copies bytes out of a frame, from byte `at` on.
    #[expect(clippy::arithmetic_side_effects, reason = "bytes within a page")]
    pub(crate) fn read_bytes(&self, frame: Pfn, at: usize, buf: &mut [u8]) {
        let words = self.words(frame);
        let mut done = 0;
        while done < buf.len() {
            let (word, skip) = ((at + done) / 8, (at + done) % 8);
            let n = (8 - skip).min(buf.len() - done);
            // Relaxed: plain memory of users.
            let bytes = words[word].load(Ordering::Relaxed).to_ne_bytes();
            buf[done..done + n].copy_from_slice(&bytes[skip..skip + n]);
            done += n;
        }
    }

    /// Copies bytes into a frame, from byte `at` on; every other byte is left as it is, also if
    /// other threads write there at the same time.
    #[expect(clippy::arithmetic_side_effects, reason = "bytes within a page")]
    pub(crate) fn write_bytes(&self, frame: Pfn, at: usize, buf: &[u8]) {
        let words = self.words(frame);
        let mut done = 0;
        while done < buf.len() {
            let (word, skip) = ((at + done) / 8, (at + done) % 8);
            let n = (8 - skip).min(buf.len() - done);
            let part = &buf[done..done + n];
            // Relaxed: plain memory of users.
            if n == 8 {
                words[word]
                    .store(u64::from_ne_bytes(part.try_into().expect("eight bytes")), Ordering::Relaxed);
            } else {
                let merge = |old: u64| {
                    let mut bytes = old.to_ne_bytes();
                    bytes[skip..skip + n].copy_from_slice(part);
                    Some(u64::from_ne_bytes(bytes))
                };
                let _ = words[word].fetch_update(Ordering::Relaxed, Ordering::Relaxed, merge);
            }
            done += n;
        }
    }

    /// The aligned 32-bit word at byte `at` of a frame. Acquire: pairs with the Release of
    /// [`MmCore::update_u32`].
    pub(crate) fn load_u32(&self, frame: Pfn, at: usize) -> u32 {
        half(self.words(frame)[at / 8].load(Ordering::Acquire), at)
    }

    /// Changes the aligned 32-bit word at byte `at` to what `new` makes of it, unless that is
    /// `None`; tries again after another thread's change. Returns the value that `new` was given
    /// last, either way. AcqRel: a lock word's two sides.
    pub(crate) fn update_u32(
        &self,
        frame: Pfn,
        at: usize,
        mut new: impl FnMut(u32) -> Option<u32>,
    ) -> Result<u32, u32> {
        let word = &self.words(frame)[at / 8];
        let change = |old: u64| new(half(old, at)).map(|new| with_half(old, at, new));
        match word.fetch_update(Ordering::AcqRel, Ordering::Acquire, change) {
            Ok(old) => Ok(half(old, at)),
            Err(old) => Err(half(old, at)),
        }
    }
}

#[expect(clippy::arithmetic_side_effects, reason = "a remainder")]
fn half(word: u64, at: usize) -> u32 {
    let bytes = word.to_ne_bytes();
    u32::from_ne_bytes(bytes[at % 8..at % 8 + 4].try_into().expect("four bytes"))
}

#[expect(clippy::arithmetic_side_effects, reason = "a remainder")]
fn with_half(word: u64, at: usize, value: u32) -> u64 {
    let mut bytes = word.to_ne_bytes();
    bytes[at % 8..at % 8 + 4].copy_from_slice(&value.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}
