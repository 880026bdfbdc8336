//! Requests for memory in pieces.

use tailpin::Order;

use crate::arena::Arena;
use crate::error::AllocError;
use crate::handles::scattered::buffer::ScatteredBuffer;
use crate::memory::PAGE_SIZE;
use crate::page_notes::TagNumber;
use crate::requests::charge::Charge;
use crate::requests::reservation::Reservation;
use crate::requests::tag::Tag;

/// What `len` bytes in pieces of `piece` bytes need: pages, and the order of a piece.
fn needs(len: usize, piece: usize) -> Result<(u64, Order), AllocError> {
    let order = (piece.is_power_of_two() && piece >= PAGE_SIZE)
        .then(|| Order::new((piece / PAGE_SIZE).trailing_zeros() as u8))
        .flatten()
        .filter(|order| *order <= Order::HUGE)
        .ok_or(AllocError::BadPiece { piece })?;
    let pages = (len.div_ceil(piece) as u64).saturating_mul(order.frames());
    Ok((pages, order))
}

impl Charge<'_> {
    /// A scattered buffer of `len` bytes, for which the pages are.
    fn into_scattered(self, len: usize, order: Order) -> Result<ScatteredBuffer, AllocError> {
        let buffer = self.arena().obtain_pieces(len, order, self.tag())?;
        self.into_pages();
        Ok(ScatteredBuffer::new(buffer, len))
    }
}

impl Arena {
    /// A buffer of `len` bytes in pieces of `piece` bytes, a power of two from 4 KiB to 2 MiB: see
    /// [`ScatteredBuffer`]. The last piece is whole, too, until the buffer is frozen.
    ///
    /// Waits as [`Arena::alloc`] does. As any free pages do, it is refused for want of memory alone
    /// where the pieces are pages, and hardly ever where they are small.
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub fn alloc_scattered(&self, len: usize, piece: usize) -> Result<ScatteredBuffer, AllocError> {
        let (pages, order) = needs(len, piece)?;
        Charge::block(self, TagNumber::NONE, pages, None)?.into_scattered(len, order)
    }

    /// As [`Arena::alloc_scattered`], if that is possible at once.
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub fn try_alloc_scattered(&self, len: usize, piece: usize) -> Result<ScatteredBuffer, AllocError> {
        let (pages, order) = needs(len, piece)?;
        Charge::at_once(self, TagNumber::NONE, pages)?.into_scattered(len, order)
    }

    /// As [`Arena::alloc_scattered`], without blocking a thread: the task waits. A future that is
    /// dropped gives up its place in the queue; nothing is lost.
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub async fn alloc_scattered_async(
        &self,
        len: usize,
        piece: usize,
    ) -> Result<ScatteredBuffer, AllocError> {
        let (pages, order) = needs(len, piece)?;
        Charge::wait(self, TagNumber::NONE, pages).await?.into_scattered(len, order)
    }
}

impl Tag {
    /// As [`Arena::alloc_scattered`], within this tag's limit too.
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub fn alloc_scattered(&self, len: usize, piece: usize) -> Result<ScatteredBuffer, AllocError> {
        let (pages, order) = needs(len, piece)?;
        Charge::block(self.arena(), self.number(), pages, None)?.into_scattered(len, order)
    }

    /// As [`Arena::try_alloc_scattered`], within this tag's limit too.
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub fn try_alloc_scattered(&self, len: usize, piece: usize) -> Result<ScatteredBuffer, AllocError> {
        let (pages, order) = needs(len, piece)?;
        Charge::at_once(self.arena(), self.number(), pages)?.into_scattered(len, order)
    }

    /// As [`Arena::alloc_scattered_async`], within this tag's limit too.
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub async fn alloc_scattered_async(
        &self,
        len: usize,
        piece: usize,
    ) -> Result<ScatteredBuffer, AllocError> {
        let (pages, order) = needs(len, piece)?;
        Charge::wait(self.arena(), self.number(), pages).await?.into_scattered(len, order)
    }
}

impl Reservation {
    /// A buffer of `len` bytes in pieces of `piece` bytes, out of what is reserved: whole pieces of
    /// it. See [`Arena::alloc_scattered`].
    ///
    /// # Errors
    /// [`AllocError::OverReservation`], [`AllocError::BadPiece`], [`AllocError::OutOfMemory`]. What
    /// is reserved stays as it was.
    pub fn alloc_scattered(&mut self, len: usize, piece: usize) -> Result<ScatteredBuffer, AllocError> {
        let (pages, order) = needs(len, piece)?;
        let pieces = self.spend(pages, |arena, tag| arena.obtain_pieces(len, order, tag))?;
        Ok(ScatteredBuffer::new(pieces, len))
    }
}
