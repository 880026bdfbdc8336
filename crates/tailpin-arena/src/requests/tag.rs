//! A name for buffers, with a limit of its own.

use std::fmt;
use std::time::{Duration, Instant};

use crate::arena::Arena;
use crate::budget::counts::UNLIMITED;
use crate::budget::tags::TagState;
use crate::error::AllocError;
use crate::handles::buffer::Buffer;
use crate::memory::{PAGE_SIZE, bytes_of};
use crate::page_notes::TagNumber;
use crate::requests::charge::{Charge, buffer_pages, pages_of};
use crate::requests::reservation::Reservation;

/// A name by which an arena knows buffers, from [`Arena::tag`]: a tenant, a table, a peer. What is
/// in use under it is counted, to the last pin, and can have a limit of its own within the arena's.
///
/// ```
/// use tailpin_arena::{AllocError, Arena};
///
/// let arena = Arena::builder().limit(64 << 20).build()?;
/// let tenant = arena.tag(&format!("tenant {}", 7))?;
/// tenant.set_limit(1 << 20);
/// let buffer = tenant.alloc(1 << 20)?;
/// assert!(matches!(tenant.try_alloc(1), Err(AllocError::OverLimit { of_tag: true, .. })));
/// let kept = buffer.freeze().slice(0..100);
/// assert_eq!((tenant.in_use(), kept.tag()), (4096, Some("tenant 7")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A handle: clones are the same tag. It keeps the arena, as an [`Arena`] does.
#[derive(Clone)]
pub struct Tag {
    arena: Arena,
    number: TagNumber,
}

impl Tag {
    pub(crate) fn new(arena: Arena, number: TagNumber) -> Self {
        Self { arena, number }
    }

    pub(crate) fn number(&self) -> TagNumber {
        self.number
    }

    fn state(&self) -> &TagState {
        self.arena.inner().tags.get(self.number).expect("a tag is never removed")
    }

    /// Name of the tag.
    pub fn name(&self) -> &str {
        &self.state().name
    }

    /// The arena that the tag is of.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Bytes in use or reserved under it.
    pub fn in_use(&self) -> usize {
        bytes_of(self.state().budget.used())
    }

    /// Bytes that may be in use under it; `None` if only the arena's limit counts.
    pub fn limit(&self) -> Option<usize> {
        let limit = self.state().budget.limit();
        (limit < UNLIMITED).then(|| bytes_of(limit))
    }

    /// Sets the limit, in bytes, rounded down to whole pages. What is in use stays in use; if that
    /// is more, requests wait until it is less.
    pub fn set_limit(&self, bytes: usize) {
        self.state().budget.set_limit((bytes / PAGE_SIZE) as u64);
    }

    /// Requests that wait for its limit.
    pub fn waiting(&self) -> usize {
        self.state().budget.waiting()
    }

    /// As [`Arena::alloc`], within this tag's limit too.
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub fn alloc(&self, len: usize) -> Result<Buffer, AllocError> {
        Charge::buffer(&self.arena, self.number, len)
    }

    /// As [`Arena::try_alloc`], within this tag's limit too.
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub fn try_alloc(&self, len: usize) -> Result<Buffer, AllocError> {
        Charge::buffer_at_once(&self.arena, self.number, len)
    }

    /// As [`Arena::alloc_async`], within this tag's limit too.
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub async fn alloc_async(&self, len: usize) -> Result<Buffer, AllocError> {
        Charge::wait(&self.arena, self.number, buffer_pages(len)?).await?.into_buffer(len)
    }

    /// As [`Arena::reserve`], within this tag's limit too.
    ///
    /// # Errors
    /// As [`Arena::reserve`].
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, AllocError> {
        Ok(Charge::block(&self.arena, self.number, pages_of(bytes), None)?.into())
    }

    /// As [`Arena::reserve_timeout`], within this tag's limit too.
    ///
    /// # Errors
    /// As [`Arena::reserve_timeout`].
    pub fn reserve_timeout(&self, bytes: usize, timeout: Duration) -> Result<Reservation, AllocError> {
        let deadline = Instant::now().checked_add(timeout);
        Ok(Charge::block(&self.arena, self.number, pages_of(bytes), deadline)?.into())
    }

    /// As [`Arena::try_reserve`], within this tag's limit too.
    ///
    /// # Errors
    /// As [`Arena::try_reserve`].
    pub fn try_reserve(&self, bytes: usize) -> Result<Reservation, AllocError> {
        Ok(Charge::at_once(&self.arena, self.number, pages_of(bytes))?.into())
    }

    /// As [`Arena::reserve_async`], within this tag's limit too.
    ///
    /// # Errors
    /// As [`Arena::reserve_async`].
    pub async fn reserve_async(&self, bytes: usize) -> Result<Reservation, AllocError> {
        Ok(Charge::wait(&self.arena, self.number, pages_of(bytes)).await?.into())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({:?}, {} bytes in use)", self.name(), self.in_use())
    }
}
