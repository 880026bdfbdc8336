//! Where the bytes of a frame are, and frames as atomic words: the one place that turns a frame
//! number into memory.
//!
//! Everything is a load, store or compare-and-swap of an aligned [`AtomicU64`], so that racing
//! accesses of several users of a page (which a kernel can't prevent) are well defined here, even
//! if the environment does not keep what it promised of sections and translations, or a user of the
//! zone gives back frames that it doesn't have.

#![allow(unsafe_code)]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::Pfn;

use crate::addr::PAGE_BYTES;

/// Where a frame's 4096 bytes are.
///
/// # Safety
/// For every frame of the zone that is in service, and for the kernel's page table,
/// [`MmConfig::kernel_root`](crate::MmConfig::kernel_root), `frame` returns a pointer, aligned to
/// 4096, to 4096 bytes that are readable and writable for as long as `self` lives, the same for
/// each call, and frames with consecutive numbers are consecutive in memory. For any other frame it
/// returns such a pointer or panics. All software but this crate accesses them atomically only;
/// devices that were given a pin and the processor, through a mapping, access them as they do.
/// `clear` and `copy` write to the frames that they are given and to nothing else.
pub unsafe trait DirectMap {
    /// The frame's first byte.
    fn frame(&self, frame: Pfn) -> NonNull<u8>;

    /// Fills `frames` frames from `first` with zeroes, before they are published. No thread but the
    /// caller accesses them. What is here stores word by word; a kernel may have a faster way (`rep
    /// stosb`, `dc zva`, stores that leave the caches alone).
    fn clear(&self, first: Pfn, frames: u64) {
        clear_words(self, first, frames);
    }

    /// Copies `frames` frames from `from` to `to`, before the latter are published. Other threads
    /// may write to `from` at the same time: each byte is copied as it was at some moment of the
    /// call.
    fn copy(&self, from: Pfn, to: Pfn, frames: u64) {
        copy_words(self, from, to, frames);
    }
}

/// Words in a frame.
pub(crate) const WORDS: usize = (PAGE_BYTES / 8) as usize;

/// The words of a frame that is the zone's or the kernel's page table; of any other if the
/// environment has a pointer for it, else it panics.
pub(crate) fn words<D: DirectMap + ?Sized>(direct_map: &D, frame: Pfn) -> &[AtomicU64; WORDS] {
    let first = direct_map.frame(frame).cast::<[AtomicU64; WORDS]>();
    // SAFETY: `DirectMap` (whose implementer promises it) gives a pointer aligned to 4096 to 4096
    // bytes that live as long as the environment, which is borrowed here, or panics where it has
    // none. They are only accessed as atomic words, here and by those that the trait allows to.
    unsafe { first.as_ref() }
}

/// Clears frames, word by word.
pub(crate) fn clear_words<D: DirectMap + ?Sized>(direct_map: &D, first: Pfn, frames: u64) {
    for frame in 0..frames {
        for word in words(direct_map, first.offset(frame)) {
            // Relaxed: what is published with the entry that maps them includes these zeroes.
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// Copies frames, word by word.
pub(crate) fn copy_words<D: DirectMap + ?Sized>(direct_map: &D, from: Pfn, to: Pfn, frames: u64) {
    for frame in 0..frames {
        let (from, to) = (words(direct_map, from.offset(frame)), words(direct_map, to.offset(frame)));
        for (from, to) in from.iter().zip(to) {
            // Relaxed: a thread that writes to the source during the copy races by its own choice;
            // the copy is published with the entry that maps it.
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}
