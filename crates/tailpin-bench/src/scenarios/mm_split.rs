//! Splitting huge pages that are mapped, with and without a pin on one of their pages, and making
//! them huge again.
//!
//! The kernel is made to split by saying that one page of a huge page is cold, which needs no
//! privilege. Its refusals count as failed: huge pages that are still there afterwards.

use tailpin::{Order, PAGE_BYTES};
use tailpin_mm::{Access, CollapseLimits, CollapseOutcome, Map, Prot, Space, VirtAddr};

use crate::clock::{goes_on, once};
use crate::cores::on_cores;
#[cfg(target_os = "linux")]
use crate::linux::{BLOCK_PAGES, HugeMemory, Spliced};
use crate::recorder::{Recorder, Run, Sample, Told};
use crate::subjects::{LazyEnv, Machine};

const HUGE: u64 = 2 << 20;
/// Huge pages split between two looks at the clock.
const BLOCKS: u64 = 8;
/// Of each huge page, the page with the pin.
const PINNED: u64 = 100;

struct Split {
    scenario: &'static str,
    collapse: &'static str,
    pinned: bool,
}

const SPLITS: [Split; 2] = [
    Split { scenario: "mm-split-0-pins", collapse: "mm-collapse-0-pins", pinned: false },
    Split { scenario: "mm-split-1-pin", collapse: "mm-collapse-1-pin", pinned: true },
];

fn huge_pages(space: &Space<'_, LazyEnv>) -> Vec<VirtAddr> {
    let addr = space.map(Map::anonymous(BLOCKS * HUGE, Prot::READ_WRITE)).expect("the space is empty");
    let blocks: Vec<_> = (0..BLOCKS).map(|block| addr.offset(block * HUGE)).collect();
    for block in &blocks {
        space.fault(*block, Access::Write).expect("there is memory for it");
    }
    blocks
}

fn order(space: &Space<'_, LazyEnv>, addr: VirtAddr) -> Option<Order> {
    space.mapping(addr).map(|mapping| mapping.order)
}

fn ours<'s>(split: &'static Split, space: &'s Space<'_, LazyEnv>, blocks: &'s [VirtAddr]) -> Run<'s> {
    Box::new(move |effort| {
        on_cores(1, |_| {
            let (mut splitting, mut collapsing, mut rounds, mut failed) = (0.0, 0.0, 0, 0);
            let pin = |at: &VirtAddr| {
                space.pin_pages(at.offset(PINNED * PAGE_BYTES), PAGE_BYTES, Access::Write).ok()
            };
            let pins: Vec<_> = blocks.iter().filter(|_| split.pinned).map(pin).collect();
            let start = std::time::Instant::now();
            while goes_on(effort, start, rounds) {
                let (ns, ()) = once(effort, split.scenario, || {
                    for block in blocks {
                        // What it came to is looked at below.
                        let _ = space.split_page(*block, Order::PAGE);
                    }
                    (BLOCKS, ())
                });
                splitting += ns;
                failed += blocks.iter().filter(|at| order(space, **at) != Some(Order::PAGE)).count() as u64;
                let (ns, done) = once(effort, split.collapse, || {
                    let collapse = |at: &VirtAddr| space.collapse(*at, CollapseLimits::NONE);
                    (BLOCKS, blocks.iter().filter(|at| collapse(at) == Ok(CollapseOutcome::InPlace)).count())
                });
                collapsing += ns;
                failed += BLOCKS - done as u64;
                rounds += 1;
            }
            drop(pins);
            let told = Told { failed: Some(failed), operations: Some(rounds * BLOCKS), ..Told::default() };
            vec![
                Sample::new(split.scenario, 1, splitting / rounds as f64).telling(told),
                Sample::new(split.collapse, 1, collapsing / rounds as f64).telling(told),
            ]
        })
        .remove(0)
    })
}

#[cfg(target_os = "linux")]
fn linux(split: &'static Split) -> Run<'static> {
    Box::new(move |effort| {
        on_cores(1, |_| {
            let all = BLOCKS as usize;
            // It was possible before, or this would not run.
            let memory = HugeMemory::new(all).expect("there is memory");
            let pins = Spliced::new(all).expect("there are pipes");
            let pages = |page: u64| (0..all).map(move |block| block * BLOCK_PAGES + page as usize);
            if split.pinned {
                pages(PINNED).for_each(|page| pins.pin(&memory, page, 1).expect("one page may be pinned"));
            }
            let (ns, ()) = once(effort, split.scenario, || {
                pages(200).for_each(|page| memory.cold(page).expect("the page is there"));
                (BLOCKS, ())
            });
            let failed = memory.huge_blocks().map_or(BLOCKS, |left| left as u64);
            let told = Told { failed: Some(failed), operations: Some(BLOCKS), ..Told::default() };
            vec![Sample::new(split.scenario, 1, ns).telling(told)]
        })
        .remove(0)
    })
}

/// Splits with no pins and with one in each huge page.
pub(super) fn pages(recorder: &mut Recorder<'_>) {
    for split in &SPLITS {
        if !recorder.wants_any(&[split.scenario, split.collapse]) {
            continue;
        }
        let machine = Machine::new((BLOCKS + 2) * 2);
        let zone = machine.zone();
        let mm = machine.mm(&zone);
        let space = mm.space().expect("there is memory for a page table");
        let blocks = huge_pages(&space);
        #[allow(unused_mut)]
        let mut cases = vec![("tailpin", ours(split, &space, &blocks))];
        #[cfg(target_os = "linux")]
        match tried() {
            Ok(()) => cases.push(("linux-thp", linux(split))),
            Err(why) => recorder.skip(split.scenario, "linux-thp", why),
        }
        let repetitions = recorder.effort.repetitions;
        recorder.interleave(repetitions, cases);
    }
}

/// Whether the kernel's side can be measured.
#[cfg(target_os = "linux")]
fn tried() -> Result<(), String> {
    let memory = HugeMemory::new(1)?;
    let pipe = Spliced::new(1).map_err(|error| error.to_string())?;
    pipe.pin(&memory, 0, 1).and_then(|()| memory.cold(200)).map_err(|error| error.to_string())
}
