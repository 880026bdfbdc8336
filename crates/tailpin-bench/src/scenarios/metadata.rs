//! How much metadata there is, and whether two cores ever meet in a cache line of it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::OneWord;

use crate::cores::on_cores;
use crate::recorder::{Recorder, Run};
use crate::report::Fact;
use crate::subjects::{Frames, Group, Memory, Ours, with_subjects, zone};

/// Words of a cache line.
const LINE_WORDS: usize = 8;

struct Bytes<'r>(&'r RefCell<Vec<(&'static str, usize)>>);

impl Group for Bytes<'_> {
    fn case<'s, S: Frames>(&self, subject: &'s S) -> Run<'s> {
        self.0.borrow_mut().extend(subject.metadata_bytes().map(|bytes| (S::NAME, bytes)));
        Box::new(|_| Vec::new())
    }
}

/// Bytes per frame, of those who can tell.
pub(super) fn bytes(recorder: &mut Recorder<'_>) {
    if !recorder.wants("metadata") {
        return;
    }
    let frames = recorder.effort.frames;
    let told = RefCell::new(Vec::new());
    with_subjects(frames, &Bytes(&told), |_| {});
    recorder.facts.extend(told.into_inner().into_iter().map(|(subject, bytes)| Fact {
        fact: "metadata-per-frame",
        subject,
        value: bytes as f64 / frames as f64,
        unit: "bytes",
    }));
}

fn written(before: &[u64], words: &[AtomicU64]) -> BTreeSet<usize> {
    // Relaxed: the threads meet between a write and this look at it.
    let changed = |(i, word): (usize, &AtomicU64)| {
        (word.load(Ordering::Relaxed) != before[i]).then_some(i / LINE_WORDS)
    };
    words.iter().enumerate().filter_map(changed).collect()
}

/// Lines of the allocator's metadata that two cores write when each takes a page from its own
/// cache.
pub(super) fn lines(recorder: &mut Recorder<'_>) {
    if !recorder.wants("metadata") {
        return;
    }
    const FRAMES: u64 = 1 << 15;
    let memory = Memory::new::<OneWord<'_>>(FRAMES);
    let zone = zone::<OneWord<'_>>(&memory, FRAMES);
    let ours = Ours::new(&zone, memory.bytes());
    let words = memory.allocator_words();
    let aligned = words.as_ptr().addr().is_multiple_of(LINE_WORDS * size_of::<u64>());
    let lines = on_cores(2, |seat| {
        // Fills its cache, which asks the shared part.
        drop(ours.take(0));
        seat.meet();
        let mut mine = BTreeSet::new();
        let mut held = None;
        for turn in 0..2 {
            if turn == seat.index {
                let before: Vec<u64> = words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
                held = ours.take(0);
                mine = written(&before, words);
            }
            seat.meet();
        }
        held.map(|_| mine)
    });
    let [Some(one), Some(other)] = &lines[..] else { return };
    if one.is_empty() || other.is_empty() {
        recorder.notes.push("shared lines of metadata: taking a page from a cache writes none".to_owned());
        return;
    }
    let shared = if aligned { one.intersection(other).count() } else { one.len() };
    recorder.facts.push(Fact {
        fact: "metadata-lines-shared",
        subject: "tailpin",
        value: shared as f64,
        unit: "lines",
    });
}
