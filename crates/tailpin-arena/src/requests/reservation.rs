//! A part of the limit that a caller has before it has the memory.

use std::fmt;

use crate::arena::Arena;
use crate::error::AllocError;
use crate::handles::buffer::Buffer;
use crate::memory::bytes_of;
use crate::page_notes::TagNumber;
use crate::requests::charge::{Charge, buffer_pages, pages_of};

/// Bytes of an arena's limit, and of a tag's, that are this handle's: buffers made from it wait for
/// nothing. What is left when it is dropped is others' again; a buffer's pages are when the last
/// handle that keeps them goes.
///
/// From [`Arena::reserve`] and its kin, or those of a [`Tag`](crate::Tag).
#[must_use = "what is reserved goes back when this is dropped"]
pub struct Reservation {
    arena: Arena,
    tag: TagNumber,
    pages: u64,
}

impl From<Charge<'_>> for Reservation {
    fn from(charge: Charge<'_>) -> Self {
        let (arena, tag, pages) = charge.into_pages();
        Self { arena: arena.clone(), tag, pages }
    }
}

impl Reservation {
    /// Bytes of the reservation that are left.
    pub fn left(&self) -> usize {
        bytes_of(self.pages)
    }

    /// The arena that the reservation is of.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// A buffer of `len` bytes, out of what is reserved.
    ///
    /// # Errors
    /// [`AllocError::OverReservation`], [`AllocError::OutOfMemory`] if no block of that length is
    /// free, [`AllocError::TooLarge`]. What is reserved stays as it was.
    pub fn alloc(&mut self, len: usize) -> Result<Buffer, AllocError> {
        let pages = buffer_pages(len)?;
        self.spend(pages, |arena, tag| arena.obtain(len, tag))
    }

    /// Makes something of `pages` pages that are this reservation's.
    pub(crate) fn spend<T>(
        &mut self,
        pages: u64,
        make: impl FnOnce(&Arena, TagNumber) -> Result<T, AllocError>,
    ) -> Result<T, AllocError> {
        let Some(left) = self.pages.checked_sub(pages) else {
            return Err(AllocError::OverReservation { asked: bytes_of(pages), left: self.left() });
        };
        let made = make(&self.arena, self.tag)?;
        self.pages = left;
        Ok(made)
    }

    /// Gives back what is more than `bytes`, in whole pages.
    pub fn shrink_to(&mut self, bytes: usize) {
        let pages = self.pages.min(pages_of(bytes));
        drop(self.split_pages(self.pages.saturating_sub(pages)));
    }

    /// A reservation of `bytes`, in whole pages, out of this one; `None` if it has less.
    pub fn split(&mut self, bytes: usize) -> Option<Self> {
        let pages = pages_of(bytes);
        (pages <= self.pages).then(|| self.split_pages(pages))
    }

    fn split_pages(&mut self, pages: u64) -> Self {
        self.pages = self.pages.saturating_sub(pages);
        Self { arena: self.arena.clone(), tag: self.tag, pages }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.pages > 0 {
            drop(Charge::of(&self.arena, self.tag, self.pages));
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reservation({} bytes)", self.left())
    }
}
