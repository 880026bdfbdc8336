//! The allocator's own words: bits and homes of areas, hints, and the slots that answer for loose
//! pages.
//!
//! The scenarios run on a whole zone. The set-up takes most of it, so that what the roles meet is a
//! few frames at the end of an area, in its last word of frames. Role n uses slot n, the set-up the
//! last one.

use super::{ONE_WORD, plan};
use crate::engine::Engine;
use crate::family::Family;
use crate::plan::Plan;
use crate::switches::Switch;
use crate::word::CheckWord;
use crate::world::World;

/// All but the last two frames of an area, the lowest first.
const BUT_TWO: [u8; 8] = [8, 7, 6, 5, 4, 3, 2, 1];
/// All of an area, its last four frames as pages.
const FOUR_PAGES_LAST: [u8; 11] = [8, 7, 6, 5, 4, 3, 2, 0, 0, 0, 0];

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
            "pages are taken from the store ‖ a block of the same word of frames is freed",
            2,
            &[],
        )
        // The last block is the one that is freed.
        .setup(|w| w.occupy(BUT_TWO))
        .role("take, give a page", take_and_give)
        .role("give two pages", |w| {
            w.give_kept();
        }),
        zone("refill-refill", "two CPUs take the last four frames from the store", 2, &[])
            .setup(|w| w.occupy([8, 7, 6, 5, 4, 3, 2]))
            .role("take a page", take_a_page)
            .role("take a page", take_a_page),
        zone("slot-shared", "two threads at one slot: one takes and gives, one gives", 1, &[])
            .setup(|w| w.occupy([8, 7, 6, 5, 4, 3, 2, 0]))
            .role("take, give a page", take_and_give)
            .role("give a page", |w| {
                w.give_kept();
            }),
        zone("drain", "loose pages are gathered ‖ somebody takes and gives", 2, &[])
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
        zone(
            "loose-hint",
            "a hint to loose pages that led nowhere is taken away ‖ a page becomes loose there",
            4,
            &[Switch::AOrder],
        )
        .setup(|w| {
            w.occupy(FOUR_PAGES_LAST);
            // No slot answers for the pages. So the first role hints at one, and has it again as it
            // remembers it.
            w.with_zone(|zone| zone.drain());
            w.as_role(0, |w| {
                w.give_kept();
                w.occupy([0]);
            });
        })
        .role("give a page", |w| {
            w.give_kept();
        })
        .role("take a page", take_a_page)
        // Before more is given back that would lead to what was lost.
        .finish(|w| w.audit_allocator()),
        // There is another area to take from, so nobody looks twice.
        Plan {
            frames: 1024,
            explored: |frame| (508..512).contains(&frame),
            ..zone(
                "loose-left",
                "a slot answers for a group no longer ‖ a page of it becomes loose at that slot",
                1,
                &[Switch::AOrder],
            )
        }
        .setup(|w| w.occupy(FOUR_PAGES_LAST))
        .role("give a page", |w| {
            w.give_kept();
        })
        .role("take a page", take_a_page)
        .finish(|w| w.audit_allocator()),
        Plan {
            frames: 1024,
            explored: |frame| frame == 512,
            ..zone(
                "loose-area",
                "a whole area becomes loose ‖ somebody needs a part of one",
                4,
                &[Switch::AOrder],
            )
        }
        .setup(|w| {
            w.occupy([9, 9]);
            w.as_role(0, |w| {
                w.give_kept();
            });
            w.occupy([9]);
        })
        .role("give 2 MiB", |w| {
            w.give_kept();
        })
        .role("take 1 MiB", |w| {
            if let Some(block) = w.take(8) {
                w.keep_block(block);
            }
        }),
        // Nine areas have 72 words of frames, so hints at them are of two levels. The set-up leaves
        // one that leads nowhere.
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
        zone("many", "pages are taken many at a time ‖ one of the same group becomes loose", 4, &[])
            .setup(|w| {
                w.occupy(FOUR_PAGES_LAST);
                // As in `loose-hint`: a hint that led nowhere, and two loose pages.
                w.with_zone(|zone| zone.drain());
                w.as_role(2, |w| {
                    w.give_kept();
                    w.give_kept();
                });
            })
            .role("take three pages, give them", |w| w.take_many(3).into_iter().for_each(|page| w.give(page)))
            .role("give a page", |w| {
                w.give_kept();
            })
            .finish(|w| w.audit_allocator()),
        zone("many-left", "not all pages at hand were asked for ‖ somebody takes one", 4, &[])
            .setup(|w| {
                w.occupy(FOUR_PAGES_LAST);
                w.as_role(2, |w| {
                    w.give_kept();
                    w.give_kept();
                    w.give_kept();
                });
            })
            .role("take a page of many", |w| w.take_many(1).into_iter().for_each(|page| w.keep_block(page)))
            .role("take a page", take_a_page)
            .finish(|w| w.audit_allocator()),
        // The set-up leaves a hint to the last two frames of a word on the shelf of filled areas,
        // and the rest of the area free.
        Plan {
            explored: |frame| frame == 62 || frame == 63,
            ..zone("sparse", "a hint goes to the shelf of sparse areas ‖ the area is filled", 2, &[])
        }
        .setup(|w| {
            w.occupy([5, 4, 3, 2, 1, 6, 7, 8, 1]);
            while w.with_zone(|zone| zone.used_frames()) > 62 {
                w.give_kept();
            }
        })
        .role("take two pages, give them", |w| {
            if let Some(block) = w.take(1) {
                w.give(block);
            }
        })
        .role("take half an area", |w| {
            if let Some(block) = w.take(8) {
                w.keep_block(block);
            }
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
