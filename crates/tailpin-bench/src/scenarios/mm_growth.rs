//! Pins and faults as more is mapped, all of it present in huge pages.
//!
//! What grows is the zone, the page table and the number of regions; the memory is one object of 64
//! MiB, mapped as often as it takes. All sizes exist at once and take turns.

use tailpin::{PAGE_BYTES, Zone};
use tailpin_mm::{Access, Advice, Map, Object, ObjectConfig, Prot, Space, VirtAddr};

use crate::clock::{goes_on, once, repeat};
use crate::cores::on_cores;
use crate::recorder::{Recorder, Run, Sample};
use crate::rng::Rng;
use crate::subjects::{LazyEnv, Machine};

const HUGE: u64 = 2 << 20;
const OBJECT: u64 = 64 << 20;
const GIB: u64 = 1 << 30;
/// The first address mapped.
const START: VirtAddr = VirtAddr::new(GIB);
/// Huge pages that are faulted in between two looks at the clock.
const BATCH: usize = 64;
/// Pages that are pinned, in turn: as many entries of the page table as a cache of the second level
/// holds.
const PLACES: u64 = 1024;
/// The largest size: what an address space of today has.
const LARGEST_GIB: u64 = 64;

fn names(gib: u64) -> [String; 2] {
    ["mm-pin", "mm-fault"].map(|what| format!("growth-{gib:03}gib-{what}"))
}

fn fill<'z>(space: &Space<'z, LazyEnv>, object: &Object<'z, LazyEnv>, gib: u64) {
    for offset in (0..gib * GIB).step_by(OBJECT as usize) {
        let map = Map::shared(object, 0, OBJECT, Prot::READ_WRITE).at(START.offset(offset));
        space.map(map).expect("the space is empty");
    }
    for offset in (0..gib * GIB).step_by(HUGE as usize) {
        space.fault(START.offset(offset), Access::Read).expect("there is memory for it");
    }
}

fn pins<'s>(space: &'s Space<'_, LazyEnv>, scenario: String, gib: u64) -> Run<'s> {
    Box::new(move |effort| {
        let ns = on_cores(1, |_| {
            let mut rng = Rng::new(11);
            let pages: Vec<u64> =
                (0..PLACES).map(|_| rng.below((gib * GIB / PAGE_BYTES) as usize) as u64).collect();
            let mut pages = pages.iter().cycle();
            repeat(effort, &scenario, || {
                let at = START.offset(pages.next().map_or(0, |page| page * PAGE_BYTES));
                drop(space.pin_pages(at, PAGE_BYTES, Access::Read).expect("it is mapped"));
            })
        })[0];
        vec![Sample::new(scenario.clone(), 1, ns)]
    })
}

fn faults<'s>(space: &'s Space<'_, LazyEnv>, scenario: String, gib: u64) -> Run<'s> {
    Box::new(move |effort| {
        on_cores(1, |_| {
            let mut rng = Rng::new(13);
            let (mut faulting, mut rounds) = (0.0, 0);
            let start = std::time::Instant::now();
            while goes_on(effort, start, rounds) {
                let at: Vec<VirtAddr> = (0..BATCH)
                    .map(|_| START.offset(rng.below((gib * GIB / HUGE) as usize) as u64 * HUGE))
                    .collect();
                for at in &at {
                    space.advise(*at, HUGE, Advice::DontNeed).expect("it is mapped");
                }
                let (ns, ()) = once(effort, &scenario, || {
                    at.iter().for_each(|at| space.fault(*at, Access::Read).expect("the object has it"));
                    (BATCH as u64, ())
                });
                faulting += ns;
                rounds += 1;
            }
            vec![Sample::new(scenario.clone(), 1, faulting / rounds as f64)]
        })
        .remove(0)
    })
}

/// A pin of one page, and a fault on a huge page whose memory is there, anywhere in 1 to 64 GiB.
pub(super) fn mapped(recorder: &mut Recorder<'_>) {
    let sizes: Vec<u64> =
        recorder.effort.growth_gib.iter().copied().filter(|gib| *gib <= LARGEST_GIB).collect();
    let sizes: Vec<u64> = sizes.into_iter().filter(|&gib| recorder.wants_any(&names(gib))).collect();
    let machines: Vec<Machine> = sizes.iter().map(|gib| Machine::new(gib * 1024)).collect();
    let zones: Vec<Zone<'_>> = machines.iter().map(Machine::zone).collect();
    let spaces: Vec<Space<'_, LazyEnv>> = machines
        .iter()
        .zip(&zones)
        .zip(&sizes)
        .map(|((machine, zone), &gib)| {
            let mm = machine.mm(zone);
            let object = mm.object(ObjectConfig::new(OBJECT).huge()).expect("its length is right");
            let space = mm.space().expect("there is memory for a page table");
            fill(&space, &object, gib);
            assert_eq!(space.usage().huge_bytes, gib * GIB);
            space
        })
        .collect();
    let mut cases = Vec::new();
    for (&gib, space) in sizes.iter().zip(&spaces) {
        let [pin, fault] = names(gib);
        cases.push(("tailpin", pins(space, pin, gib)));
        cases.push(("tailpin", faults(space, fault, gib)));
    }
    let repetitions = recorder.effort.repetitions;
    recorder.interleave(repetitions, cases);
}
