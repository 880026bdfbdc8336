//! `allocator-api2`: collections in an arena, for the two versions that are about.

use std::alloc::Layout;
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use tailpin::FrameRange;

use crate::arena::Arena;
use crate::handles::buffer::Buffer;
use crate::memory::PAGE_SIZE;

macro_rules! allocator {
    ($crate_name:ident, $(#[$doc:meta])*) => {
        $(#[$doc])*
        // SAFETY: memory stays where it is until it is deallocated, as a buffer that was forgotten
        // keeps its pages, and the pages keep the arena; clones are the same arena.
        unsafe impl $crate_name::alloc::Allocator for Arena {
            fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, $crate_name::alloc::AllocError> {
                if layout.size() == 0 {
                    return Ok(no_bytes(layout));
                }
                // Blocks are aligned to their size, up to the 1 GiB that is the most there is.
                let buffer = self.try_alloc(bytes(layout)).map_err(|_| $crate_name::alloc::AllocError)?;
                let mut buffer = ManuallyDrop::new(buffer);
                let start = NonNull::from(&mut buffer[..]).cast();
                debug_assert!(start.addr().get().is_multiple_of(layout.align()));
                Ok(NonNull::slice_from_raw_parts(start, buffer.capacity()))
            }

            unsafe fn deallocate(&self, ptr: NonNull<u8>, layout: Layout) {
                if layout.size() > 0 {
                    // SAFETY: the caller gives up what `allocate` gave for this layout.
                    let buffer = unsafe { self.regain(ptr, layout) };
                    without_unwinding(|| drop(buffer));
                }
            }

            unsafe fn shrink(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, $crate_name::alloc::AllocError> {
                if new.size() == 0 {
                    // SAFETY: the caller's promise.
                    unsafe { $crate_name::alloc::Allocator::deallocate(self, ptr, old) };
                    return Ok(no_bytes(new));
                }
                if new.align() > old.align() {
                    let larger = $crate_name::alloc::Allocator::allocate(self, new)?;
                    // SAFETY: both are at least `new.size()` bytes, and different allocations; the
                    // old one is given up.
                    unsafe {
                        ptr.copy_to_nonoverlapping(larger.cast(), new.size());
                        $crate_name::alloc::Allocator::deallocate(self, ptr, old);
                    }
                    return Ok(larger);
                }
                // SAFETY: the caller gives up what `allocate` gave for this layout, and gets back
                // its beginning.
                let mut buffer = ManuallyDrop::new(unsafe { self.regain(ptr, old) });
                without_unwinding(|| buffer.truncate(bytes(new)));
                Ok(NonNull::slice_from_raw_parts(ptr, buffer.capacity()))
            }
        }
    };
}

#[cfg(feature = "allocator-api2")]
allocator! {
    allocator_api2,
    /// Whole pages for each allocation, so it suits a few large collections, not many small ones.
    /// Shrinking stays in place: the pages behind are free for others at once. An allocation of no
    /// bytes takes none.
    ///
    /// A waker or a watermark's callback that panics while memory is given up here panics no
    /// further: no collection could go on after that.
    ///
    /// ```
    /// use allocator_api2::vec::Vec;
    /// use tailpin_arena::Arena;
    ///
    /// let arena = Arena::builder().size(16 << 20).build()?;
    /// let mut numbers = Vec::with_capacity_in(1 << 18, arena.clone());
    /// numbers.extend(0..1000_u64);
    /// assert_eq!(arena.stats().in_use(), 2 << 20);
    /// numbers.shrink_to_fit();
    /// assert_eq!(arena.stats().in_use(), 8192);
    /// drop(numbers);
    /// assert_eq!(arena.stats().in_use(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
}

#[cfg(feature = "allocator-api2-02")]
allocator! {
    allocator_api2_02,
    /// As for version 0.4, which has the feature `allocator-api2`: this one is what `hashbrown` and
    /// `vortex-buffer` take.
}

/// An allocation of no bytes: an address that suits the layout, and nothing behind it. Who has one
/// may forget it, as `Vec` does, so it must not keep a page.
fn no_bytes(layout: Layout) -> NonNull<[u8]> {
    let address = std::ptr::without_provenance_mut(layout.align());
    NonNull::slice_from_raw_parts(NonNull::new(address).unwrap_or(NonNull::dangling()), 0)
}

/// Bytes that are asked of the arena for a layout that is not of size zero: the same for all sizes
/// that fit one allocation, in whole pages.
fn bytes(layout: Layout) -> usize {
    layout.size().max(layout.align())
}

/// Gives memory up. That may wake requests and tell of a watermark, which is foreign code; but
/// where its panic went on, a collection would still have the memory that it has just given up, and
/// read it, and give it up again. So the panic ends here, told by the panic hook alone.
fn without_unwinding(give_up: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(give_up)) {
        // Its drop is foreign code as well.
        mem::forget(panic);
    }
}

impl Arena {
    /// The buffer that was forgotten.
    ///
    /// # Safety
    /// `ptr` came from `allocate` or `shrink`, was not given up since, and `layout` fits it.
    unsafe fn regain(&self, ptr: NonNull<u8>, layout: Layout) -> Buffer {
        let len = bytes(layout);
        let blocks = FrameRange::new(self.inner().page_of(ptr), len.div_ceil(PAGE_SIZE) as u64);
        // SAFETY: the forgotten buffer's references are still there, one on each of its blocks.
        unsafe { Buffer::adopt(self.root(), blocks, len) }
    }
}
