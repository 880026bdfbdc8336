//! Coalesce without regret: of ranges read together and kept apart, what stays in memory?
//!
//! A file of 256 MiB is read as an engine reads columns: per 8 MiB eight ranges, 1 MiB apart, of
//! which it keeps some. Stores coalesce such ranges into one request and hand out slices of what
//! that brought.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::*;
use tailpin_arena::Arena;
use tailpin_demos::arms::{arm, median, numbers, picture};
use tailpin_demos::cost::{cpu_seconds, held, machine, mib};
use tailpin_demos::picture::{Bar, Panel, bars};
use tailpin_object_store::ArenaStore;

const SIZE: u64 = 256 << 20;
const GROUP: u64 = 8 << 20;
const RUNS: usize = 5;

/// Local files with the `get_ranges` of remote stores: the trait's own, with a gap of its choice.
#[derive(Debug)]
struct Remote {
    files: LocalFileSystem,
    gap: u64,
    /// Answers come in chunks, as from a network; else as an open file.
    streams: bool,
    requests: Arc<AtomicU64>,
}

/// The file in chunks of memory that is each chunk's own, as a network brings them.
fn chunks(file: File, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    const CHUNK: u64 = 64 << 10;
    let file = Arc::new(file);
    let starts = range.clone().step_by(CHUNK as usize);
    stream::iter(starts)
        .map(move |at| {
            let mut chunk = vec![0; CHUNK.min(range.end - at) as usize];
            let read = file.read_exact_at(&mut chunk, at);
            read.map_err(|error| object_store::Error::Generic { store: "Remote", source: error.into() })?;
            Ok(Bytes::from(chunk))
        })
        .boxed()
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote")
    }
}

#[async_trait]
impl ObjectStore for Remote {
    async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.files.put_opts(to, payload, options).await
    }
    async fn put_multipart_opts(
        &self,
        to: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(to, options).await
    }
    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut result = self.files.get_opts(from, options).await?;
        if self.streams {
            result.payload = match result.payload {
                GetResultPayload::File(file, _) => {
                    GetResultPayload::Stream(chunks(file, result.range.clone()))
                }
                stream => stream,
            };
        }
        Ok(result)
    }
    async fn get_ranges(&self, from: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        coalesce_ranges(ranges, |range| self.get_range(from, range), self.gap).await
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

const ARMS: [(&str, &str); 4] = [
    ("stock", "stock, gap 1 MiB"),
    ("copied", "copied by the engine"),
    ("apart", "stock, gap 0"),
    ("tailpin", "Tailpin, gap 1 MiB"),
];

/// What is read and kept.
struct Work {
    name: &'static str,
    kib: u64,
    /// Of the eight ranges, one in so many is kept.
    one_of: usize,
    streams: bool,
}

const WORK: [Work; 4] = [
    Work { name: "1 of 8 ranges of 64 KiB, from a file", kib: 64, one_of: 8, streams: false },
    Work { name: "the same, from a stream", kib: 64, one_of: 8, streams: true },
    Work { name: "all 8 of 64 KiB, from a stream", kib: 64, one_of: 1, streams: true },
    Work { name: "every second of 512 KiB, from a stream", kib: 512, one_of: 2, streams: true },
];

fn main() -> std::result::Result<(), Box<dyn Error>> {
    if let Some(arm) = arm() {
        let work = &WORK[std::env::var("DEMO_WORK")?.parse::<usize>()?];
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
        return runtime.block_on(run(&arm, work));
    }
    let folder = std::env::temp_dir().join(format!("tailpin-coalesce-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let measured = write_object(&folder.join("object")).and_then(|()| measure(&folder));
    std::fs::remove_dir_all(&folder)?;
    let panels = measured?;
    if let Some(path) = picture() {
        std::fs::write(path, bars(&panels))?;
    }
    Ok(())
}

fn write_object(path: &std::path::Path) -> std::result::Result<(), Box<dyn Error>> {
    let mut file = std::io::BufWriter::new(File::create(path)?);
    let mut seed = 3_u64;
    for _ in 0..SIZE / 8 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        file.write_all(&seed.to_le_bytes())?;
    }
    Ok(file.flush()?)
}

/// All arms of all work, printed; the first as bars.
fn measure(folder: &std::path::Path) -> std::result::Result<Vec<Panel>, Box<dyn Error>> {
    println!("{}", machine());
    println!("median of {RUNS} runs, each in a process of its own; 256 MiB, 32 calls of get_ranges");
    let folder = folder.to_str().ok_or("the temporary folder's name is no text")?;
    let mut panels = Vec::new();
    for (number, work) in WORK.iter().enumerate() {
        println!("\n{:<40} {:>9} {:>10} {:>9} {:>9}", work.name, "alive", "held", "requests", "CPU");
        let mut panel = Panel { title: format!("Held by an engine that keeps {}", work.name), bars: vec![] };
        for (arm, name) in ARMS {
            let set = [("DEMO_FOLDER", folder), ("DEMO_WORK", &number.to_string()), MALLOC];
            let runs = numbers(arm, RUNS, &set)?;
            let [alive, held, requests, cpu] = [0, 1, 2, 3].map(|column| median(&runs, column));
            println!("  {name:<38} {alive:>5.1} MiB {held:>6.1} MiB {requests:>9} {:>6.0} ms", cpu * 1e3);
            let told = format!("{held:.1} MiB, {requests} requests, {:.0} ms of CPU", cpu * 1e3);
            panel.bars.push(Bar { name: name.to_owned(), value: held, told, ours: arm == "tailpin" });
        }
        if [0, 3].contains(&number) {
            panels.push(panel);
        }
    }
    Ok(panels)
}

/// One arena of malloc's: with one a thread, glibc keeps 30 MiB and more after `malloc_trim`.
const MALLOC: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

async fn run(arm: &str, work: &Work) -> std::result::Result<(), Box<dyn Error>> {
    let folder = std::env::var("DEMO_FOLDER")?;
    let requests = Arc::new(AtomicU64::new(0));
    let gap = if arm == "apart" { 0 } else { OBJECT_STORE_COALESCE_DEFAULT };
    let files = LocalFileSystem::new_with_prefix(&folder)?;
    let remote = Remote { files, gap, streams: work.streams, requests: Arc::clone(&requests) };
    let arena = Arena::builder().limit(512 << 20).build()?;
    let store: Arc<dyn ObjectStore> = match arm {
        "tailpin" => Arc::new(ArenaStore::new(remote, arena.clone())),
        _ => Arc::new(remote),
    };
    let path = Path::from("object");
    let (before, started) = (held(), cpu_seconds());
    let mut kept: Vec<(u64, Bytes)> = Vec::new();
    for group in 0..SIZE / GROUP {
        let ranges: Vec<Range<u64>> = (0..8)
            .map(|column| group * GROUP + column * (1 << 20))
            .map(|start| start..start + (work.kib << 10))
            .collect();
        let answers = store.get_ranges(&path, &ranges).await?;
        for (range, bytes) in ranges.into_iter().zip(answers).step_by(work.one_of) {
            let bytes = if arm == "copied" { Bytes::copy_from_slice(&bytes) } else { bytes };
            kept.push((range.start, bytes));
        }
    }
    // What is free goes back, as malloc's does in `held`.
    arena.release(usize::MAX)?;
    let cpu = cpu_seconds() - started;
    let held = held().saturating_sub(before);
    let object = std::fs::read(format!("{folder}/object"))?;
    for (at, bytes) in &kept {
        let written = &object[*at as usize..][..bytes.len()];
        assert_eq!(bytes, written, "what is kept is what was written");
    }
    let alive: u64 = kept.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    println!("{} {} {} {cpu}", mib(alive), mib(held), requests.load(Ordering::Relaxed));
    Ok(())
}
