//! One look at an arena: its words copied, and what they say.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tailpin::{FrameRange, Order, PageWord, Pfn};

use super::copy::{ArenaCopy, FRAMES};
use crate::history::Origin;
use crate::memory::PAGE_SIZE;
use crate::observe::page_walk::{self, Run};
use crate::observe::stats::{Stats, of_bytes};
use crate::shared_state::View;

/// What the pages of a pageblock, or of anything, are: how many of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// In use in blocks with a reference.
    pub whole: u32,
    /// In use, each kept by several pins.
    pub pages: u32,
    /// In use, each shared by small copies.
    pub fragments: u32,
    /// In use, each kept by one pin.
    pub last: u32,
    /// Free, and the system has memory under them.
    pub free: u32,
    /// Free, and the system has the memory.
    pub without_memory: u32,
    /// Out of service.
    pub set_aside: u32,
}

impl Contents {
    /// Pages of the pageblock that are in use.
    pub fn used(&self) -> u32 {
        self.whole + self.kept()
    }

    /// Pages in use that are kept by their numbers, not as a block.
    pub fn kept(&self) -> u32 {
        self.pages + self.fragments + self.last
    }

    /// All pages that were looked at.
    pub fn all(&self) -> u32 {
        self.used() + self.free + self.without_memory + self.set_aside
    }

    fn add(&mut self, page: PageContents, pages: u32) {
        *match page {
            PageContents::Whole { .. } => &mut self.whole,
            PageContents::Fragments { .. } => &mut self.fragments,
            PageContents::Pinned { pins: 1 } => &mut self.last,
            PageContents::Pinned { .. } => &mut self.pages,
            PageContents::Free => &mut self.free,
            PageContents::WithoutMemory => &mut self.without_memory,
            PageContents::SetAside => &mut self.set_aside,
        } += pages;
    }
}

/// What 2 MiB of an arena have, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pageblock {
    /// Where in the arena it begins, in bytes.
    pub offset: usize,
    /// Its pages. Memory of the caller's may begin or end within a pageblock, which then has fewer
    /// than 512.
    pub contents: Contents,
}

/// What one page of an arena is, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageContents {
    /// In use in a block.
    Whole {
        /// References to the block.
        references: u64,
    },
    /// In use, shared by small copies.
    Fragments {
        /// How many of them there are.
        copies: u64,
    },
    /// In use, kept by pins alone.
    Pinned {
        /// How many.
        pins: u64,
    },
    /// Free, and the system has memory under it.
    Free,
    /// Free, and the system has the memory.
    WithoutMemory,
    /// Out of service.
    SetAside,
}

/// What keeps memory: what is left of a buffer or, in a shared arena, a process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The tag of the buffer.
    pub tag: Option<String>,
    /// The process, in a shared arena.
    pub pid: Option<u32>,
    /// Where in the arena the buffer began, or the first page of a process lies, in bytes.
    pub offset: usize,
    /// Size of the block that the buffer was, in bytes.
    pub buffer_bytes: Option<usize>,
    /// Bytes of pages that it keeps.
    pub kept_bytes: usize,
    /// What is free when it lets go. Less than `kept_bytes` in a shared arena where other processes
    /// keep the same pages.
    pub comes_back_bytes: usize,
    /// Pageblocks (2 MiB) that are wholly free then.
    pub pageblocks: usize,
    /// References to blocks.
    pub references: u64,
    /// Pins on its pages, added up.
    pub pins: u64,
    /// How long ago the buffer was handed out.
    pub age: Option<Duration>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pins and {} references keep {}",
            self.pins,
            self.references,
            of_bytes(self.kept_bytes)
        )?;
        if let Some(bytes) = self.buffer_bytes {
            write!(f, " of {}", of_bytes(bytes))?;
        }
        if let Some(age) = self.age {
            write!(f, " for {:.1} s", age.as_secs_f64())?;
        }
        match (&self.tag, self.pid) {
            (Some(tag), _) => write!(f, ", {tag}"),
            (None, Some(pid)) => write!(f, ", process {pid}"),
            (None, None) => Ok(()),
        }
    }
}

/// What the buffers of a tag keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagUse {
    /// The tag; `None` for buffers without one.
    pub tag: Option<String>,
    /// Bytes in use.
    pub bytes: usize,
    /// Buffers of which pages are in use.
    pub buffers: usize,
}

/// What a page is, which is one of a run in this state.
fn contents_of(view: View<'_>, page: Pfn, state: &Run) -> PageContents {
    match state {
        Run::Free if view.residency.count_in(FrameRange::new(page, 1)) == 1 => PageContents::Free,
        Run::Free => PageContents::WithoutMemory,
        Run::SetAside => PageContents::SetAside,
        Run::InUse(state) if page_walk::has_fragments(view, page, state) => {
            PageContents::Fragments { copies: state.pins }
        }
        Run::InUse(state) if state.refs > 0 => PageContents::Whole { references: state.refs },
        Run::InUse(state) if state.order == Order::PAGE => PageContents::Pinned { pins: state.pins },
        // A block that splits itself at this moment, or one that can't be split.
        Run::InUse(_) => PageContents::Pinned { pins: view.zone.pins_of(page).unwrap_or(0).max(2) },
    }
}

/// The parts of a run, by pageblock.
fn by_pageblock(view: View<'_>, run: FrameRange) -> impl Iterator<Item = (usize, FrameRange)> {
    let mut at = run.start;
    std::iter::from_fn(move || {
        let start = at;
        at = start.head(Order::HUGE).offset(FRAMES as u64).min(run.end);
        run.contains(start).then(|| (view.pageblock_of(start), FrameRange { start, end: at }))
    })
}

/// What one look at an arena found. It doesn't change any more.
pub struct Look {
    copy: ArenaCopy,
    stats: Stats,
    pageblocks: Vec<Pageblock>,
    holders: Vec<Holder>,
    tags: Vec<TagUse>,
    age: Option<Duration>,
    kernel_resident: Option<usize>,
    taken: Instant,
}

impl Look {
    pub(super) fn new(
        copy: ArenaCopy,
        names: &[(u16, String)],
        age: Duration,
        resident: Option<u64>,
    ) -> Self {
        let names: HashMap<u16, &str> = names.iter().map(|(number, name)| (*number, &**name)).collect();
        let name = |number: u16| match names.get(&number) {
            _ if number == 0 => None,
            Some(name) => Some((*name).to_owned()),
            None => Some(format!("tag {number}")),
        };
        let view = copy.view();
        // By buffer: pageblocks it has pages in, and how many.
        let mut places: BTreeMap<Origin, Vec<(usize, u32)>> = BTreeMap::new();
        let mut used = vec![0_u32; copy.touched.len()];
        page_walk::walk(view, |run, state| {
            let Run::InUse(_) = state else { return };
            let origin = view.history.origin(run.start);
            for (pageblock, part) in by_pageblock(view, run) {
                let pages = part.frames() as u32;
                if let Some(used) = used.get_mut(pageblock) {
                    *used += pages;
                }
                let Some(origin) = origin else { continue };
                let places = places.entry(origin).or_default();
                match places.last_mut() {
                    Some((last, n)) if *last == pageblock => *n += pages,
                    _ => places.push((pageblock, pages)),
                }
            }
        });
        let is_whole = |(pageblock, pages): &&(usize, u32)| used.get(*pageblock) == Some(pages);
        let mut tags: BTreeMap<Option<String>, TagUse> = BTreeMap::new();
        let mut holders = Vec::new();
        for (origin, remains) in page_walk::remains(view) {
            let (tag, kept_bytes) = (name(remains.tag.get()), remains.pages as usize * PAGE_SIZE);
            let sum = tags.entry(tag.clone()).or_insert(TagUse { tag: tag.clone(), bytes: 0, buffers: 0 });
            (sum.bytes, sum.buffers) = (sum.bytes + kept_bytes, sum.buffers + 1);
            holders.push(Holder {
                tag,
                pid: None,
                offset: view.offset_of(origin.head),
                buffer_bytes: Some(origin.order.bytes() as usize),
                kept_bytes,
                comes_back_bytes: kept_bytes,
                pageblocks: places.get(&origin).into_iter().flatten().filter(is_whole).count(),
                references: remains.references,
                pins: remains.pins,
                age: Some(view.history.age(origin)),
            });
        }
        let tags = tags.into_values().collect();
        Self::with(copy, holders, tags, Some(age), resident)
    }

    pub(super) fn with(
        copy: ArenaCopy,
        mut holders: Vec<Holder>,
        mut tags: Vec<TagUse>,
        age: Option<Duration>,
        resident: Option<u64>,
    ) -> Self {
        holders.sort_by(|a, b| {
            let counts = |holder: &Holder| holder.pins.saturating_add(holder.references);
            counts(a)
                .cmp(&counts(b))
                .then(b.comes_back_bytes.cmp(&a.comes_back_bytes))
                .then(b.age.cmp(&a.age))
                .then(a.offset.cmp(&b.offset))
        });
        tags.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.tag.cmp(&b.tag)));
        let view = copy.view();
        let mut pageblocks: Vec<Pageblock> = Vec::with_capacity(copy.touched.len());
        let in_span = view.zone.span().frames() as usize / FRAMES;
        let pageblock = |i: usize| view.zone.span().start.offset((i * FRAMES) as u64);
        pageblocks.extend(
            (0..in_span)
                .map(|i| Pageblock { offset: view.offset_of(pageblock(i)), contents: Contents::default() }),
        );
        page_walk::walk(view, |run, state| {
            for (pageblock, part) in by_pageblock(view, run) {
                let Some(Pageblock { contents, .. }) = pageblocks.get_mut(pageblock) else { continue };
                let pages = part.frames() as u32;
                if let Run::Free = state {
                    let there = view.residency.count_in(part) as u32;
                    contents.add(PageContents::Free, there);
                    contents.add(PageContents::WithoutMemory, pages - there);
                } else {
                    contents.add(contents_of(view, part.start, &state), pages);
                }
            }
        });
        let stats = page_walk::stats_of(view);
        let kernel_resident = resident.map(|bytes| bytes as usize);
        Self { stats, pageblocks, holders, tags, age, kernel_resident, taken: Instant::now(), copy }
    }

    /// Where all bytes of the arena are.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Its pageblocks, 2 MiB each, in order.
    pub fn pageblocks(&self) -> &[Pageblock] {
        &self.pageblocks
    }

    /// The pages of a pageblock, in order; none of one that the arena hasn't.
    pub fn pages_of(&self, pageblock: usize) -> Vec<PageContents> {
        let mut pages = Vec::with_capacity(FRAMES);
        let view = self.copy.view();
        page_walk::walk(view, |run, state| {
            for (_, part) in by_pageblock(view, run).filter(|(at, _)| *at == pageblock) {
                pages.extend(part.iter().map(|page| contents_of(view, page, &state)));
            }
        });
        pages
    }

    /// Who keeps memory: those with the fewest pins and references first, among equals those that
    /// keep most, then the oldest.
    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// What the buffers of each tag keep, most first. Empty for a shared arena, which has no tags.
    pub fn tags(&self) -> &[TagUse] {
        &self.tags
    }

    /// How long ago the arena was built; `None` where it doesn't say.
    pub fn age(&self) -> Option<Duration> {
        self.age
    }

    /// Bytes of the arena's data that have memory, as the kernel counts them at this moment; `None`
    /// where it doesn't tell. Less than the arena takes to be there where memory was handed out and
    /// never written to.
    pub fn kernel_resident(&self) -> Option<usize> {
        self.kernel_resident
    }

    /// Pageblocks that changed between the last two copies; 0 if each page was in the state told
    /// both times that it was copied. See [the module](super).
    pub fn changed_pageblocks(&self) -> usize {
        self.copy.changed
    }

    /// When the look was taken.
    pub fn taken(&self) -> Instant {
        self.taken
    }

    /// How many blocks were handed out between an earlier look and this one, at least: each frame
    /// counts the blocks that begin there up to 64, and no further. `None` if the other look was at
    /// another arena.
    pub fn blocks_since(&self, earlier: &Self) -> Option<u64> {
        let (now, then) = (&self.copy, &earlier.copy);
        if now.words.pages.len() != then.words.pages.len() || now.data != then.data {
            return None;
        }
        let generation = |copy: &ArenaCopy, i: usize| {
            let bits = copy.words.pages[i].load(Ordering::Relaxed);
            PageWord::from_bits(bits).decode().generation
        };
        let touched = |pageblock: &usize| now.touched[*pageblock] || then.touched[*pageblock];
        let frames = (0..now.touched.len()).filter(touched).flat_map(|i| i * FRAMES..(i + 1) * FRAMES);
        let begun = |i: usize| u64::from(generation(now, i).wrapping_sub(generation(then, i)) & 63);
        Some(frames.filter(|i| *i < now.words.pages.len()).map(begun).sum())
    }
}

/// The page that `tailpin top` shows: where all bytes are, and the largest tags.
impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.stats)?;
        if let Some(bytes) = self.kernel_resident {
            write!(f, "\n{:>11}  resident, says the kernel", of_bytes(bytes))?;
        }
        match self.changed_pageblocks() {
            0 => write!(f, "\n{:>11}  nothing changed during the look", "")?,
            n => write!(f, "\n{n:>11}  pageblocks changed during the look")?,
        }
        for TagUse { tag, bytes, buffers } in self.tags.iter().take(5) {
            let tag: String = tag.as_deref().unwrap_or("(no tag)").chars().take(20).collect();
            write!(f, "\n{:>11}  {tag:<20} {buffers} buffers", of_bytes(*bytes))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look")
            .field("stats", &self.stats)
            .field("holders", &self.holders.len())
            .field("changed_pageblocks", &self.changed_pageblocks())
            .finish_non_exhaustive()
    }
}
