//! Memory as atomic words. One of the few modules with `unsafe`.

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// `len` bytes at `base`, as words.
///
/// # Safety
/// The memory is readable, writable and initialized, aligned for words, used as atomic words only,
/// and outlives the use of what is returned.
pub(super) unsafe fn words_at(base: NonNull<u8>, len: usize) -> &'static [AtomicU64] {
    const WORD: usize = size_of::<AtomicU64>();
    // SAFETY: the caller's promise; any bits are a word.
    unsafe { std::slice::from_raw_parts(base.cast::<AtomicU64>().as_ptr(), len / WORD) }
}
