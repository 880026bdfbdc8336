//! Pinning by address, memory in huge pages: one page at a time, and 2 MiB at a time. A pin and its
//! end are one operation per page.

use tailpin::PAGE_BYTES;
use tailpin_mm::{Access, Map, Prot, Space};

use crate::clock::repeat_parts;
use crate::cores::on_cores;
#[cfg(target_os = "linux")]
use crate::linux::{HugeMemory, Registered, Spliced};
use crate::recorder::{Recorder, Run, Sample};
use crate::subjects::{LazyEnv, Machine};

const HUGE: u64 = 2 << 20;
/// Huge pages that are there.
const BLOCKS: u64 = 16;
const ALL_PAGES: u64 = BLOCKS * 512;

/// Pages in the order in which they are pinned: never two neighbours, and all of them in the end.
fn next(page: &mut u64, pages: u64) -> u64 {
    let step = if pages == 1 { 37 } else { pages };
    *page = (*page + step) % ALL_PAGES;
    *page
}

fn case<'s>(scenario: &'static str, pages: u64, pin: impl Fn(u64) + Sync + 's) -> Run<'s> {
    Box::new(move |effort| {
        let ns = on_cores(1, |_| {
            let mut page = 0;
            repeat_parts(effort, scenario, pages, || pin(next(&mut page, pages)))
        })[0];
        vec![Sample::new(scenario, 1, ns)]
    })
}

/// Pins of one page and of 512, beside what the kernel has: pages spliced into a pipe (and out to
/// nowhere), and pages registered with a ring (and unregistered).
pub(super) fn huge(recorder: &mut Recorder<'_>) {
    for (scenario, pages) in [("mm-pin-1", 1), ("mm-pin-512", 512)] {
        if recorder.wants(scenario) {
            measure(recorder, scenario, pages);
        }
    }
}

fn measure(recorder: &mut Recorder<'_>, scenario: &'static str, pages: u64) {
    #[cfg(target_os = "linux")]
    let linux = Linux::new(recorder, scenario, pages);
    let machine = Machine::new((BLOCKS + 2) * 2);
    let zone = machine.zone();
    let mm = machine.mm(&zone);
    let space: Space<'_, LazyEnv> = mm.space().expect("there is memory for a page table");
    let addr = space.map(Map::anonymous(BLOCKS * HUGE, Prot::READ_WRITE)).expect("the space is empty");
    for block in 0..BLOCKS {
        space.fault(addr.offset(block * HUGE), Access::Write).expect("there is memory for it");
    }
    assert_eq!(space.usage().huge_bytes, BLOCKS * HUGE);
    let ours = case(scenario, pages, |page| {
        drop(
            space
                .pin_pages(addr.offset(page * PAGE_BYTES), pages * PAGE_BYTES, Access::Read)
                .expect("it is mapped"),
        );
    });
    #[allow(unused_mut)]
    let mut cases = vec![("tailpin", ours)];
    #[cfg(target_os = "linux")]
    if let Some(linux) = &linux {
        cases.extend(linux.cases(scenario, pages));
    }
    let repetitions = recorder.effort.repetitions;
    recorder.interleave(repetitions, cases);
}

/// What a pipe takes at once by default.
#[cfg(target_os = "linux")]
const PIPE_PAGES: u64 = 256;

#[cfg(target_os = "linux")]
struct Linux {
    memory: HugeMemory,
    pipe: Option<Spliced>,
    ring: Option<Registered>,
}

#[cfg(target_os = "linux")]
impl Linux {
    fn new(recorder: &mut Recorder<'_>, scenario: &str, pages: u64) -> Option<Self> {
        let memory = match HugeMemory::new(BLOCKS as usize) {
            Ok(memory) => memory,
            Err(why) => {
                recorder.skip(scenario, "linux-vmsplice", &why);
                recorder.skip(scenario, "linux-io-uring", why);
                return None;
            }
        };
        // Each does it once, so that it is known to be allowed here.
        let piped = pages.min(PIPE_PAGES) as usize;
        let pipe = Spliced::new(PIPE_PAGES as usize).and_then(|pipe| {
            pipe.pin(&memory, 0, piped)?;
            pipe.drain(piped)?;
            Ok(pipe)
        });
        let pipe = pipe.map_err(|error| recorder.skip(scenario, "linux-vmsplice", error)).ok();
        let ring = Registered::new()
            .and_then(|ring| ring.pin_and_unpin(&memory, 0, pages as usize).map(|()| ring))
            .map_err(|error| recorder.skip(scenario, "linux-io-uring", error))
            .ok();
        Some(Self { memory, pipe, ring })
    }

    fn cases<'s>(&'s self, scenario: &'static str, pages: u64) -> Vec<(&'static str, Run<'s>)> {
        let mut cases = Vec::new();
        if let Some(pipe) = &self.pipe {
            let at_once = pages.min(PIPE_PAGES);
            let splice = move |page| {
                for part in (page..page + pages).step_by(at_once as usize) {
                    pipe.pin(&self.memory, part as usize, at_once as usize).expect("it was allowed before");
                    pipe.drain(at_once as usize).expect("so much is in the pipe");
                }
            };
            cases.push(("linux-vmsplice", case(scenario, pages, splice)));
        }
        if let Some(ring) = &self.ring {
            let register = move |page| {
                let pinned = ring.pin_and_unpin(&self.memory, page as usize, pages as usize);
                pinned.expect("it was allowed before");
            };
            cases.push(("linux-io-uring", case(scenario, pages, register)));
        }
        cases
    }
}
