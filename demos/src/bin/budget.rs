//! A budget that can't be overrun: many downloads at once, one limit, and who holds what of it.
//!
//! 64 downloads of 32 MiB for three tenants, 2 GiB in all, in a process that may have 600 MiB. Each
//! keeps what it got for a while, as a decoder does. On stock `Bytes` the kernel ends the process;
//! with one budget of 512 MiB each download waits for its turn before it reads.

use std::error::Error;
use std::fmt;
use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::*;
use tailpin_arena::Arena;
use tailpin_demos::arms::{again, arm, picture};
use tailpin_demos::cgroup::Cgroup;
use tailpin_demos::cost::{held_by, machine, mib};
use tailpin_demos::picture::{Line, lines};
use tailpin_object_store::{ArenaStore, WhenFull};

const DOWNLOADS: usize = 64;
const SIZE: u64 = 32 << 20;
const CHUNK: u64 = 64 << 10;
const LIMIT: u64 = 600 << 20;
const BUDGET: usize = 512 << 20;
const TENANTS: [&str; 3] = ["search", "ingest", "reports"];

/// How long a decoder is at work on a download: long enough to be looked at from outside.
const DECODE: Duration = Duration::from_millis(500);

/// A peer that sends objects of 32 MiB in chunks of 64 KiB.
#[derive(Debug)]
struct Peer(InMemory);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer")
    }
}

#[async_trait]
impl ObjectStore for Peer {
    async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.put_opts(to, payload, options).await
    }
    async fn put_multipart_opts(
        &self,
        to: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(to, options).await
    }
    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.0.get_opts(from, options).await?;
        (result.range, result.meta.size) = (0..SIZE, SIZE);
        let letter = from.as_ref().bytes().next_back().unwrap_or_default();
        let chunks = stream::iter(0..SIZE / CHUNK).then(move |i| async move {
            if i.is_multiple_of(64) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(Bytes::from(vec![letter; CHUNK as usize]))
        });
        result.payload = GetResultPayload::Stream(chunks.boxed());
        Ok(result)
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

/// How an arm went.
struct Run {
    ended: ExitStatus,
    done: usize,
    /// Seconds, and MiB that the process held.
    held: Vec<(f64, f64)>,
}

impl Run {
    fn was_killed(&self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        self.ended.signal() == Some(libc::SIGKILL)
    }

    fn told(&self) -> String {
        let most = self.held.iter().map(|(_, held)| *held).fold(0.0, f64::max);
        let ended = match self.was_killed() {
            true => "killed".to_owned(),
            false if self.ended.success() => "finished".to_owned(),
            false => format!("failed, {}", self.ended),
        };
        format!("{ended}, {} of {DOWNLOADS} done, at most {most:.0} MiB", self.done)
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    if let Some(arm) = arm() {
        if let Ok(procs) = std::env::var("DEMO_PROCS") {
            std::fs::write(procs, std::process::id().to_string())?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
        return runtime.block_on(run(&arm));
    }
    println!("{}", machine());
    let mut drawn = Vec::new();
    for (arm, name) in [("stock", "stock Bytes"), ("tailpin", "Tailpin")] {
        println!("\n{name}: {DOWNLOADS} downloads of 32 MiB in a process that may have {} MiB", LIMIT >> 20);
        let run = watched(arm)?;
        println!("{name}: {}", run.told());
        let name = format!("{name}: {}", run.told());
        let killed = run.was_killed();
        drawn.push(Line { name, points: run.held, ours: arm == "tailpin", killed });
    }
    if let Some(path) = picture() {
        let limits = [
            (mib(LIMIT), "600 MiB, the kernel's limit".to_owned()),
            (mib(BUDGET as u64), "512 MiB, the budget".to_owned()),
        ];
        let title = "64 downloads of 32 MiB at once: memory that the process holds";
        std::fs::write(path, lines(title, &limits, &drawn, "MiB"))?;
    }
    Ok(())
}

/// Runs an arm under the limit, and looks at what it holds.
fn watched(arm: &str) -> std::result::Result<Run, Box<dyn Error>> {
    let mut command = again(arm)?;
    let cgroup = Cgroup::new(LIMIT);
    match &cgroup {
        Ok(cgroup) => _ = command.env("DEMO_PROCS", cgroup.procs()),
        Err(why) => println!("without a memory cgroup nothing is killed: {why}"),
    }
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let (pid, started, is_over) = (child.id(), Instant::now(), AtomicBool::new(false));
    let stdout = child.stdout.take().ok_or("no pipe")?;
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut held = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                match held_by(pid) {
                    0 => {}
                    bytes => held.push((started.elapsed().as_secs_f64(), mib(bytes))),
                }
                std::thread::sleep(Duration::from_millis(25));
            }
            held
        });
        let done = BufReader::new(stdout).lines().map_while(|line| line.ok()).filter(|line| line == "done");
        let done = done.count();
        is_over.store(true, Ordering::Relaxed);
        let held = looks.join().map_err(|_| "the thread that looks panicked")?;
        Ok(Run { ended: child.wait()?, done, held })
    })
}

async fn run(arm: &str) -> std::result::Result<(), Box<dyn Error>> {
    let arena = Arena::builder().limit(BUDGET).release_above(16 << 20).build()?;
    let is_tailpin = arm == "tailpin";
    if is_tailpin {
        eprintln!("  to look at it from outside: tailpin top {}", std::process::id());
    }
    let mut stores = Vec::new();
    for tenant in TENANTS {
        let peer = Peer(InMemory::new());
        peer.put(&Path::from(tenant), Bytes::from_static(b"any").into()).await?;
        stores.push(match is_tailpin {
            true => Arc::new(
                ArenaStore::new(peer, arena.clone()).tagged(arena.tag(tenant)?).when_full(WhenFull::Wait),
            ),
            false => Arc::new(peer) as Arc<dyn ObjectStore>,
        });
    }
    let tenants = TENANTS.iter().zip(&stores).cycle().take(DOWNLOADS);
    let tasks: Vec<_> = tenants
        .map(|(tenant, store)| tokio::spawn(download(Arc::clone(store), Path::from(*tenant))))
        .collect();
    while tasks.iter().any(|task| !task.is_finished()) {
        if is_tailpin {
            gauge(&arena);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn download(store: Arc<dyn ObjectStore>, path: Path) -> Result<()> {
    let bytes = store.get(&path).await?.bytes().await?;
    assert_eq!(bytes.len() as u64, SIZE);
    // A decoder is at work on it.
    tokio::time::sleep(DECODE).await;
    assert!(bytes.iter().step_by(4096).all(|byte| *byte == bytes[0]));
    println!("done");
    Ok(())
}

/// Who holds what of the budget, on a line that a terminal shows in place of the last.
fn gauge(arena: &Arena) {
    let holders = arena.worst_holders(usize::MAX);
    let (mut bar, mut told) = (String::new(), String::new());
    for (tenant, letter) in TENANTS.into_iter().zip(["█", "▓", "░"]) {
        let theirs = holders.iter().filter(|holder| holder.tag.as_deref() == Some(tenant));
        let bytes: usize = theirs.map(|holder| holder.kept_bytes).sum();
        bar += &letter.repeat(bytes * 40 / BUDGET);
        told += &format!("{letter} {tenant} {:>3} MiB  ", bytes >> 20);
    }
    let bar: String = bar.chars().chain(std::iter::repeat('·')).take(40).collect();
    let (again, end) = if std::io::stderr().is_terminal() { ("\r\x1b[K", "") } else { ("", "\n") };
    eprint!("{again}  {bar} {told}{:>2} wait{end}", arena.waiting());
}
