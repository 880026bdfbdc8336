//! The start of a large zone over memory that was never touched.

use std::cell::RefCell;

use tailpin::{OneWord, PAGE_SIZE, PAGEBLOCK_FRAMES};

use crate::clock::once;
use crate::cores::on_cores;
use crate::recorder::{Recorder, Run, Sample};
use crate::report::Fact;
use crate::subjects::{Memory, zone};

const FRAMES_PER_GIB: u64 = 1 << 18;
/// A pageblock's bits: one cache line.
const PAGEBLOCK_BITS: usize = 64;
pub(super) fn large(recorder: &mut Recorder<'_>) {
    let gib = recorder.effort.start_gib;
    let scenario = format!("zone-start-{gib}gib");
    if !recorder.wants(&scenario) {
        return;
    }
    let frames = gib * FRAMES_PER_GIB;
    let last = RefCell::new(None);
    let run: Run<'_> = Box::new(|effort| {
        let mut memory = Memory::new::<OneWord<'_>>(frames);
        // One page is to be one page.
        memory.in_small_pages();
        let ns = on_cores(1, |_| once(effort, &scenario, || (1, zone::<OneWord<'_>>(&memory, frames))).0)[0];
        *last.borrow_mut() = Some(memory);
        vec![Sample::new(scenario.clone(), 1, ns)]
    });
    let repetitions = recorder.effort.repetitions;
    recorder.interleave(repetitions, vec![("tailpin", run)]);
    let Some(memory) = last.into_inner() else { return };
    let mut tell =
        |fact, value: f64, unit| recorder.facts.push(Fact { fact, subject: "tailpin", value, unit });
    tell("start-metadata-per-frame", memory.bytes() as f64 / frames as f64, "bytes");
    // What an allocator must know before the first request: everything but the frames' words and
    // the pageblocks' bits.
    let summary = memory.allocator_words().len() * size_of::<u64>()
        - frames as usize / PAGEBLOCK_FRAMES * PAGEBLOCK_BITS;
    tell("start-summary", summary.div_ceil(PAGE_SIZE) as f64, "pages");
    match memory.touched_pages() {
        Ok((page_words, allocator_words)) => {
            tell("start-touched-frame-words", page_words as f64, "pages");
            tell("start-touched", (page_words + allocator_words) as f64, "pages");
        }
        Err(error) => recorder.notes.push(format!("pages touched by {scenario}: {error}")),
    }
}
