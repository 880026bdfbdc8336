//! `vm-memory`: guest memory whose balloon gives back single 4 KiB pages.

use std::fmt;

use ::vm_memory::bitmap::BS;
use ::vm_memory::{
    GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes, GuestUsize,
    MemoryRegionAddress, VolatileSlice, guest_memory,
};
use tailpin::FrameRange;

use crate::arena::Arena;
use crate::error::{AllocError, ReleaseError};
use crate::handles::buffer::Buffer;
use crate::memory::{PAGE_BYTES, PAGE_SIZE};
use crate::reclaim::discard::discard_pages;
use crate::reclaim::release::Released;

/// A region of a guest's memory, of up to 1 GiB, for a
/// [`GuestRegionCollection`](::vm_memory::GuestRegionCollection).
///
/// It is made of huge pages where the arena has them. A balloon reports 4 KiB:
/// [`GuestRegion::inflate`] gives that page back to the system, really and verified, by taking
/// apart the one huge page it lies in. Nothing has to be done to deflate: when the guest touches
/// the page, it has memory again.
///
/// ```
/// use tailpin_arena::{Arena, vm_memory::GuestRegion};
/// use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestRegionCollection};
///
/// let arena = Arena::builder().size(16 << 20).build()?;
/// let region = GuestRegion::new(&arena, GuestAddress(0x10_0000), 4 << 20)?;
/// let memory = GuestRegionCollection::from_regions(vec![region])?;
/// memory.write_obj(0x1234_u32, GuestAddress(0x10_3000))?;
/// let region = memory.find_region(GuestAddress(0x10_3000)).expect("it lies there");
/// let released = region.inflate(GuestAddress(0x10_3000), 1)?;
/// if released.stuck == 0 {
///     assert_eq!(memory.read_obj::<u32>(GuestAddress(0x10_3000))?, 0);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GuestRegion {
    start: GuestAddress,
    /// Written by the guest at any time, so no reference to its bytes is ever made.
    buffer: Buffer,
    host: *mut u8,
}

// SAFETY: the address is of the buffer's bytes, which are read and written by volatile accesses
// alone, from any thread, as a guest's memory is.
unsafe impl Send for GuestRegion {}
// SAFETY: threads that share a region access its bytes by volatile accesses alone.
unsafe impl Sync for GuestRegion {}

/// Why there is no region of guest memory over an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionError {
    /// A region has at least one byte, and the last of them an address: the guest's end at 2^64 -
    /// 1.
    BadRange {
        /// The first address asked for.
        start: GuestAddress,
        /// Bytes asked for.
        bytes: usize,
    },
    /// The arena has no such buffer.
    Arena(AllocError),
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRange { start, bytes } => {
                write!(f, "{bytes} bytes from {:#x} on are no region of a guest's memory", start.0)
            }
            Self::Arena(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for RegionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Arena(error) => Some(error),
            Self::BadRange { .. } => None,
        }
    }
}

/// Why a balloon did not get its page.
#[derive(Debug)]
#[non_exhaustive]
pub enum BalloonError {
    /// These pages are not in the region, or don't begin on a page.
    NotInRegion {
        /// The first address asked for.
        address: GuestAddress,
        /// Pages asked for.
        pages: usize,
    },
    /// The arena refuses.
    Arena(ReleaseError),
}

impl fmt::Display for BalloonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInRegion { address, pages } => {
                write!(f, "{pages} pages from {:#x} on are not pages of this region", address.0)
            }
            Self::Arena(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for BalloonError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Arena(error) => Some(error),
            Self::NotInRegion { .. } => None,
        }
    }
}

impl GuestRegion {
    /// Zeroed memory for the guest addresses from `start` on; without memory under it yet, where
    /// the arena can do that.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn new(arena: &Arena, start: GuestAddress, bytes: usize) -> Result<Self, RegionError> {
        // Collections of regions compute the last address from these two, unchecked.
        let last = (bytes as u64).checked_sub(1).and_then(|above| start.0.checked_add(above));
        if last.is_none() {
            return Err(RegionError::BadRange { start, bytes });
        }
        let mut buffer = arena.alloc_tagged(bytes, "guest").map_err(RegionError::Arena)?;
        let len = buffer.len();
        match buffer.discard(0..len) {
            // All whole pages are zero; the last one may be a part only.
            Ok(discarded) if discarded.stuck == 0 => buffer[len.saturating_sub(len % PAGE_SIZE)..].fill(0),
            _ => buffer.fill(0),
        }
        let host = buffer.as_mut_ptr();
        Ok(Self { start, buffer, host })
    }

    /// The balloon has these pages now: their memory goes back to the system. What the guest reads
    /// there is zero until it writes again. Pages that the kernel would not let go of are told as
    /// [`Released::stuck`] and keep their contents.
    ///
    /// # Errors
    /// [`BalloonError`]. [`ReleaseError::Busy`] is worth another try.
    #[doc(alias = "balloon")]
    pub fn inflate(&self, address: GuestAddress, pages: usize) -> Result<Released, BalloonError> {
        let not_in = BalloonError::NotInRegion { address, pages };
        let Some(offset) = address.0.checked_sub(self.start.0) else { return Err(not_in) };
        let room = (self.buffer.len() / PAGE_SIZE) as u64;
        let first = offset / PAGE_BYTES;
        let ends_within = first.checked_add(pages as u64).is_some_and(|end| end <= room);
        if !offset.is_multiple_of(PAGE_BYTES) || !ends_within {
            return Err(not_in);
        }
        let (inner, blocks) = self.buffer.inner_and_pages();
        let frames = FrameRange::new(blocks.start.offset(first), pages as u64);
        // SAFETY: the pages are the buffer's, and references to its bytes are never made.
        unsafe { discard_pages(inner, frames) }.map_err(BalloonError::Arena)
    }
}

impl GuestRegion {
    /// Refuses in a forked child in which the memory is not mapped: an access would be a
    /// segmentation fault.
    fn check_home(&self) -> guest_memory::Result<()> {
        if self.buffer.inner_and_pages().0.is_child() {
            return Err(GuestMemoryError::HostAddressNotAvailable);
        }
        Ok(())
    }
}

impl GuestMemoryRegion for GuestRegion {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.buffer.len() as GuestUsize
    }

    fn start_addr(&self) -> GuestAddress {
        self.start
    }

    fn bitmap(&self) -> BS<'_, ()> {}

    fn get_host_address(&self, address: MemoryRegionAddress) -> guest_memory::Result<*mut u8> {
        self.check_home()?;
        let address = self.check_address(address).ok_or(GuestMemoryError::InvalidBackendAddress)?;
        Ok(self.host.wrapping_add(address.0 as usize))
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> guest_memory::Result<VolatileSlice<'_, BS<'_, ()>>> {
        self.check_home()?;
        let end = offset.0.checked_add(count as u64);
        if end.is_none_or(|end| end > self.len()) {
            return Err(GuestMemoryError::InvalidBackendAddress);
        }
        // SAFETY: `count` bytes from here on are the buffer's, which lives as long as what is
        // returned; all users access them by volatile accesses.
        Ok(unsafe { VolatileSlice::new(self.host.wrapping_add(offset.0 as usize), count) })
    }
}

impl GuestMemoryRegionBytes for GuestRegion {}

impl fmt::Debug for GuestRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestRegion({} bytes at {:#x})", self.buffer.len(), self.start.0)
    }
}
