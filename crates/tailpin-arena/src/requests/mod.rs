//! Ways to ask an arena for memory: at once, blocking the thread, or as a future.

pub(crate) mod charge;
pub(crate) mod copy;
pub(crate) mod page;
pub(crate) mod reservation;
pub(crate) mod scattered;
pub(crate) mod tag;

use std::time::{Duration, Instant};

use crate::arena::Arena;
use crate::error::{AllocError, TooManyTags};
use crate::handles::buffer::Buffer;
use crate::handles::either::EitherBuffer;
use crate::memory::{PAGE_SIZE, bytes_of};
use crate::page_notes::TagNumber;
use crate::requests::charge::{Charge, buffer_pages, pages_of};
use crate::requests::reservation::Reservation;
use crate::requests::tag::Tag;

impl Arena {
    /// A buffer of `len` bytes, this caller's alone.
    ///
    /// It begins at a multiple of the next power of two (4 KiB to 1 GiB), so one of 2 MiB or more
    /// is huge pages where the arena has them. Whole pages behind `len` bytes are free for others.
    /// What it contains is whatever was there before, zeroes if it is fresh: see
    /// [`Arena::alloc_zeroed`].
    ///
    /// Where that would be more than the arena's [limit](crate::Builder::limit), the thread blocks
    /// until others have given up as much; those that were there first come first. Without a limit
    /// it never blocks. [`Arena::try_alloc`] never does; on an executor use [`Arena::alloc_async`].
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub fn alloc(&self, len: usize) -> Result<Buffer, AllocError> {
        Charge::buffer(self, TagNumber::NONE, len)
    }

    /// A buffer of `len` bytes, as [`Arena::alloc`] gives it, if that is possible at once.
    ///
    /// ```
    /// use tailpin_arena::{AllocError, Arena};
    ///
    /// let arena = Arena::builder().limit(8 << 20).build()?;
    /// let kept = arena.try_alloc(6 << 20)?.freeze().slice(0..100); // one page stays
    /// let whole = arena.try_alloc(7 << 20)?;
    /// assert!(matches!(arena.try_alloc(2 << 20), Err(AllocError::OverLimit { .. })));
    /// drop(whole);
    /// arena.try_alloc(2 << 20)?;
    /// # drop(kept);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub fn try_alloc(&self, len: usize) -> Result<Buffer, AllocError> {
        Charge::buffer_at_once(self, TagNumber::NONE, len)
    }

    /// A buffer of `len` bytes, as [`Arena::alloc`] gives it, without blocking a thread: the task
    /// waits. A future that is dropped gives up its place in the queue; nothing is lost.
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub async fn alloc_async(&self, len: usize) -> Result<Buffer, AllocError> {
        Charge::wait(self, TagNumber::NONE, buffer_pages(len)?).await?.into_buffer(len)
    }

    /// A buffer of `len` bytes of the arena if that is possible at once, else of zeroes on the
    /// heap, beyond the limit: for one who rather goes on than waits. [`Counters::on_heap`] says
    /// how often that was.
    ///
    /// ```
    /// use tailpin_arena::Arena;
    ///
    /// let arena = Arena::builder().limit(1 << 20).build()?;
    /// let mut buffers = [arena.alloc_or_heap(1 << 20), arena.alloc_or_heap(100)];
    /// buffers[1][0] = 1; // the same for both
    /// assert_eq!(buffers.each_ref().map(|buffer| buffer.is_on_heap()), [false, true]);
    /// assert_eq!(arena.counters().on_heap, 1);
    /// let kept = buffers.map(|buffer| buffer.freeze()); // pinned, and on the heap
    /// # drop(kept);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If the heap refuses a request of more than `isize::MAX` bytes, as `Vec` does; where it has
    /// no memory the process ends.
    ///
    /// [`Counters::on_heap`]: crate::Counters::on_heap
    pub fn alloc_or_heap(&self, len: usize) -> EitherBuffer {
        match self.try_alloc(len) {
            Ok(buffer) => EitherBuffer::Arena(buffer),
            Err(_) => {
                self.inner().events.to_heap();
                EitherBuffer::Heap(vec![0; len].into_boxed_slice())
            }
        }
    }

    /// A buffer of `len` bytes with a tag, by which [`Arena::worst_holders`] and
    /// [`Slice::tag`](crate::Slice::tag) know the buffer's pages for as long as any of them is
    /// kept. The first 32,766 different tags are told apart. Otherwise as [`Arena::alloc`]; a
    /// [`Tag`] is quicker, and can have a limit.
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub fn alloc_tagged(&self, len: usize, tag: &str) -> Result<Buffer, AllocError> {
        let tag = self.inner().tags.number_or_other(tag);
        Charge::buffer(self, tag, len)
    }

    /// A buffer of zeroes. Otherwise as [`Arena::alloc`].
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub fn alloc_zeroed(&self, len: usize) -> Result<Buffer, AllocError> {
        let mut buffer = self.alloc(len)?;
        buffer.fill(0);
        Ok(buffer)
    }

    /// The longest buffer that can be had of at most `most` bytes, by halves, and at least `least`.
    /// Where the limit doesn't leave `least` the thread blocks, as in [`Arena::alloc`].
    ///
    /// ```
    /// # use tailpin_arena::Arena;
    /// let arena = Arena::builder().size(4 << 20).build()?;
    /// // One page stays of each of two blocks of 2 MiB: no such block is left.
    /// let kept: Vec<_> = (0..2).map(|_| arena.alloc(2 << 20).unwrap().freeze().slice(0..1)).collect();
    /// assert_eq!(arena.alloc_up_to(2 << 20, 64 << 10)?.len(), 1 << 20);
    /// # drop(kept);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`AllocError`], if there is no such buffer of `least` bytes either; the arena is as it was.
    pub fn alloc_up_to(&self, most: usize, least: usize) -> Result<Buffer, AllocError> {
        let mut len = most.max(least);
        while len > least {
            // Blocks of 1 GiB are the largest there are.
            if let Ok(buffer) = self.try_alloc(len) {
                return Ok(buffer);
            }
            len = (len / 2).max(least);
        }
        self.alloc(least)
    }

    /// Reserves `bytes` of the arena's limit, in whole pages, before it is known what they are to
    /// be. Blocks as [`Arena::alloc`] does.
    ///
    /// ```
    /// use tailpin_arena::Arena;
    ///
    /// let arena = Arena::builder().limit(64 << 20).build()?;
    /// let mut reserved = arena.reserve(4 << 20)?; // then ask the peer for 4 MiB
    /// let head = reserved.alloc(100)?;
    /// let body = reserved.alloc(3 << 20)?;
    /// drop(reserved); // what was not needed is others' again
    /// assert_eq!(arena.in_use(), (3 << 20) + 4096);
    /// # drop((head, body));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`AllocError::OverLimit`] if the limit is lower, [`AllocError::ForkedChild`].
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, AllocError> {
        Ok(Charge::block(self, TagNumber::NONE, pages_of(bytes), None)?.into())
    }

    /// As [`Arena::reserve`], but waits no longer than `timeout`.
    ///
    /// # Errors
    /// [`AllocError::OverLimit`] if the limit is lower, or the time is over;
    /// [`AllocError::ForkedChild`].
    pub fn reserve_timeout(&self, bytes: usize, timeout: Duration) -> Result<Reservation, AllocError> {
        let deadline = Instant::now().checked_add(timeout);
        Ok(Charge::block(self, TagNumber::NONE, pages_of(bytes), deadline)?.into())
    }

    /// As [`Arena::reserve`], if that is possible at once.
    ///
    /// # Errors
    /// [`AllocError::OverLimit`], [`AllocError::ForkedChild`].
    pub fn try_reserve(&self, bytes: usize) -> Result<Reservation, AllocError> {
        Ok(Charge::at_once(self, TagNumber::NONE, pages_of(bytes))?.into())
    }

    /// As [`Arena::reserve`], without blocking a thread: the task waits. A future that is dropped
    /// gives up its place in the queue; nothing is lost.
    ///
    /// # Errors
    /// [`AllocError::OverLimit`] if the limit is lower, [`AllocError::ForkedChild`].
    pub async fn reserve_async(&self, bytes: usize) -> Result<Reservation, AllocError> {
        Ok(Charge::wait(self, TagNumber::NONE, pages_of(bytes)).await?.into())
    }

    /// The tag of that name, made now if it is new. Tags last as long as the arena.
    ///
    /// # Errors
    /// [`TooManyTags`].
    pub fn tag(&self, name: &str) -> Result<Tag, TooManyTags> {
        let number = self.inner().tags.number(name).ok_or(TooManyTags)?;
        Ok(Tag::new(self.clone(), number))
    }

    /// All tags, in the order in which they were made.
    pub fn tags(&self) -> Vec<Tag> {
        let tags = &self.inner().tags;
        tags.all().filter_map(|tag| self.tag(&tag.name).ok()).collect()
    }

    /// Bytes in use or reserved. The work is the same for an arena of any size: a load for each
    /// CPU.
    pub fn in_use(&self) -> usize {
        bytes_of(self.inner().budget.used())
    }

    /// Bytes that may be in use; `None` if there is no limit but the arena's size.
    pub fn limit(&self) -> Option<usize> {
        self.inner().limit()
    }

    /// Changes the limit, in bytes, rounded down to whole pages. What is in use stays in use; if
    /// that is more, requests wait until it is less.
    pub fn set_limit(&self, bytes: usize) {
        self.inner().budget.set_limit((bytes / PAGE_SIZE) as u64);
        self.inner().tell_limit();
    }

    /// Requests that wait for the limit.
    pub fn waiting(&self) -> usize {
        self.inner().budget.waiting()
    }
}
