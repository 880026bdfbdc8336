//! Holes of 4 KiB in huge pages: what they take to make, and what comes back of them.
//!
//! Every other page of a huge page goes, one at a time; the first of them splits the mapping. The
//! kernel keeps the memory until it splits the huge page itself, later and only if it can.

use tailpin::PAGE_BYTES;
use tailpin_mm::{Access, Advice, Map, Prot, Space, VirtAddr};

use crate::clock::once;
use crate::cores::on_cores;
#[cfg(target_os = "linux")]
use crate::linux::{HugeMemory, free_pages};
use crate::recorder::{Recorder, Run, Sample};
use crate::report::Fact;
#[cfg(target_os = "linux")]
use crate::stats::Summary;
use crate::subjects::{LazyEnv, Machine};

const HUGE: u64 = 2 << 20;
/// Huge pages with holes.
const BLOCKS: u64 = 8;
/// Holes in each.
const HOLES: u64 = 256;

#[derive(Clone, Copy, PartialEq)]
enum How {
    Unmap,
    Drop,
}

const SCENARIOS: [(&str, &str, How); 2] =
    [("mm-unmap-4k", "mm-unmap-4k-kept", How::Unmap), ("mm-dontneed-4k", "mm-dontneed-4k-kept", How::Drop)];

fn holes(blocks: u64) -> impl Iterator<Item = u64> {
    (0..blocks).flat_map(|block| (0..HOLES).map(move |hole| block * 512 + 2 * hole + 1))
}

fn huge_pages(space: &Space<'_, LazyEnv>) -> VirtAddr {
    let addr = space.map(Map::anonymous(BLOCKS * HUGE, Prot::READ_WRITE)).expect("there are addresses");
    for block in 0..BLOCKS {
        space.fault(addr.offset(block * HUGE), Access::Write).expect("there is memory for it");
    }
    addr
}

fn make_holes(space: &Space<'_, LazyEnv>, addr: VirtAddr, how: How) {
    for page in holes(BLOCKS) {
        let at = addr.offset(page * PAGE_BYTES);
        match how {
            How::Unmap => space.unmap(at, PAGE_BYTES).expect("it is mapped"),
            How::Drop => space.advise(at, PAGE_BYTES, Advice::DontNeed).expect("it is mapped"),
        }
    }
}

fn ours<'s>(scenario: &'static str, how: How, space: &'s Space<'_, LazyEnv>) -> Run<'s> {
    Box::new(move |effort| {
        on_cores(1, |_| {
            let addr = huge_pages(space);
            let (ns, ()) = once(effort, scenario, || {
                make_holes(space, addr, how);
                (BLOCKS * HOLES, ())
            });
            space.unmap(addr, BLOCKS * HUGE).expect("it is mapped");
            vec![Sample::new(scenario, 1, ns)]
        })
        .remove(0)
    })
}

#[cfg(target_os = "linux")]
fn make_linux_holes(memory: &mut HugeMemory, blocks: u64, how: How) {
    for page in holes(blocks) {
        let made = match how {
            How::Unmap => memory.unmap(page as usize),
            How::Drop => memory.drop_contents(page as usize),
        };
        made.expect("it is mapped");
    }
}

#[cfg(target_os = "linux")]
fn linux(scenario: &'static str, how: How) -> Run<'static> {
    Box::new(move |effort| {
        on_cores(1, |_| {
            // It was possible before, or this would not run.
            let mut memory = HugeMemory::new(BLOCKS as usize).expect("there is memory");
            let (ns, ()) = once(effort, scenario, || {
                make_linux_holes(&mut memory, BLOCKS, how);
                (BLOCKS * HOLES, ())
            });
            vec![Sample::new(scenario, 1, ns)]
        })
        .remove(0)
    })
}

/// Of the 256 pages given up in each huge page, those that the machine has not got back: by its own
/// count of free pages, which others also change, hence the median of three over many huge pages.
#[cfg(target_os = "linux")]
fn kept_by_linux(how: How) -> Result<f64, String> {
    const MANY: u64 = 64;
    let one = || {
        let mut memory = HugeMemory::new(MANY as usize)?;
        let before = free_pages()?;
        make_linux_holes(&mut memory, MANY, how);
        let back = free_pages()? as f64 - before as f64;
        Ok((HOLES as f64 - back / MANY as f64).clamp(0.0, HOLES as f64).round())
    };
    let three = (0..3).map(|_| one()).collect::<Result<Vec<f64>, String>>()?;
    Ok(Summary::of(&three).map_or(0.0, |summary| summary.median))
}

/// Holes by unmapping and by dropping contents.
pub(super) fn holes_in_huge_pages(recorder: &mut Recorder<'_>) {
    for (scenario, kept, how) in SCENARIOS {
        if !recorder.wants(scenario) {
            continue;
        }
        let machine = Machine::new((BLOCKS + 4) * 2);
        let zone = machine.zone();
        let mm = machine.mm(&zone);
        let space = mm.space().expect("there is memory for a page table");
        #[allow(unused_mut)]
        let mut cases = vec![("tailpin", ours(scenario, how, &space))];
        #[cfg(target_os = "linux")]
        match HugeMemory::new(BLOCKS as usize) {
            Ok(_) => cases.push((
                if how == How::Unmap { "linux-munmap" } else { "linux-dontneed" },
                linux(scenario, how),
            )),
            Err(why) => recorder.skip(scenario, "linux-thp", why),
        }
        let repetitions = recorder.effort.repetitions;
        recorder.interleave(repetitions, cases);
        if recorder.effort.counting.is_some() {
            continue;
        }
        let addr = huge_pages(&space);
        let before = zone.used_frames();
        make_holes(&space, addr, how);
        let back = before.saturating_sub(zone.used_frames());
        let mut tell = |subject, value| {
            recorder.facts.push(Fact { fact: kept, subject, value, unit: "of 256 pages per huge page" });
        };
        tell("tailpin", HOLES as f64 - back as f64 / BLOCKS as f64);
        #[cfg(target_os = "linux")]
        match kept_by_linux(how) {
            Ok(value) => tell("linux-thp", value),
            Err(why) => recorder.skip(kept, "linux-thp", why),
        }
    }
}
