//! The page walk: what is in use, by which buffers, and what would come back.
//!
//! Nothing here takes a count, so a walk never disturbs an operation; while others are at work it
//! sees each block at some moment, not all at the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tailpin::{FrameRange, Kind, Order, PageState, Pfn, Zone};

use crate::history::Origin;
use crate::memory::PAGE_SIZE;
use crate::observe::stats::{Holder, Stats};
use crate::page_notes::TagNumber;
use crate::shared_state::{Inner, View};

/// Whether a page is free once one pin on it is gone.
pub(crate) fn comes_back_with_pin(zone: &Zone<'_>, page: Pfn) -> bool {
    zone.state(page).is_some_and(|state| state.kind == Kind::Page && state.refs == 0 && state.pins == 1)
}

/// Pages that are free once one reference on each block of a run is gone.
pub(crate) fn come_back_with_reference(zone: &Zone<'_>, blocks: FrameRange) -> u64 {
    blocks_of(zone, blocks)
        .filter(|(_, state)| state.refs == 1)
        .map(|(head, state)| {
            let frames = FrameRange::block(head, state.order);
            frames.frames() - if state.pins == 0 { 0 } else { pinned_pages(zone, frames) }
        })
        .sum()
}

fn pinned_pages(zone: &Zone<'_>, frames: FrameRange) -> u64 {
    let is_pinned = |page: &Pfn| zone.pins_of(*page).is_some_and(|pins| pins > 0);
    frames.iter().filter(is_pinned).count() as u64
}

/// The blocks of a run that consists of whole blocks.
fn blocks_of<'z>(zone: &'z Zone<'_>, run: FrameRange) -> impl Iterator<Item = (Pfn, PageState)> + 'z {
    let mut at = run.start;
    std::iter::from_fn(move || {
        let state = if run.contains(at) { zone.state(at) } else { None }?;
        let head = at;
        at = at.offset(state.order.frames());
        Some((head, state))
    })
}

/// Handles that keep a page: its pins, and the references to its block.
pub(crate) fn keepers(zone: &Zone<'_>, page: Pfn) -> usize {
    let Some(pins) = zone.pins_of(page) else { return 0 };
    let references = zone.head_of(page).and_then(|(head, _)| zone.state(head)).map_or(0, |head| head.refs);
    (pins + references) as usize
}

/// A run of pages that are in the same state.
pub(crate) enum Run {
    Free,
    SetAside,
    InUse(PageState),
}

/// Whether a page in use is one that small copies share.
pub(crate) fn has_fragments(view: View<'_>, page: Pfn, state: &PageState) -> bool {
    state.order == Order::PAGE
        && view.notes.has_fragments(page)
        && view.history.origin(page).is_some_and(|origin| origin.order == Order::PAGE)
}

/// Every page of the arena, in runs that cover each exactly once.
pub(crate) fn walk(view: View<'_>, each: impl FnMut(FrameRange, Run)) {
    walk_within(view, view.frames, each);
}

/// Every page of these, in runs that cover each exactly once; the last may end behind them.
/// Returns where it does.
fn walk_within(view: View<'_>, part: FrameRange, mut each: impl FnMut(FrameRange, Run)) -> Pfn {
    let all = view.frames;
    let mut at = part.start.max(all.start);
    while at < part.end && all.contains(at) {
        let area_is_free = at.is_aligned(Order::HUGE) && view.is_free(at);
        let (frames, run) = if area_is_free {
            (Order::HUGE.frames(), Run::Free)
        } else {
            match view.zone.state(at) {
                Some(state) => match state.kind {
                    Kind::Page | Kind::Head | Kind::Splitting | Kind::Merging => {
                        (state.order.frames(), Run::InUse(state))
                    }
                    Kind::Offline | Kind::Reserved => (1, Run::SetAside),
                    Kind::Implicit | Kind::Free | Kind::Tail => (1, Run::Free),
                },
                None => (1, Run::SetAside),
            }
        };
        let end = at.offset(frames).min(all.end);
        each(FrameRange { start: at, end }, run);
        at = end;
    }
    at
}

/// Bytes of the largest free block.
pub(crate) fn largest_free(inner: &Inner) -> usize {
    let all = inner.frames();
    let mut best: Option<Order> = None;
    // Whole pageblocks that lie side by side, the last first: the allocator fills the first first.
    let mut run = 0_u64;
    let pageblocks = all.frames() / Order::HUGE.frames();
    for i in (0..pageblocks).rev() {
        let pageblock = all.start.head(Order::HUGE).offset(i * Order::HUGE.frames());
        let whole = pageblock >= all.start && inner.zone.used_in_pageblock(pageblock) == 0;
        run = if whole { run + 1 } else { 0 };
        if run == 0 {
            continue;
        }
        // The largest block that begins here.
        let fits = run.ilog2() + u32::from(Order::HUGE.get());
        let order = pageblock.get().trailing_zeros().min(fits).min(u32::from(Order::MAX.get()));
        best = best.max(Order::new(order as u8));
        if best == Some(Order::MAX) {
            break;
        }
    }
    let best = best.or_else(|| largest_in_parts(inner.view()));
    best.map_or(0, |order| order.bytes() as usize)
}

/// The largest free block, looked for page by page.
fn largest_in_parts(view: View<'_>) -> Option<Order> {
    let mut free = FreeRun::default();
    walk(view, |run, state| free.note(run, &state));
    free.end()
}

/// The run of free pages that a walk is in, and the largest free block so far.
#[derive(Default)]
struct FreeRun {
    run: Option<FrameRange>,
    largest: Option<Order>,
}

impl FreeRun {
    fn note(&mut self, run: FrameRange, state: &Run) {
        match (state, &mut self.run) {
            (Run::Free, Some(before)) => before.end = run.end,
            (Run::Free, None) => self.run = Some(run),
            _ => _ = self.end(),
        }
    }

    /// The run ends.
    fn end(&mut self) -> Option<Order> {
        self.largest = self.largest.max(self.run.take().and_then(largest_in));
        self.largest
    }
}

/// The largest naturally aligned block in a run of frames.
fn largest_in(run: FrameRange) -> Option<Order> {
    (0..=Order::MAX.get()).rev().filter_map(Order::new).find(|order| {
        let head = run.start.offset(order.frames() - 1).head(*order);
        head.offset(order.frames()) <= run.end
    })
}

pub(crate) fn stats(inner: &Inner) -> Stats {
    inner.note_locked();
    stats_of(inner.view())
}

pub(crate) fn stats_of(view: View<'_>) -> Stats {
    let mut stats = Stats {
        size: view.frames.frames() as usize * PAGE_SIZE,
        limit: view.limit,
        metadata: view.metadata,
        ..Stats::default()
    };
    let mut free = FreeRun::default();
    walk(view, |run, state| {
        let bytes = run.frames() as usize * PAGE_SIZE;
        free.note(run, &state);
        match state {
            Run::Free => {
                let there = view.residency.count_in(run) as usize * PAGE_SIZE;
                stats.free += there;
                stats.given_back += bytes - there;
            }
            Run::SetAside => stats.set_aside += bytes,
            Run::InUse(state) if has_fragments(view, run.start, &state) => stats.in_use_fragments += bytes,
            Run::InUse(state) if state.refs > 0 => stats.in_use_whole += bytes,
            Run::InUse(state) if state.order == Order::PAGE && state.pins == 1 => {
                stats.pinned_by_last_slice += bytes;
            }
            Run::InUse(_) => stats.in_use_pages += bytes,
        }
    });
    stats.largest_free = free.end().map_or(0, |order| order.bytes() as usize);
    stats
}

/// What is left of one buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Remains {
    pub(crate) tag: TagNumber,
    pub(crate) pages: u64,
    pub(crate) references: u64,
    pub(crate) pins: u64,
}

/// What is left of each buffer of which any page is in use.
pub(crate) fn remains(view: View<'_>) -> BTreeMap<Origin, Remains> {
    let mut kept = BTreeMap::new();
    walk(view, |run, state| count_remains(view, &mut kept, run, &state));
    kept
}

/// Counts a run of the walk.
fn count_remains(view: View<'_>, kept: &mut BTreeMap<Origin, Remains>, run: FrameRange, state: &Run) {
    let Run::InUse(state) = state else { return };
    let Some(origin) = view.history.origin(run.start) else { return };
    let fresh = || Remains { tag: view.notes.tag(run.start), ..Remains::default() };
    let remains = kept.entry(origin).or_insert_with(fresh);
    remains.pages += run.frames();
    remains.references = remains.references.max(state.refs);
    remains.pins += run.iter().filter_map(|page| view.zone.pins_of(page)).sum::<u64>();
}

/// What is left of each buffer in the first `most` pageblocks from `from` on that have memory, and
/// where the next of them is, if there are more.
fn remains_from(inner: &Inner, from: Pfn, most: usize) -> (BTreeMap<Origin, Remains>, Option<Pfn>) {
    let view = inner.view();
    let mut kept = BTreeMap::new();
    // All frames in use are marked as there before they are handed out.
    let pageblocks = inner.residency.pageblocks_worth_a_look().into_iter().rev();
    let (mut looked_at, mut end) = (0, from);
    // What lies before the end is part of a block that was counted with an earlier pageblock.
    for pageblock in pageblocks.skip_while(|pageblock| *pageblock < from) {
        if pageblock < end {
            continue;
        }
        if looked_at == most {
            return (kept, Some(pageblock));
        }
        looked_at += 1;
        let part = FrameRange::block(pageblock, Order::HUGE);
        end = walk_within(view, part, |run, state| count_remains(view, &mut kept, run, &state));
    }
    (kept, None)
}

/// The worst among the next `most` pageblocks that have memory, and whether these were all.
pub(crate) fn worst_holders_within(inner: &Inner, n: usize, most: usize) -> (Vec<Holder>, bool) {
    // Relaxed: from any place on it is as good.
    let from = Pfn::new(inner.holders_from.load(Ordering::Relaxed));
    let (remains, next) = remains_from(inner, from, most);
    inner.holders_from.store(next.map_or(0, Pfn::get), Ordering::Relaxed);
    (worst(inner, remains, n), next.is_none())
}

pub(crate) fn worst_holders(inner: &Inner, n: usize) -> Vec<Holder> {
    let (remains, _) = remains_from(inner, Pfn::new(0), usize::MAX);
    worst(inner, remains, n)
}

/// The `n` worst of these.
fn worst(inner: &Inner, remains: BTreeMap<Origin, Remains>, n: usize) -> Vec<Holder> {
    let holder = |(origin, remains): (Origin, Remains)| Holder {
        offset: inner.offset_of(origin.head),
        buffer_bytes: origin.order.bytes() as usize,
        kept_bytes: remains.pages as usize * PAGE_SIZE,
        references: remains.references as usize,
        pins: remains.pins as usize,
        age: inner.history.age(origin),
        tag: inner.tags.get(remains.tag).map(|tag| Arc::clone(&tag.name)),
    };
    let mut holders: Vec<Holder> = remains.into_iter().map(holder).collect();
    holders.sort_by(|a, b| b.kept_bytes.cmp(&a.kept_bytes).then(b.age.cmp(&a.age)));
    holders.truncate(n);
    holders
}
