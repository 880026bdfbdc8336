//! The allocator's own words: bits and homes of areas, hints, pockets of caches.
//!
//! The scenarios run on a whole zone. The set-up takes most of it, so that what the roles meet is a few frames at the
//! end of an area, in its last word of frames. Role n uses cache n.

use super::{ONE_WORD, plan};
use crate::engine::Engine;
use crate::family::Family;
use crate::plan::Plan;
use crate::switches::Switch;
use crate::word::CheckWord;
use crate::world::World;

/// All but the last two frames of an area, the lowest first.
const BUT_TWO: [u8; 8] = [8, 7, 6, 5, 4, 3, 2, 1];

pub(super) fn plans<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    let zone = |name, title, slots, finds| Plan {
        frames: 512,
        explored: |frame| frame >= 508,
        slots: Some(slots),
        preemptions: 2,
        ..plan::<E, F>(name, title, ONE_WORD, finds)
    };
    vec![
        zone(
            "refill-free",
            "a cache is refilled ‖ a block of the same word of frames is freed from elsewhere",
            2,
            &[Switch::ARelease],
        )
        // The last block is the one that is freed.
        .setup(|w| w.occupy(BUT_TWO))
        .role("take, give a page", take_and_give)
        .role("give two pages", |w| {
            w.give_kept();
        }),
        zone("refill-refill", "two caches are refilled from the last four frames", 2, &[])
            .setup(|w| w.occupy([8, 7, 6, 5, 4, 3, 2]))
            .role("take a page", take_a_page)
            .role("take a page", take_a_page),
        zone(
            "cache-shared",
            "two threads at one cache: one takes and gives, one gives",
            1,
            &[Switch::ARelease],
        )
        .setup(|w| w.occupy([8, 7, 6, 5, 4, 3, 2, 0]))
        .role("take, give a page", take_and_give)
        .role("give a page", |w| {
            w.give_kept();
        }),
        zone("drain", "a cache is drained ‖ its owner takes and gives", 2, &[])
            .setup(|w| w.occupy(BUT_TWO))
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
        // Nine areas have 72 words of frames, so hints at them are of two levels. The set-up leaves one that leads nowhere.
        Plan {
            frames: 9 * 512,
            explored: |frame| frame >= 9 * 512 - 4,
            ..zone(
                "hints",
                "a hint that led nowhere is taken away ‖ it does lead somewhere",
                2,
                &[Switch::AOrder],
            )
        }
        .setup(|w| w.occupy([12, 8, 7, 6, 5, 4, 3, 2, 1, 1]))
        .role("take two pages, give them", |w| {
            if let Some(block) = w.take(1) {
                w.give(block);
            }
        })
        .role("give two pages", |w| {
            w.give_kept();
        })
        .finish(|w| w.audit_allocator()),
    ]
}

fn take_and_give<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    if let Some(page) = w.take(0) {
        w.give(page);
    }
}

fn take_a_page<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    if let Some(page) = w.take(0) {
        w.keep_block(page);
    }
}
