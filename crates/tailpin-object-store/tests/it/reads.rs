//! What reads keep, and what they do when the arena is full.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tailpin_arena::Arena;
use tailpin_object_store::{ArenaStore, WhenFull};

const PAGE: usize = 4096;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A store that counts the requests it gets, and has the trait's own `get_ranges`, as remote ones
/// have.
#[derive(Debug)]
struct Remote<S> {
    inner: S,
    requests: AtomicUsize,
    /// It says of each answer that it is of this range.
    claims: Option<Range<u64>>,
}

impl<S> fmt::Display for Remote<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote")
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Remote<S> {
    async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(to, payload, options).await
    }
    async fn put_multipart_opts(
        &self,
        to: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(to, options).await
    }
    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = self.inner.get_opts(from, options).await?;
        Ok(GetResult { range: self.claims.clone().unwrap_or(answer.range.clone()), ..answer })
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn object(bytes: u64) -> Vec<u8> {
    (0..bytes).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn arena(limit: usize) -> Arena {
    Arena::builder().size(1 << 30).limit(limit).build().unwrap()
}

async fn with_object<S: ObjectStore>(inner: S, bytes: &[u8]) -> (Remote<S>, Path) {
    let path = Path::from("object");
    inner.put(&path, Bytes::copy_from_slice(bytes).into()).await.unwrap();
    (Remote { inner, requests: AtomicUsize::new(0), claims: None }, path)
}

/// Row groups of 8 MiB: of each, eight column chunks at distances of 1 MiB.
fn columns(group: u64, chunk: u64) -> Vec<Range<u64>> {
    (0..8).map(|column| group * 8 * MIB + column * MIB).map(|start| start..start + chunk).collect()
}

/// Of what coalesced reads bring, what is kept is kept alone: no more than it weighs, with as many
/// requests as the trait's own.
#[tokio::test]
async fn what_is_kept_of_coalesced_reads_is_all_that_is_in_use() {
    let bytes = object(32 * MIB);
    let root = tempfile::tempdir().unwrap();
    let (local, path) = with_object(LocalFileSystem::new_with_prefix(root.path()).unwrap(), &bytes).await;
    let (memory, _) = with_object(InMemory::new(), &bytes).await;
    let stores: [Arc<dyn ObjectStore>; 2] = [Arc::new(local), Arc::new(memory)];
    for inner in stores {
        let arena = arena(1 << 30);
        let store = ArenaStore::new(inner, arena.clone());
        for (chunk, one_of) in [(64 * KIB, 8), (64 * KIB, 1), (512 * KIB, 2), (100 * KIB, 3)] {
            let mut kept = Vec::new();
            for group in 0..4 {
                let ranges = columns(group, chunk);
                let answers = store.get_ranges(&path, &ranges).await.unwrap();
                for (i, (range, answer)) in ranges.into_iter().zip(answers).enumerate() {
                    assert_eq!(answer, bytes[range.start as usize..range.end as usize]);
                    if i.is_multiple_of(one_of) {
                        kept.push(answer);
                    }
                }
            }
            let alive: usize = kept.iter().map(Bytes::len).sum();
            assert_eq!(arena.in_use(), alive, "{chunk} {one_of}");
            // No huge page is taken apart for it, and what is free is whole.
            assert_eq!(arena.stats().in_use(), alive);
            drop(kept);
            assert_eq!(arena.in_use(), 0);
        }
        let told = store.counters();
        assert_eq!((told.requests, told.landed, told.fell_back, told.small), (16, 128, 0, 0));
    }
}

/// Random ranges: every answer is the inner store's own, in as many requests or fewer.
#[tokio::test]
async fn every_answer_is_the_inner_stores() {
    let bytes = object(300_000);
    let (remote, path) = with_object(InMemory::new(), &bytes).await;
    let remote = Arc::new(remote);
    let store = ArenaStore::new(Arc::clone(&remote), arena(1 << 30)).coalesce(5000);
    let mut seed = 7_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..200 {
        let ranges: Vec<Range<u64>> = (0..next(12))
            .map(|_| {
                let start = next(299_000);
                start..start + 1 + next(20_000).min(299_999 - start)
            })
            .collect();
        let ours = store.get_ranges(&path, &ranges).await.unwrap();
        assert_eq!(ours, remote.inner.get_ranges(&path, &ranges).await.unwrap());
    }
    // Beyond the end, none at all, and an object that isn't there.
    let odd: [&[(u64, u64)]; 4] =
        [&[(299_999, 400_000)], &[(0, 10), (290_000, 300_001)], &[(300_000, 300_001)], &[(5, 5)]];
    for ranges in odd {
        let ranges: Vec<Range<u64>> = ranges.iter().map(|(start, end)| *start..*end).collect();
        let ours = store.get_ranges(&path, &ranges).await.map_err(|error| error.to_string());
        let theirs = remote.get_ranges(&path, &ranges).await.map_err(|error| error.to_string());
        assert_eq!(ours, theirs, "{ranges:?}");
    }
    assert!(store.get_ranges(&Path::from("none"), std::slice::from_ref(&(0..1))).await.is_err());
    assert_eq!(store.arena().in_use(), 0);
}

#[tokio::test]
async fn ranges_of_any_size_are_what_the_inner_store_makes_of_them() {
    const MAX: u64 = u64::MAX;
    let bytes = object(100_000);
    let (remote, path) = with_object(InMemory::new(), &bytes).await;
    let remote = Arc::new(remote);
    let all: [&[(u64, u64)]; 6] = [
        &[(0, MAX)],
        &[(0, MAX), (1, MAX), (2, MAX)],
        &[(MAX, MAX)],
        &[(10, 5)],
        &[(0, 5000), (MAX, 0)],
        &[(MAX - 1, MAX), (0, 1)],
    ];
    for smallest in [0, 2048, MAX] {
        let store = ArenaStore::new(Arc::clone(&remote), arena(1 << 30)).smallest(smallest).coalesce(MAX);
        for ranges in all {
            let ranges: Vec<Range<u64>> = ranges.iter().map(|(start, end)| *start..*end).collect();
            let ours = store.get_ranges(&path, &ranges).await.map_err(drop);
            let theirs = remote.inner.get_ranges(&path, &ranges).await.map_err(drop);
            assert!(ours == theirs, "{ranges:?}, {smallest}");
        }
        assert_eq!(store.arena().in_use(), 0);
    }
}

/// What is taken for an answer is at most what there is memory for.
#[tokio::test]
async fn a_store_that_lies_about_its_answers_is_an_error() {
    for claims in [0..1 << 62, 5..u64::MAX, u64::MAX - 5000..u64::MAX] {
        let (remote, path) = with_object(InMemory::new(), &object(100_000)).await;
        let remote = Remote { claims: Some(claims.clone()), ..remote };
        let store = ArenaStore::new(remote, arena(1 << 30)).smallest(0).largest(u64::MAX);
        assert!(store.get_ranges(&path, std::slice::from_ref(&claims)).await.is_err(), "{claims:?}");
        // Whole, what there is no memory for is the store's own answer.
        if let Ok(read) = store.get(&path).await.unwrap().bytes().await {
            assert!(read.len() <= 100_000, "{claims:?}");
        }
        assert_eq!(store.arena().in_use(), 0);
    }
}

#[tokio::test]
async fn whole_objects_land_once_and_large_ones_pass_through() {
    let bytes = object(3 * MIB);
    let root = tempfile::tempdir().unwrap();
    let (remote, path) = with_object(LocalFileSystem::new_with_prefix(root.path()).unwrap(), &bytes).await;
    let arena = arena(1 << 30);
    let store = ArenaStore::new(remote, arena.clone()).largest(2 * MIB);
    let part = store.get_range(&path, 1000..MIB + 1000).await.unwrap();
    assert_eq!(part, bytes[1000..1000 + (1 << 20)]);
    assert_eq!(arena.in_use(), 1 << 20);
    let whole = store.get(&path).await.unwrap().bytes().await.unwrap();
    assert!(whole == bytes && arena.in_use() == 1 << 20, "it is larger than what is landed");
    let small = store.get_range(&path, 7..17).await.unwrap();
    assert!(small == bytes[7..17] && arena.in_use() == 1 << 20);
    let head = store.head(&path).await.unwrap();
    assert_eq!(head.size, 3 * MIB);
    let told = store.counters();
    assert_eq!((told.landed, told.landed_bytes, told.passed, told.small), (1, MIB, 1, 1));
    let tags: Vec<String> =
        arena.worst_holders(9).iter().filter_map(|it| Some(it.tag.as_ref()?.to_string())).collect();
    assert_eq!(tags, ["object_store"]);
    drop(part);
    assert_eq!(arena.in_use(), 0);
}

#[tokio::test]
async fn a_full_arena_shows_in_a_counter_alone() {
    let bytes = object(4 * MIB);
    let (remote, path) = with_object(InMemory::new(), &bytes).await;
    let arena = arena(2 << 20);
    let store = ArenaStore::new(remote, arena.clone());
    let first = store.get_ranges(&path, &[0..MIB, 2 * MIB..3 * MIB]).await.unwrap();
    let second = store.get_ranges(&path, &[0..MIB, 2 * MIB..3 * MIB]).await.unwrap();
    assert_eq!(first, second);
    let third = store.get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!(third, bytes);
    let told = store.counters();
    assert_eq!((told.landed, told.fell_back, told.fell_back_bytes), (2, 3, 6 * MIB));
    assert_eq!(arena.in_use(), 2 << 20);
}

/// Reads that wait: never more than the limit is in use, each is served, and a read that is given
/// up gives up its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_waits_until_others_let_go() {
    let bytes = object(MIB);
    let (remote, path) = with_object(InMemory::new(), &bytes).await;
    let arena = arena(512 << 10);
    let store = Arc::new(ArenaStore::new(remote, arena.clone()).when_full(WhenFull::Wait));
    let held = store.get_ranges(&path, &[0..256 * KIB, 300 * KIB..500 * KIB]).await.unwrap();
    let given_up =
        tokio::time::timeout(Duration::from_millis(20), store.get_range(&path, 0..400 * KIB)).await;
    assert!(given_up.is_err(), "it waits");
    drop(held);
    let tasks: Vec<_> = (0..20)
        .map(|i| {
            let (store, path, bytes) = (Arc::clone(&store), path.clone(), bytes.clone());
            tokio::spawn(async move {
                for j in 0..10 {
                    let start = (i * 10 + j) * KIB;
                    let ranges = [start..start + 100 * KIB, start + 300 * KIB..start + 500 * KIB];
                    let answers = store.get_ranges(&path, &ranges).await.unwrap();
                    for (range, answer) in ranges.into_iter().zip(answers) {
                        assert_eq!(answer, bytes[range.start as usize..range.end as usize]);
                    }
                    assert!(store.arena().in_use() <= 512 << 10);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let told = store.counters();
    assert!(told.waited > 0 && told.fell_back == 0, "{told:?}");
    assert_eq!((arena.in_use(), arena.waiting()), (0, 0));
    // What could never be served does not wait.
    let large = store.get_range(&path, 0..600 * KIB).await.unwrap();
    assert_eq!((large.len(), store.counters().fell_back, arena.in_use()), (600 << 10, 1, 0));
    assert_eq!(PAGE, 4096);
}

/// Two stores over one arena: each within its own tag's limit, both within the arena's.
#[tokio::test]
async fn stores_of_several_tags_share_one_budget() {
    let bytes = object(MIB);
    let arena = arena(2 << 20);
    let mut stores = Vec::new();
    for tenant in ["one", "two"] {
        let (remote, path) = with_object(InMemory::new(), &bytes).await;
        let tag = arena.tag(tenant).unwrap();
        tag.set_limit(1 << 20);
        stores.push((ArenaStore::new(remote, self::arena(1 << 20)).tagged(tag.clone()), path, tag));
    }
    let mut kept = Vec::new();
    for (store, path, tag) in &stores {
        kept.push(store.get_range(path, 0..MIB).await.unwrap());
        // The arena has room for it, the tag hasn't.
        kept.push(store.get_range(path, 0..8192).await.unwrap());
        assert_eq!((tag.in_use(), store.counters().landed, store.counters().fell_back), (1 << 20, 1, 1));
    }
    assert_eq!(arena.in_use(), 2 << 20);
    drop(kept);
    assert_eq!(arena.in_use(), 0);
}
