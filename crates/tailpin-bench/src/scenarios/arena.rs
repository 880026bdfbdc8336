//! Buffers and slices of an arena beside the heap and `Bytes`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::ptr::NonNull;

use bytes::Bytes;
use mimalloc::MiMalloc;
use tailpin::PAGE_SIZE;
use tailpin_arena::{Arena, Policy};
use tikv_jemallocator::Jemalloc;

use super::arena_floors::{BareWords, of_slice};
use super::cases::case;
use super::remote::through_ring;
use crate::cores::Hindered;
use crate::recorder::{Recorder, Run, Sample};

pub(super) const ARENA: &str = "tailpin";
pub(super) const HEAP: &str = "linux-malloc";
const MIMALLOC: &str = "mimalloc";
const JEMALLOC: &str = "jemalloc";

/// Memory of an allocator, written to once a page as long as it is there.
struct Heap<'a, A: GlobalAlloc> {
    allocator: &'a A,
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: an allocation may be used and freed by any thread.
unsafe impl<A: GlobalAlloc + Sync> Send for Heap<'_, A> {}

impl<'a, A: GlobalAlloc> Heap<'a, A> {
    fn new(allocator: &'a A, len: usize) -> Self {
        let layout = Layout::from_size_align(len, 16).expect("a length of this file's");
        // SAFETY: the layout is not of size zero.
        let start = unsafe { allocator.alloc(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| std::alloc::handle_alloc_error(layout));
        Self { allocator, start, layout }
    }

    fn touch(&mut self) {
        // SAFETY: the memory is this value's alone, as long as the layout says; written before it
        // is read, and nothing else is read.
        unsafe {
            (0..self.layout.size()).step_by(PAGE_SIZE).for_each(|at| self.start.add(at).write_volatile(1));
        }
    }
}

impl<A: GlobalAlloc> Drop for Heap<'_, A> {
    fn drop(&mut self) {
        // SAFETY: it came from this allocator by this layout, and is not used any more.
        unsafe { self.allocator.dealloc(self.start.as_ptr(), self.layout) };
    }
}

pub(super) fn arena() -> Arena {
    let arena = Arena::builder().size(1 << 30).build();
    arena.unwrap_or_else(|error| Hindered::end(format!("no address space: {error}")))
}

pub(super) fn touched(arena: &Arena, len: usize) -> tailpin_arena::Buffer {
    let mut buffer = arena.alloc(len).expect("a buffer of the arena");
    buffer.iter_mut().step_by(PAGE_SIZE).for_each(|byte| *byte = black_box(1));
    buffer
}

fn on_heap<A: GlobalAlloc>(allocator: &A, len: usize) -> Heap<'_, A> {
    let mut heap = Heap::new(allocator, len);
    heap.touch();
    heap
}

/// Taken, touched once a page, and dropped.
pub(super) fn buffers(recorder: &mut Recorder<'_>) {
    const ROWS: [(&str, usize); 5] = [
        ("arena-alloc-4k", 4 << 10),
        ("arena-alloc-64k", 64 << 10),
        ("arena-alloc-256k", 256 << 10),
        ("arena-alloc-2m", 2 << 20),
        ("arena-alloc-2m-and-1", (2 << 20) + 1),
    ];
    for (scenario, len) in ROWS {
        if !recorder.wants(scenario) {
            continue;
        }
        for threads in recorder.thread_counts() {
            let (arena, words) = (arena(), BareWords::new());
            let mut cases: Vec<(&'static str, Run<'_>)> = vec![
                (ARENA, case(scenario, threads, |_| drop(black_box(touched(&arena, len))))),
                (HEAP, case(scenario, threads, |_| drop(black_box(on_heap(&System, len))))),
                (MIMALLOC, case(scenario, threads, |_| drop(black_box(on_heap(&MiMalloc, len))))),
                (JEMALLOC, case(scenario, threads, |_| drop(black_box(on_heap(&Jemalloc, len))))),
            ];
            if len <= PAGE_SIZE {
                // Threads far from each other.
                let steps = case(scenario, threads, |thread| words.claim_and_free(32 * (thread % 16)));
                cases.push(("bare-claim-and-free", steps));
            }
            recorder.interleave(recorder.effort.repetitions, cases);
        }
    }
}

/// Made on one core, dropped on another.
pub(super) fn remote(recorder: &mut Recorder<'_>) {
    const ROWS: [(&str, usize); 5] = [
        ("arena-remote-4k", 4 << 10),
        ("arena-remote-64k", 64 << 10),
        ("arena-remote-256k", 256 << 10),
        ("arena-remote-2m", 2 << 20),
        ("arena-remote-2m-and-1", (2 << 20) + 1),
    ];
    fn run<'a, T: Send + 'a>(scenario: &'static str, make: impl Fn() -> T + Sync + 'a) -> Run<'a> {
        Box::new(move |effort| {
            let ns = through_ring(effort.slice, || Some(make()), drop);
            vec![Sample::new(scenario, 2, ns)]
        })
    }
    for (scenario, len) in ROWS {
        if recorder.cores() < 2 || !recorder.wants(scenario) {
            continue;
        }
        let arena = arena();
        let cases: Vec<(&'static str, Run<'_>)> = vec![
            (ARENA, run(scenario, || touched(&arena, len))),
            (HEAP, run(scenario, || on_heap(&System, len))),
            (MIMALLOC, run(scenario, || on_heap(&MiMalloc, len))),
            (JEMALLOC, run(scenario, || on_heap(&Jemalloc, len))),
        ];
        recorder.interleave(recorder.effort.repetitions, cases);
    }
}

/// Slices of a buffer, and of a buffer in pieces, beside those of `Bytes`.
pub(super) fn slices(recorder: &mut Recorder<'_>) {
    const WHOLE: usize = 2 << 20;
    const LENGTHS: [(&str, usize); 3] =
        [("arena-slice-200", 200), ("arena-slice-4k", 4 << 10), ("arena-slice-64k-across", 64 << 10)];
    const OTHERS: [&str; 3] = ["arena-slice-64k-piece", "arena-clone-drop", "arena-keep-200"];
    if !recorder.wants_any(&LENGTHS.map(|(scenario, _)| scenario)) && !recorder.wants_any(&OTHERS) {
        return;
    }
    let arena = arena();
    let whole = arena.alloc_zeroed(WHOLE).expect("a buffer of the arena").freeze();
    let mut buffer = arena.alloc_scattered(WHOLE, 64 << 10).expect("a buffer in pieces");
    buffer.fill_from(&mut std::io::repeat(1)).expect("a source that never fails");
    let pieces = buffer.freeze();
    let bytes = Bytes::from(vec![1; WHOLE]);
    let words = BareWords::new();
    let repetitions = recorder.effort.repetitions;
    // Where no slice begins on a page.
    let at = 5 * 64 * 1024 + 100;
    for (scenario, len) in LENGTHS {
        if recorder.wants(scenario) {
            let ours = case(scenario, 1, |_| drop(black_box(whole.slice(at..at + len))));
            let theirs = case(scenario, 1, |_| drop(black_box(bytes.slice(at..at + len))));
            let mut cases = vec![(ARENA, ours), ("bytes", theirs)];
            cases.extend(of_slice(scenario, &words, (at % PAGE_SIZE + len).div_ceil(PAGE_SIZE)));
            recorder.interleave(repetitions, cases);
        }
    }
    let [scenario, clone_drop, keep] = OTHERS;
    if recorder.wants(scenario) {
        let (from, to) = (6 << 16, 7 << 16);
        let ours = case(scenario, 1, |_| drop(black_box(pieces.contiguous(from..to).expect("a piece"))));
        let theirs = case(scenario, 1, |_| drop(black_box(bytes.slice(from..to))));
        recorder.interleave(repetitions, vec![(ARENA, ours), ("bytes", theirs)]);
    }
    let scenario = clone_drop;
    if recorder.wants(scenario) {
        let (slice, theirs) = (whole.slice(at..at + 200), bytes.slice(at..at + 200));
        let ours = case(scenario, 1, |_| drop(black_box(slice.clone())));
        let theirs = case(scenario, 1, |_| drop(black_box(theirs.clone())));
        recorder.interleave(repetitions, vec![(ARENA, ours), ("bytes", theirs)]);
    }
    let scenario = keep;
    if recorder.wants(scenario) {
        let ours = case(scenario, 1, |_| drop(black_box(whole.keep_part(at..at + 200, Policy::default()))));
        let theirs = case(scenario, 1, |_| drop(black_box(Box::<[u8]>::from(&bytes[at..at + 200]))));
        recorder.interleave(repetitions, vec![(ARENA, ours), (HEAP, theirs)]);
    }
}
