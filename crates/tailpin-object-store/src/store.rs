//! The store.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result,
};
use tailpin_arena::{Arena, PAGE_SIZE, Reservation, Tag};

use crate::counters::{Counters, Counting};
use crate::land::{Destination, Landing, failed, fill};
use crate::ranges::{Fetch, coalesce};

/// Requests of one `get_ranges` that are under way at a time, as many as in the trait's own.
const PARALLEL: usize = 10;

/// What a read does when the limit of the arena, or of its tag, leaves no room for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It goes to memory of the heap, which a counter says.
    #[default]
    Heap,
    /// It waits until others let go of enough, first come first served. A task that keeps answers
    /// and waits for more is to be sure that others let go.
    Wait,
}

/// A store around another one, whose answers lie in an arena.
#[derive(Debug)]
pub struct ArenaStore<S> {
    inner: S,
    arena: Arena,
    tag: Option<Tag>,
    when_full: WhenFull,
    gap: u64,
    smallest: u64,
    largest: u64,
    counting: Arc<Counting>,
}

impl<S: ObjectStore> ArenaStore<S> {
    /// Around `inner`, with memory from `arena`, tagged `object_store`.
    pub fn new(inner: S, arena: Arena) -> Self {
        Self {
            inner,
            // An arena with as many tags as there may be goes without this one.
            tag: arena.tag("object_store").ok(),
            arena,
            when_full: WhenFull::default(),
            gap: OBJECT_STORE_COALESCE_DEFAULT,
            smallest: 2048,
            largest: 64 << 20,
            counting: Arc::default(),
        }
    }

    /// Answers carry this tag, and stay within its limit too: one store for each tenant, say, all
    /// over one budget. They lie in the tag's arena, which need not be the one that the store was
    /// made with.
    #[must_use]
    pub fn tagged(mut self, tag: Tag) -> Self {
        self.arena = tag.arena().clone();
        self.tag = Some(tag);
        self
    }

    /// What a read does when the arena's limit leaves no room for it.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Ranges with at most so many bytes between them are one request. Default 1 MiB, as in the
    /// trait's own `get_ranges`.
    #[must_use]
    pub fn coalesce(mut self, gap: u64) -> Self {
        self.gap = gap;
        self
    }

    /// Answers below so many bytes are copies on the heap: a page has 4096. Default 2048.
    #[must_use]
    pub fn smallest(mut self, bytes: u64) -> Self {
        self.smallest = bytes;
        self
    }

    /// Answers of `get`, `get_range` and `get_opts` above so many bytes pass through, as they may
    /// be read piece by piece. Default 64 MiB.
    #[must_use]
    pub fn largest(mut self, bytes: u64) -> Self {
        self.largest = bytes;
        self
    }

    /// The arena in which answers lie.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The store that this one is around.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// What became of reads so far.
    pub fn counters(&self) -> Counters {
        self.counting.read()
    }

    fn is_small(&self, range: &Range<u64>) -> bool {
        range.end.saturating_sub(range.start) < self.smallest
    }

    /// Bytes of the pages that ranges take in the arena; `None` for more than can be counted.
    fn pages<'r>(&self, mut ranges: impl Iterator<Item = &'r Range<u64>>) -> Option<usize> {
        ranges.try_fold(0_usize, |sum, range| {
            if self.is_small(range) {
                return Some(sum);
            }
            let bytes = usize::try_from(range.end.saturating_sub(range.start)).ok()?;
            sum.checked_add(bytes.checked_next_multiple_of(PAGE_SIZE)?)
        })
    }

    /// Room for those of these ranges that go to the arena; `None` for memory of the heap.
    async fn reserve(&self, ranges: impl Iterator<Item = &Range<u64>>) -> Option<Reservation> {
        let bytes = self.pages(ranges)?;
        let at_once = match &self.tag {
            Some(tag) => tag.try_reserve(bytes),
            None => self.arena.try_reserve(bytes),
        };
        if at_once.is_ok() || self.when_full == WhenFull::Heap {
            return at_once.ok();
        }
        self.counting.waited.add(1);
        let waited = match &self.tag {
            Some(tag) => tag.reserve_async(bytes).await,
            None => self.arena.reserve_async(bytes).await,
        };
        // What the limit could never serve is no reason to fail.
        waited.ok()
    }

    /// Where a range is to lie.
    ///
    /// # Errors
    /// Where the process has no memory for it.
    fn landing(&self, range: Range<u64>, reserved: &mut Option<Reservation>) -> Result<Landing> {
        let bytes = range.end.saturating_sub(range.start);
        if self.is_small(&range) {
            self.counting.small.add(1);
        } else if let Some(buffer) = reserved.as_mut().and_then(|it| it.alloc(bytes as usize).ok()) {
            self.counting.landed.add(1);
            self.counting.landed_bytes.add(bytes);
            return Ok(Landing { range, place: Destination::Arena(buffer) });
        } else {
            self.counting.fell_back.add(1);
            self.counting.fell_back_bytes.add(bytes);
        }
        Ok(Landing { range, place: Destination::heap(bytes)? })
    }

    /// The answers to one request; `None` if the object ends before the ranges do.
    async fn fetch(
        &self,
        location: &Path,
        fetch: Fetch,
        ranges: &[Range<u64>],
        mut reserved: Option<Reservation>,
    ) -> Result<Option<Vec<Bytes>>> {
        self.counting.requests.add(1);
        let asked = GetRange::Bounded(fetch.range.clone());
        let result = self.inner.get_opts(location, GetOptions::new().with_range(Some(asked))).await?;
        if result.range != fetch.range {
            return Ok(None);
        }
        let places = fetch.members.iter().map(|i| self.landing(ranges[*i].clone(), &mut reserved));
        let places = places.collect::<Result<Vec<_>>>()?;
        let filled = fill(result.payload, result.range, places).await?;
        Ok(Some(filled.into_iter().map(Landing::into_bytes).collect()))
    }
}

/// Bytes of a page of an arena.
impl<S: fmt::Display> fmt::Display for ArenaStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArenaStore({})", self.inner)
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for ArenaStore<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let result = self.inner.get_opts(location, options).await?;
        let bytes = result.range.end.saturating_sub(result.range.start);
        if is_head || bytes == 0 {
            return Ok(result);
        }
        self.counting.requests.add(1);
        if bytes > self.largest {
            self.counting.passed.add(1);
            return Ok(result);
        }
        if self.is_small(&result.range) {
            self.counting.small.add(1);
            return Ok(result);
        }
        let Some(mut reserved) = self.reserve([&result.range].into_iter()).await.map(Some) else {
            // The store's own answer, read as the caller likes.
            self.counting.fell_back.add(1);
            self.counting.fell_back_bytes.add(bytes);
            return Ok(result);
        };
        let GetResult { payload, meta, range, attributes, extensions } = result;
        let landing = self.landing(range.clone(), &mut reserved)?;
        let read = {
            let range = range.clone();
            async move {
                let filled = fill(payload, range, vec![landing]).await?;
                Ok(filled.into_iter().next().map(Landing::into_bytes).unwrap_or_default())
            }
        };
        // Read when the caller asks for it, and whole then.
        let payload = GetResultPayload::Stream(stream::once(read).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if let Some(range) = ranges.iter().find(|range| range.start > range.end) {
            // Together with others it would be answered by no bytes; alone it would be refused.
            return Err(failed(format!("a range that ends before it begins: {range:?}")));
        }
        let fetches = coalesce(ranges, self.gap);
        // For all at once: a call that waited for more while it has some could wait for itself.
        let mut reserved = self.reserve(ranges.iter()).await;
        let parts: Vec<Option<Reservation>> = fetches
            .iter()
            .map(|fetch| {
                let pages = self.pages(fetch.members.iter().map(|i| &ranges[*i]))?;
                reserved.as_mut()?.split(pages)
            })
            .collect();
        let answers: Vec<Option<Vec<Bytes>>> = stream::iter(fetches.clone().into_iter().zip(parts))
            .map(|(fetch, part)| self.fetch(location, fetch, ranges, part))
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        let Some(answers) = answers.into_iter().collect::<Option<Vec<_>>>() else {
            // What a range beyond the end means is the inner store's to say.
            return self.inner.get_ranges(location, ranges).await;
        };
        let mut all = vec![Bytes::new(); ranges.len()];
        for (fetch, answers) in fetches.iter().zip(answers) {
            for (i, bytes) in fetch.members.iter().zip(answers) {
                all[*i] = bytes;
            }
        }
        Ok(all)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
