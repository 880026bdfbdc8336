//! The kernel's trace file system: an instance of its own, set up, read and removed again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::ring::{self, Format, Kind};
use crate::linux::signals;
use crate::linux::text::{keyed, number, read};

/// Where tracefs is, as a rule.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Room for events of each CPU, in KiB.
const ROOM_KIB: u64 = 32 << 10;
/// Wished size of a sub-buffer, in KiB: the unit in which events are read.
const SUBBUFFER_KIB: u64 = 64;
/// How long a reader waits that found nothing.
const PAUSE: Duration = Duration::from_millis(10);

/// What came of a recording.
pub(crate) struct Recorded {
    /// By CPU: sub-buffers, the used parts one behind the other.
    pub(crate) raw: Vec<Vec<u8>>,
    pub(crate) formats: Vec<Format>,
    /// Threads of this process, whose events are not wanted.
    pub(crate) own_threads: Vec<i32>,
    pub(crate) lost: u64,
    pub(crate) time: Duration,
    /// The memory for it was full.
    pub(crate) full: bool,
}

/// An instance of tracefs, removed when this is dropped.
pub(crate) struct Instance {
    path: PathBuf,
    formats: Vec<Format>,
    kinds: Vec<Kind>,
}

/// Says what is missing, in the words of what to do about it.
fn refused(doing: &str, path: &Path, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => ": run as root",
        _ => "",
    };
    format!("{doing} failed: {}: {error}{advice}", path.display())
}

/// tracefs, with the events that a recording needs.
fn root() -> Result<PathBuf, String> {
    let mut why = None;
    for place in PLACES.map(Path::new) {
        match fs::read_dir(place) {
            Ok(mut entries) => {
                if place.join("events").is_dir() {
                    return Ok(place.to_owned());
                }
                if entries.next().is_some() && why.is_none() {
                    why = Some(format!(
                        "{} has no events: this kernel was built without them (CONFIG_TRACING)",
                        place.display()
                    ));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                why = Some(refused("looking for the kernel's events", place, &error));
            }
            Err(_) => {}
        }
    }
    Err(why
        .unwrap_or_else(|| format!("tracefs is not mounted: as root, mount -t tracefs nodev {}", PLACES[0])))
}

/// Whether events lie in trace buffers as [`ring`] knows it.
fn check_form(root: &Path) -> Result<(), String> {
    // The kernel gives this file in one read, whatever fits into it.
    let mut head = [0; 4096];
    let read = File::open(root.join("events/header_page")).and_then(|mut file| file.read(&mut head));
    let head = String::from_utf8_lossy(&head[..read.unwrap_or(0)]);
    let has = |name: &str, offset: &str| {
        head.lines()
            .any(|line| line.contains(&format!(" {name};")) && line.contains(&format!("offset:{offset};")))
    };
    if has("timestamp", "0") && has("commit", "8") && has("data", "16") {
        Ok(())
    } else {
        Err("the trace buffers of this kernel have a form that is not known here".to_owned())
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let written =
        OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| refused("setting up the recording", path, &error))
}

impl Instance {
    /// An instance with its events known, not yet recording.
    pub(crate) fn new() -> Result<Self, String> {
        let root = root()?;
        let mut formats = Vec::new();
        let mut kinds = Vec::new();
        for kind in [Kind::Alloc, Kind::Free, Kind::Scan] {
            let path = root.join("events").join(kind.path()).join("format");
            match fs::read_to_string(&path) {
                Ok(text) => {
                    formats.push(Format::parse(kind, &text)?);
                    kinds.push(kind);
                }
                // Kernels without huge pages have no khugepaged.
                Err(_) if kind == Kind::Scan => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(format!("this kernel has no event {} (CONFIG_TRACEPOINTS)", kind.path()));
                }
                Err(error) => return Err(refused("reading the kernel's events", &path, &error)),
            }
        }
        check_form(&root)?;
        let path = root.join("instances").join(format!("tailpin-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| refused("making an instance of tracefs", &path, &error))?;
        let instance = Self { path, formats, kinds };
        instance.set_up()?;
        Ok(instance)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn set_up(&self) -> Result<(), String> {
        write(&self.file("tracing_on"), "0")?;
        // Older kernels have sub-buffers of a page.
        let _ = write(&self.file("buffer_subbuf_size_kb"), &SUBBUFFER_KIB.to_string());
        write(&self.file("buffer_size_kb"), &ROOM_KIB.to_string())?;
        // One clock for all CPUs.
        write(&self.file("trace_clock"), "mono")?;
        write(&self.file("options/overwrite"), "0")?;
        Ok(())
    }

    fn cpus(&self) -> usize {
        (0..).take_while(|cpu| self.file(&format!("per_cpu/cpu{cpu}")).is_dir()).count()
    }

    /// Records for so long, or until the user ends it or `limit` bytes are full.
    pub(crate) fn record(
        self,
        time: Duration,
        limit: usize,
        elapsed: impl Fn(Duration),
    ) -> Result<Recorded, String> {
        let cpus = self.cpus();
        let size = number(self.file("buffer_subbuf_size_kb")).unwrap_or(4) as usize * 1024;
        let mut readers = Vec::with_capacity(cpus);
        for cpu in 0..cpus {
            let path = self.file(&format!("per_cpu/cpu{cpu}/trace_pipe_raw"));
            let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
            readers.push(file.map_err(|error| refused("opening a trace buffer", &path, &error))?);
        }
        let (stop, used) = (AtomicBool::new(false), AtomicUsize::new(0));
        let waiting = signals::Waiting::begin();
        let (raw, own_threads, time) = std::thread::scope(|scope| {
            let (stop, used) = (&stop, &used);
            let threads: Vec<_> = readers
                .into_iter()
                .map(|file| scope.spawn(move || drain(file, size, stop, used, limit)))
                .collect();
            let own_threads = own_threads();
            let begun = Instant::now();
            let started = self.enable(true);
            while started.is_ok() && begun.elapsed() < time && used.load(Ordering::Relaxed) < limit {
                elapsed(begun.elapsed());
                let rest = time.saturating_sub(begun.elapsed());
                if waiting.wait(rest.min(Duration::from_millis(100))) {
                    break;
                }
            }
            let time = begun.elapsed();
            let ended = self.enable(false);
            // Release: pairs with the Acquire in `drain`. A reader that sees it sees all events.
            stop.store(true, Ordering::Release);
            let raw: Vec<Vec<u8>> =
                threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect();
            started.and(ended).map(|()| (raw, own_threads, time))
        })?;
        let lost = (0..cpus).map(|cpu| self.lost(cpu)).sum();
        let full = used.load(Ordering::Relaxed) >= limit;
        let formats = self.formats.clone();
        Ok(Recorded { raw, formats, own_threads, lost, time, full })
    }

    fn enable(&self, on: bool) -> Result<(), String> {
        let on = if on { "1" } else { "0" };
        if on == "0" {
            write(&self.file("tracing_on"), on)?;
        }
        for kind in &self.kinds {
            write(&self.file(&format!("events/{}/enable", kind.path())), on)?;
        }
        if on == "1" { write(&self.file("tracing_on"), on) } else { Ok(()) }
    }

    fn lost(&self, cpu: usize) -> u64 {
        let text = read(self.file(&format!("per_cpu/cpu{cpu}/stats"))).unwrap_or_default();
        ["overrun", "commit overrun", "dropped events"].iter().filter_map(|key| keyed(&text, key)).sum()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = write(&self.file("tracing_on"), "0");
        let _ = write(&self.file("events/enable"), "0");
        // The kernel has none of its files removed, but all of it at once.
        let _ = fs::remove_dir(&self.path);
    }
}

fn own_threads() -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// Reads the events of one CPU until there are no more after `stop`, or the memory is full.
fn drain(mut file: File, size: usize, stop: &AtomicBool, used: &AtomicUsize, limit: usize) -> Vec<u8> {
    let mut raw = Vec::new();
    let mut subbuffer = vec![0; size];
    loop {
        // Acquire: pairs with the Release of the thread that ended the recording.
        let is_last = stop.load(Ordering::Acquire);
        let read = file.read(&mut subbuffer);
        let events = read.ok().and_then(|n| ring::used(&subbuffer[..n]));
        match events {
            Some(n) => {
                raw.extend_from_slice(&subbuffer[..n]);
                // Relaxed: a number to stop by, which carries nothing along.
                if used.fetch_add(n, Ordering::Relaxed) + n >= limit {
                    return raw;
                }
                // A sub-buffer that was not half full was the last there was.
                if n * 2 < size && !is_last {
                    std::thread::sleep(PAUSE);
                }
            }
            None if is_last => return raw,
            None => std::thread::sleep(PAUSE),
        }
    }
}
