//! The contents of frames, as atomic words: the one module that turns a frame number into memory.
//!
//! Everything is a load, store or compare-and-swap of an aligned [`AtomicU64`], so that racing
//! accesses of several users of a page (which a kernel can't prevent) are well defined here, even
//! if the environment does not keep what it promised of sections and translations, or a user of the
//! zone gives back frames that it doesn't have.

#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::{FrameRange, Order, Pfn};

use crate::addr::PAGE_BYTES;
use crate::env::Env;
use crate::mm::MmCore;

/// Words in a frame.
const WORDS: usize = (PAGE_BYTES / 8) as usize;

impl<E: Env> MmCore<'_, E> {
    /// The words of a frame of the zone.
    pub(crate) fn words(&self, frame: Pfn) -> &[AtomicU64; WORDS] {
        assert!(self.zone.span().contains(frame), "frame {frame} is not of this zone");
        let first = self.env.frame(frame).cast::<[AtomicU64; WORDS]>();
        // SAFETY: `DirectMap` (whose implementer promises it) gives a pointer aligned to 4096 to
        // 4096 bytes that live as long as the environment, which `self` borrows, or panics where it
        // has none. They are only accessed as atomic words, here and by those that the trait allows
        // to.
        unsafe { first.as_ref() }
    }

    /// Clears a block. The frames are the caller's.
    pub(crate) fn clear(&self, head: Pfn, order: Order) {
        for frame in FrameRange::block(head, order).iter() {
            for word in self.words(frame) {
                // Relaxed: what is published with the entry that maps them includes these zeroes.
                word.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Copies one frame; the target is the caller's, the source stays by a count that the caller
    /// has.
    pub(crate) fn copy_frame(&self, from: Pfn, to: Pfn) {
        for (from, to) in self.words(from).iter().zip(self.words(to)) {
            // Relaxed: a thread that writes to the source during the copy races by its own choice;
            // the copy is published with the entry that maps it.
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Copies bytes out of a frame, from byte `at` on.
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

fn half(word: u64, at: usize) -> u32 {
    let bytes = word.to_ne_bytes();
    u32::from_ne_bytes(bytes[at % 8..at % 8 + 4].try_into().expect("four bytes"))
}

fn with_half(word: u64, at: usize, value: u32) -> u64 {
    let mut bytes = word.to_ne_bytes();
    bytes[at % 8..at % 8 + 4].copy_from_slice(&value.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}
