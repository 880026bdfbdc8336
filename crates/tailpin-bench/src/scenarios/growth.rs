//! What an operation costs as zones grow, metadata only.
//!
//! All sizes exist at once and take turns, so that no busy moment of the machine makes one of them
//! look slow. Each is half full: of all 2 MiB blocks half are held, chosen at random, and one in
//! sixteen of those is held in pages, of which every other one was freed.

use tailpin::{Block, OneWord, Order, Zone};

use crate::clock::{once, repeat};
use crate::cores::on_cores;
use crate::recorder::{Recorder, Run, Sample};
use crate::rng::Rng;
use crate::subjects::{Memory, zone};

const FRAMES_PER_GIB: u64 = 1 << 18;

/// Pages taken, then freed in random order: more than any cache in front of the zone holds.
const BATCH: usize = 4096;

type OurZone<'m> = Zone<'m, OneWord<'m>>;
type OurBlock<'m> = Block<'m, OneWord<'m>>;

fn hold_half<'m>(zone: &'m OurZone<'m>) -> Vec<OurBlock<'m>> {
    let mut rng = Rng::new(3);
    let mut held: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::HUGE).ok()).collect();
    rng.shuffle(&mut held);
    held.truncate(held.len() / 2);
    let in_pages = held.split_off(held.len() / 16 * 15);
    for block in in_pages {
        let pages = block.split_to(Order::PAGE).into_iter().flatten();
        held.extend(pages.step_by(2));
    }
    held
}

fn pairs<'m>(zone: &'m OurZone<'m>, scenario: String, order: Order) -> Run<'m> {
    Box::new(move |effort| {
        let ns = on_cores(1, |_| repeat(effort, &scenario, || drop(zone.alloc(order))))[0];
        vec![Sample::new(scenario.clone(), 1, ns)]
    })
}

fn batches<'m>(zone: &'m OurZone<'m>, scenario: String) -> Run<'m> {
    Box::new(move |effort| {
        let ns = on_cores(1, |_| {
            let mut rng = Rng::new(5);
            let mut pages = Vec::with_capacity(BATCH);
            let mut order: Vec<usize> = (0..BATCH).collect();
            rng.shuffle(&mut order);
            let batch = |pages: &mut Vec<Option<OurBlock<'m>>>| {
                pages.extend((0..BATCH).map(|_| zone.alloc(Order::PAGE).ok()));
                order.iter().for_each(|&i| drop(pages[i].take()));
                pages.clear();
            };
            batch(&mut pages);
            once(effort, &scenario, || {
                (0..4).for_each(|_| batch(&mut pages));
                (4 * BATCH as u64, ())
            })
            .0
        })[0];
        vec![Sample::new(scenario.clone(), 1, ns)]
    })
}

/// Pairs of order 0 and 9, and batches of pages, in half-full zones from small to large.
pub(super) fn half_full(recorder: &mut Recorder<'_>) {
    let names = |gib: u64| ["o0", "o0-batch", "o9"].map(|kind| format!("growth-{gib:03}gib-{kind}"));
    let sizes: Vec<u64> = recorder.effort.growth_gib.to_vec();
    let sizes: Vec<u64> = sizes.into_iter().filter(|&gib| recorder.wants_any(&names(gib))).collect();
    let memories: Vec<Memory> =
        sizes.iter().map(|gib| Memory::new::<OneWord<'_>>(gib * FRAMES_PER_GIB)).collect();
    let zones: Vec<OurZone<'_>> =
        memories.iter().zip(&sizes).map(|(memory, gib)| zone(memory, gib * FRAMES_PER_GIB)).collect();
    let held: Vec<_> = zones.iter().map(hold_half).collect();
    let mut cases = Vec::new();
    for (&gib, zone) in sizes.iter().zip(&zones) {
        let [o0, o0_batch, o9] = names(gib);
        cases.push(("tailpin", pairs(zone, o0, Order::PAGE)));
        cases.push(("tailpin", batches(zone, o0_batch)));
        cases.push(("tailpin", pairs(zone, o9, Order::HUGE)));
    }
    let repetitions = recorder.effort.repetitions;
    recorder.interleave(repetitions, cases);
    drop(held);
}
