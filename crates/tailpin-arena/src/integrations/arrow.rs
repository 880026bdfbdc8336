//! `arrow-buffer`: slices under Arrow arrays, for each of the versions that engines have.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::handles::slice::Slice;

macro_rules! arrow_buffer {
    ($crate_name:ident, $(#[$doc:meta])*) => {
        $(#[$doc])*
        impl From<Slice> for $crate_name::Buffer {
            fn from(slice: Slice) -> Self {
                if slice.is_empty() {
                    // Arrow's own is aligned for every element type; the address of no bytes is
                    // not.
                    return Self::default();
                }
                let (ptr, len) = (NonNull::from(&slice[..]).cast(), slice.len());
                // SAFETY: `len` bytes from `ptr` on are the slice's: initialised, unchanging, and
                // mapped while the slice lives, at the same address wherever the slice itself is
                // moved. The buffer owns it.
                unsafe { Self::from_custom_allocation(ptr, len, Arc::new(slice)) }
            }
        }
    };
}

#[cfg(feature = "arrow")]
arrow_buffer! {
    arrow_buffer,
    /// An Arrow buffer over the slice's bytes, without a copy; they stay until the last array over
    /// them is gone.
    ///
    /// A buffer of an arena begins on a page, so a slice that begins at a multiple of 64 in it has
    /// the alignment that Arrow recommends. Arrow itself refuses to view an element type at an
    /// address that doesn't suit it.
    ///
    /// Slice first, wrap second: `arrow_buffer::Buffer::slice` of the result keeps all of its
    /// bytes.
    ///
    /// ```
    /// use arrow_buffer::{Buffer, ScalarBuffer};
    /// use tailpin_arena::Arena;
    ///
    /// let arena = Arena::builder().size(16 << 20).build()?;
    /// let mut column = arena.alloc(2 << 20)?;
    /// column[64 << 10..][..8].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
    /// let batch = Buffer::from(column.freeze().slice(64 << 10..(64 << 10) + 8));
    /// assert_eq!(&ScalarBuffer::<i32>::from(batch)[..], [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
}

#[cfg(feature = "arrow-59")]
arrow_buffer! {
    arrow_buffer_59,
    /// As for the latest version, which has the feature `arrow`.
}

#[cfg(feature = "arrow-58")]
arrow_buffer! {
    arrow_buffer_58,
    /// As for the latest version, which has the feature `arrow`.
}
