//! Arenas of running programs: which are asked for, looked at, and shown once or again and again.

#[cfg(feature = "live")]
mod live;
mod picture;
mod text;

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;
#[cfg(not(feature = "live"))]
use std::time::Instant;

use serde::Serialize;
use tailpin_arena::outside::{self, Holder, Look, OutsideArena, TagUse};

use crate::Status;
use crate::output::{Target, complain, print, save, targets};
use crate::style::{Style, width};
use crate::units::counted;
#[cfg(test)]
pub(crate) use text::painted;
pub(crate) use text::{Line, Lines, Paint, cut};

/// Whose arenas, and how they are shown: the same for all commands that look at programs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// A process number, or the file of a shared arena (/proc/PID/fd/N) [default: the only program
    /// that has arenas]
    #[arg(value_name = "PID|FILE")]
    whose: Option<OsString>,

    /// Print one JSON object and end
    #[arg(long)]
    json: bool,

    /// Print one look as text and end, as where standard output is no terminal
    #[arg(long)]
    once: bool,

    /// Write one look as a picture to this file, and end
    #[arg(long, value_name = "F.svg", conflicts_with = "json")]
    picture: Option<PathBuf>,

    /// Milliseconds between two looks
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(20..=3_600_000))]
    interval: u64,
}

/// One arena at one moment.
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) look: Look,
    pub(crate) rates: Option<Rates>,
}

/// What changed between two looks, per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Rates {
    /// Blocks handed out, at least.
    pub(crate) blocks_per_s: f64,
    /// By how much bytes in use grew.
    pub(crate) in_use_bytes_per_s: f64,
    /// By how much free bytes without memory grew: given back, less what was taken again.
    pub(crate) given_back_bytes_per_s: f64,
}

impl Rates {
    fn between(earlier: &Look, later: &Look) -> Option<Self> {
        let seconds = later.taken().duration_since(earlier.taken()).as_secs_f64();
        let per_second = |from: usize, to: usize| (to as f64 - from as f64) / seconds;
        let (then, now) = (earlier.stats(), later.stats());
        (seconds > 0.0).then_some(Self {
            blocks_per_s: later.blocks_since(earlier)? as f64 / seconds,
            in_use_bytes_per_s: per_second(then.in_use(), now.in_use()),
            given_back_bytes_per_s: per_second(then.given_back, now.given_back),
        })
    }
}

/// What a command makes of what was seen.
pub(crate) trait View {
    /// What goes into the JSON object for an arena, beside what all commands tell.
    fn json(&self, seen: &Seen) -> serde_json::Map<String, serde_json::Value>;

    /// Why what is asked for is in none of these arenas, if it isn't.
    fn refusal(&self, _seen: &[Seen]) -> Option<String> {
        None
    }

    /// The arena as lines of at most `width` columns.
    fn lines(&self, seen: &Seen, width: usize) -> Lines;

    /// A key was pressed on a live screen that shows these arenas. Returns whether it means
    /// anything here.
    #[cfg_attr(not(feature = "live"), expect(dead_code, reason = "keys are read by the live screen"))]
    fn key(&mut self, _key: Key, _seen: &[Seen], _width: usize) -> bool {
        false
    }
}

/// Keys that a view may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "live"), expect(dead_code, reason = "keys are read by the live screen"))]
pub(crate) enum Key {
    Left,
    Right,
    Up,
    Down,
    Enter,
    Escape,
}

/// Arenas, looked at again and again.
pub(crate) struct Watched {
    arenas: Vec<OutsideArena>,
    last: Vec<Seen>,
}

impl Watched {
    /// Takes one look at each. One that is gone is left out from then on.
    ///
    /// # Errors
    /// Why none of them can be looked at.
    pub(crate) fn look(&mut self) -> Result<&[Seen], String> {
        let mut seen = Vec::with_capacity(self.arenas.len());
        let mut refused = None;
        self.arenas.retain(|arena| match arena.look() {
            Ok(look) => {
                let earlier = self.last.iter().find(|last| last.name == arena.name());
                let rates = earlier.and_then(|earlier| Rates::between(&earlier.look, &look));
                seen.push(Seen { name: arena.name().to_owned(), look, rates });
                true
            }
            Err(error) => {
                refused = Some(format!("{}: {error}", arena.name()));
                false
            }
        });
        self.last = seen;
        match (self.last.is_empty(), refused) {
            (true, Some(refused)) => Err(refused),
            (true, None) => Err("no arena is left".into()),
            (false, _) => Ok(&self.last),
        }
    }

    #[cfg(feature = "live")]
    pub(crate) fn last(&self) -> &[Seen] {
        &self.last
    }
}

/// The arenas that are asked for.
fn find(whose: Option<&OsStr>) -> Result<Vec<OutsideArena>, String> {
    let told = |error: outside::LookError| error.to_string();
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    match (whose.and_then(OsStr::to_str).filter(is_number), whose) {
        (Some(number), _) => {
            let pid = number.parse().map_err(|_| format!("there is no process {number}"))?;
            outside::arenas_of(pid).map_err(told)
        }
        (None, Some(path)) => match outside::shared_file(Path::new(path)) {
            Ok(arena) => Ok(vec![arena]),
            Err(error) => Err(format!("{}: {error}", path.display())),
        },
        (None, None) => match &outside::programs()[..] {
            [] => Err("no program that this user may look at has an arena".into()),
            [only] => outside::arenas_of(only.pid).map_err(told),
            several => {
                let list = several.iter().map(|one| {
                    format!("\n  {:>7}  {} ({})", one.pid, one.name, counted(one.arenas as u64, "arena"))
                });
                Err(format!("several programs have arenas; say which:{}", list.collect::<String>()))
            }
        },
    }
}

/// Shows what is asked for, as it is asked for.
pub(crate) fn show(options: &Options, view: &mut dyn View) -> Status {
    let mut watched = match find(options.whose.as_deref()) {
        Ok(arenas) => Watched { arenas, last: Vec::new() },
        Err(why) => {
            complain(why);
            return Status::Unusable;
        }
    };
    let [file] = match targets([options.picture.as_ref()]) {
        Ok(file) => file,
        Err(why) => {
            complain(why);
            return Status::Unusable;
        }
    };
    let interval = Duration::from_millis(options.interval);
    let is_one_look = options.json || options.once || options.picture.is_some();
    let live = !is_one_look && std::io::stdout().is_terminal();
    let shown =
        if live { watch(&mut watched, view, interval) } else { once(options, file, &mut watched, view) };
    shown.unwrap_or_else(|why| {
        complain(why);
        Status::Failed
    })
}

/// Columns of a picture.
const PICTURE_COLUMNS: usize = 84;

fn once(
    options: &Options,
    file: Option<Target>,
    watched: &mut Watched,
    view: &dyn View,
) -> Result<Status, String> {
    let seen = watched.look()?;
    if let Some(why) = view.refusal(seen) {
        complain(why);
        return Ok(Status::Unusable);
    }
    if let Some(file) = file {
        let pages: Vec<Lines> = seen.iter().map(|seen| view.lines(seen, PICTURE_COLUMNS)).collect();
        let names: Vec<&str> = seen.iter().map(|seen| &*seen.name).collect();
        let said = text::painted(&pages.concat(), Style::plain()).replace('█', "");
        let described = format!("{}: {said}", names.join(", "));
        return Ok(save(&file, &picture::drawn(&pages, &described)));
    }
    if !options.json {
        let style = Style::for_stdout();
        let text: Vec<String> =
            seen.iter().map(|seen| text::painted(&view.lines(seen, width()), style)).collect();
        return Ok(print(&text.join("\n")));
    }
    let arenas: Vec<_> = seen
        .iter()
        .map(|seen| {
            let mut all = match serde_json::to_value(Told::of(seen)) {
                Ok(serde_json::Value::Object(all)) => all,
                _ => serde_json::Map::new(),
            };
            all.extend(view.json(seen));
            all
        })
        .collect();
    let object = serde_json::json!({ "arenas": arenas });
    Ok(print(&(serde_json::to_string_pretty(&object).expect("names and numbers") + "\n")))
}

#[cfg(feature = "live")]
fn watch(watched: &mut Watched, view: &mut dyn View, interval: Duration) -> Result<Status, String> {
    live::watch(watched, view, interval)
}

/// Without a live screen: the page, again and again, until the user ends it.
#[cfg(not(feature = "live"))]
fn watch(watched: &mut Watched, view: &mut dyn View, interval: Duration) -> Result<Status, String> {
    let style = Style::for_stdout();
    loop {
        let next = Instant::now() + interval;
        let seen = watched.look()?;
        let pages = seen.iter().map(|seen| text::painted(&view.lines(seen, width()), style));
        let text = pages.collect::<Vec<_>>().join("\n");
        // From the top left corner on, and nothing of the last page left behind it.
        let status = print(&format!("\x1b[H\x1b[2J{text}"));
        if status != Status::Clean {
            return Ok(status);
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// What every command tells of an arena.
#[derive(Serialize)]
struct Told<'a> {
    name: &'a str,
    size_bytes: usize,
    /// Null where the arena has none.
    limit_bytes: Option<usize>,
    in_use_bytes: usize,
    in_use_whole_bytes: usize,
    in_use_pages_bytes: usize,
    in_use_fragments_bytes: usize,
    pinned_by_last_slice_bytes: usize,
    free_bytes: usize,
    without_memory_bytes: usize,
    set_aside_bytes: usize,
    largest_free_bytes: usize,
    /// By the kernel's count; null where it doesn't tell.
    resident_bytes: Option<usize>,
    metadata_bytes: usize,
    age_s: Option<f64>,
    /// 0 if nothing changed during the look.
    changed_pageblocks: usize,
    tags: Vec<ToldTag<'a>>,
    /// How many buffers, or processes of a shared arena, keep memory.
    holders_found: usize,
}

#[derive(Serialize)]
struct ToldTag<'a> {
    tag: Option<&'a str>,
    bytes: usize,
    buffers: usize,
}

impl<'a> Told<'a> {
    fn of(seen: &'a Seen) -> Self {
        let (look, stats) = (&seen.look, seen.look.stats());
        let tag =
            |tag: &'a TagUse| ToldTag { tag: tag.tag.as_deref(), bytes: tag.bytes, buffers: tag.buffers };
        Self {
            name: &seen.name,
            size_bytes: stats.size,
            limit_bytes: stats.limit,
            in_use_bytes: stats.in_use(),
            in_use_whole_bytes: stats.in_use_whole,
            in_use_pages_bytes: stats.in_use_pages,
            in_use_fragments_bytes: stats.in_use_fragments,
            pinned_by_last_slice_bytes: stats.pinned_by_last_slice,
            free_bytes: stats.free,
            without_memory_bytes: stats.given_back,
            set_aside_bytes: stats.set_aside,
            largest_free_bytes: stats.largest_free,
            resident_bytes: look.kernel_resident(),
            metadata_bytes: stats.metadata,
            age_s: look.age().map(|age| age.as_secs_f64()),
            changed_pageblocks: look.changed_pageblocks(),
            tags: look.tags().iter().map(tag).collect(),
            holders_found: look.holders().len(),
        }
    }
}

/// A holder, for JSON.
#[derive(Serialize)]
pub(crate) struct ToldHolder<'a> {
    tag: Option<&'a str>,
    pid: Option<u32>,
    offset_bytes: usize,
    buffer_bytes: Option<usize>,
    kept_bytes: usize,
    comes_back_bytes: usize,
    comes_back_pageblocks: usize,
    references: u64,
    pins: u64,
    age_s: Option<f64>,
}

impl<'a> From<&'a Holder> for ToldHolder<'a> {
    fn from(holder: &'a Holder) -> Self {
        Self {
            tag: holder.tag.as_deref(),
            pid: holder.pid,
            offset_bytes: holder.offset,
            buffer_bytes: holder.buffer_bytes,
            kept_bytes: holder.kept_bytes,
            comes_back_bytes: holder.comes_back_bytes,
            comes_back_pageblocks: holder.pageblocks,
            references: holder.references,
            pins: holder.pins,
            age_s: holder.age.map(|age| age.as_secs_f64()),
        }
    }
}

/// A list of holders, for JSON.
pub(crate) fn told_holders(holders: &[Holder]) -> serde_json::Value {
    let told: Vec<ToldHolder<'_>> = holders.iter().map(ToldHolder::from).collect();
    serde_json::to_value(told).expect("names and numbers")
}
