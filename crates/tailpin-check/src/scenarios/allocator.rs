//! The allocator's own words: bits and counts of areas, summaries, caches.
//!
//! The scenarios run on a whole zone. The set-up takes most of it, so that what the roles meet is a few frames at the
//! end of an area. Role n uses cache n.

use super::{ONE_WORD, plan};
use crate::engine::Engine;
use crate::family::Family;
use crate::plan::Plan;
use crate::switches::Switch;
use crate::word::CheckWord;
use crate::world::World;

pub(super) fn plans<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    let zone = |name, title, slots, finds| Plan {
        frames: 512,
        explored: |frame| frame >= 508,
        slots: Some(slots),
        ..plan::<E, F>(name, title, ONE_WORD, finds)
    };
    vec![
        zone(
            "refill-free",
            "a cache is refilled ‖ a block of the same area is freed from elsewhere",
            2,
            &[Switch::ARelease],
        )
        // All but two frames; the last block is the one that is freed.
        .setup(|w| w.occupy([8, 7, 6, 5, 4, 3, 2, 1]))
        .role("take, give a page", take_and_give)
        .role("give two pages", |w| {
            w.give_kept();
        }),
        zone("refill-refill", "two caches are refilled from the last two frames", 2, &[])
            .setup(|w| w.occupy([8, 7, 6, 5, 4, 3, 2, 1]))
            .role("take a page", |w| {
                if let Some(page) = w.take(0) {
                    w.keep_block(page);
                }
            })
            .role("take a page", |w| {
                if let Some(page) = w.take(0) {
                    w.keep_block(page);
                }
            }),
        zone("cache-busy", "two threads at one cache: one takes, one gives", 1, &[Switch::ARelease])
            .setup(|w| {
                w.occupy([8, 7, 6, 5, 4, 3, 2, 0]);
            })
            .role("take, give a page", take_and_give)
            .role("give a page", |w| {
                w.give_kept();
            }),
        zone("drain", "a cache is drained ‖ its owner takes and gives", 2, &[])
            .setup(|w| w.occupy([8, 7, 6, 5, 4, 3, 2, 1]))
            .role("take, give a page", take_and_give)
            .role("drain", |w| {
                w.with_zone(|zone| zone.drain());
            }),
        zone("whole-area", "an area is taken whole ‖ the last of it comes back", 2, &[Switch::ARelease])
            .setup(|w| w.occupy([1]))
            .role("give two pages", |w| {
                w.give_kept();
            })
            .role("take 2 MiB", |w| {
                if let Some(area) = w.take(9) {
                    w.give(area);
                }
            }),
        Plan {
            frames: 65 * 512,
            explored: |frame| frame >= 65 * 512 - 4,
            ..zone("summaries", "summaries of two levels ‖ an area fills up and empties", 2, &[])
        }
        .setup(|w| w.occupy([15, 8, 7, 6, 5, 4, 3, 2, 1]))
        .role("take two pages", |w| {
            if let Some(block) = w.take(1) {
                w.give(block);
            }
        })
        .role("give two pages", |w| {
            w.give_kept();
        }),
    ]
}

fn take_and_give<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    if let Some(page) = w.take(0) {
        w.give(page);
    }
}
