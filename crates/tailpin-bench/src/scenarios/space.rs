//! Metadata, the start of a large zone, and what an operation costs as zones grow.

use std::cell::RefCell;

use tailpin::OneWord;

use super::pairs::{half_full, pair};
use crate::clock::once;
use crate::cores::on_cores;
use crate::recorder::{Recorder, Run, Sample};
use crate::report::Space;
use crate::subjects::{Frames, Group, Memory, Ours, with_subjects, zone};

const FRAMES_PER_GIB: u64 = 1 << 18;

struct Bytes<'r>(&'r RefCell<Vec<(&'static str, usize)>>);

impl Group for Bytes<'_> {
    fn case<'s, S: Frames>(&self, subject: &'s S) -> Run<'s> {
        self.0.borrow_mut().extend(subject.metadata_bytes().map(|bytes| (S::NAME, bytes)));
        Box::new(|_| Vec::new())
    }
}

/// Bytes per frame, of those who can tell.
pub(super) fn metadata(recorder: &mut Recorder<'_>) {
    if !recorder.wants("metadata") {
        return;
    }
    let frames = recorder.effort.frames;
    let told = RefCell::new(Vec::new());
    with_subjects(frames, &Bytes(&told), |_| {});
    recorder.space.extend(told.into_inner().into_iter().map(|(subject, bytes)| Space {
        subject,
        frames,
        metadata_bytes_per_frame: bytes as f64 / frames as f64,
        resident_bytes_at_start: None,
    }));
}

/// Resident memory of this process, where the system tells.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

/// Making a zone over memory that was never touched.
pub(super) fn start(recorder: &mut Recorder<'_>) {
    let gib = recorder.effort.start_gib;
    let scenario = format!("zone-start-{gib}gib");
    if !recorder.wants(&scenario) {
        return;
    }
    let frames = gib * FRAMES_PER_GIB;
    let grown = RefCell::new((None, 0));
    let run: Run<'_> = Box::new(|_| {
        let memory = Memory::new::<OneWord<'_>>(frames);
        let before = resident_bytes();
        let ns = on_cores(1, |_| once(1, || zone::<OneWord<'_>>(&memory, frames)).0)[0];
        let resident = before.zip(resident_bytes()).map(|(before, after)| after.saturating_sub(before));
        *grown.borrow_mut() = (resident, memory.bytes());
        vec![Sample::new(scenario.clone(), 1, ns)]
    });
    let repetitions = recorder.effort.repetitions;
    recorder.interleave(repetitions, vec![("tailpin", run)]);
    let (resident_bytes_at_start, bytes) = grown.into_inner();
    recorder.space.push(Space {
        subject: "tailpin",
        frames,
        metadata_bytes_per_frame: bytes as f64 / frames as f64,
        resident_bytes_at_start,
    });
}

/// Pairs in half-full zones from small to large.
pub(super) fn growth(recorder: &mut Recorder<'_>) {
    for &gib in recorder.effort.growth_gib {
        let (o0, o9) = (format!("growth-{gib:03}gib-o0"), format!("growth-{gib:03}gib-o9"));
        if !recorder.wants_any(&[&o0, &o9]) {
            continue;
        }
        let frames = gib * FRAMES_PER_GIB;
        let memory = Memory::new::<OneWord<'_>>(frames);
        let zone = zone::<OneWord<'_>>(&memory, frames);
        let ours = Ours::new(&zone, memory.bytes());
        let fresh: Run<'_> =
            Box::new(|effort| vec![Sample::new(o9.clone(), 1, pair(&ours, 9, 1, effort.slice))]);
        let repetitions = recorder.effort.repetitions;
        recorder.interleave(repetitions, vec![("tailpin", fresh)]);
        let held = half_full(&ours);
        let half: Run<'_> =
            Box::new(|effort| vec![Sample::new(o0.clone(), 1, pair(&ours, 0, 1, effort.slice))]);
        recorder.interleave(repetitions, vec![("tailpin", half)]);
        drop(held);
    }
}
