//! The allocator's own words: bits and row maps of pageblocks, hints, and the CPU caches that
//! reserve rows of uncoalesced pages.
//!
//! The scenarios run on a whole zone. The set-up takes most of it, so that what the threads meet is
//! a few frames at the end of a pageblock, in its last row. Thread n uses CPU cache n, the
//! set-up the last one.

use super::{ONE_WORD, scenario};
use crate::engine::Engine;
use crate::fixture::Fixture;
use crate::safeguards::Safeguard;
use crate::scenario::Scenario;
use crate::tested_protocol::TestedProtocol;
use crate::word::CheckWord;

/// All but the last two frames of a pageblock, the lowest first.
pub(super) const BUT_TWO: [u8; 8] = [8, 7, 6, 5, 4, 3, 2, 1];
/// All of a pageblock, its last four frames as pages.
pub(super) const FOUR_PAGES_LAST: [u8; 11] = [8, 7, 6, 5, 4, 3, 2, 0, 0, 0, 0];

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    let zone = |name, title, slots, finds| Scenario {
        frames: 512,
        explored: |frame| frame >= 508,
        slots: Some(slots),
        preemptions: 2,
        ..scenario::<E, F>(name, title, ONE_WORD, finds)
    };
    vec![
        zone("refill-free", "pages are taken from the pool ‖ a block of the same row is freed", 2, &[])
            // The last block is the one that is freed.
            .setup(|fx| fx.occupy(BUT_TWO))
            .thread("take, give a page", take_and_give)
            .thread("give two pages", |fx| {
                fx.give_kept();
            }),
        zone("refill-refill", "two CPUs take the last four frames from the pool", 2, &[])
            .setup(|fx| fx.occupy([8, 7, 6, 5, 4, 3, 2]))
            .thread("take a page", take_a_page)
            .thread("take a page", take_a_page),
        zone("cache-shared", "two threads at one CPU cache: one takes and gives, one gives", 1, &[])
            .setup(|fx| fx.occupy([8, 7, 6, 5, 4, 3, 2, 0]))
            .thread("take, give a page", take_and_give)
            .thread("give a page", |fx| {
                fx.give_kept();
            }),
        zone("drain", "uncoalesced pages are drained ‖ another thread takes and gives", 2, &[])
            .setup(|fx| fx.occupy(BUT_TWO))
            .thread("take, give a page", take_and_give)
            .thread("drain", |fx| {
                fx.with_zone(|zone| zone.drain());
            }),
        zone(
            "whole-pageblock",
            "a pageblock is taken whole ‖ the last of it comes back",
            2,
            &[Safeguard::ARelease],
        )
        .setup(|fx| fx.occupy([1]))
        .thread("give two pages", |fx| {
            fx.give_kept();
        })
        .thread("take 2 MiB", |fx| {
            if let Some(pageblock) = fx.take(9) {
                fx.give(pageblock);
            }
        }),
        zone(
            "uncoalesced-hint",
            "a hint to uncoalesced pages that led nowhere is taken away ‖ a page becomes uncoalesced there",
            4,
            &[Safeguard::AOrder],
        )
        .setup(all_in_use_but_hinted_at)
        .thread("give a page", |fx| {
            fx.give_kept();
        })
        .thread("take a page", take_a_page)
        // Before more is given back that would lead to what was lost.
        .finish(|fx| fx.audit_allocator()),
        // There is another pageblock to take from, so no thread looks twice.
        Scenario {
            frames: 1024,
            explored: |frame| (508..512).contains(&frame),
            ..zone(
                "uncoalesced-left",
                "a CPU cache reserves a row no longer ‖ a page of it becomes uncoalesced at that cache",
                1,
                &[Safeguard::AOrder],
            )
        }
        .setup(|fx| fx.occupy(FOUR_PAGES_LAST))
        .thread("give a page", |fx| {
            fx.give_kept();
        })
        .thread("take a page", take_a_page)
        .finish(|fx| fx.audit_allocator()),
        Scenario {
            frames: 1024,
            explored: |frame| frame == 512,
            ..zone(
                "uncoalesced-pageblock",
                "a whole pageblock becomes uncoalesced ‖ another thread needs a part of one",
                4,
                &[Safeguard::AOrder],
            )
        }
        .setup(|fx| {
            fx.occupy([9, 9]);
            fx.as_thread(0, |fx| {
                fx.give_kept();
            });
            fx.occupy([9]);
        })
        .thread("give 2 MiB", |fx| {
            fx.give_kept();
        })
        .thread("take 1 MiB", |fx| {
            if let Some(block) = fx.take(8) {
                fx.keep_block(block);
            }
        }),
        // Nine pageblocks have 72 rows, so hints at them are of two levels. The set-up
        // leaves one that leads nowhere.
        Scenario {
            frames: 9 * 512,
            explored: |frame| frame >= 9 * 512 - 4,
            ..zone(
                "hints",
                "a hint that led nowhere is taken away ‖ it does lead somewhere",
                2,
                &[Safeguard::AOrder],
            )
        }
        .setup(|fx| fx.occupy([12, 8, 7, 6, 5, 4, 3, 2, 1, 1]))
        .thread("take two pages, give them", |fx| {
            if let Some(block) = fx.take(1) {
                fx.give(block);
            }
        })
        .thread("give two pages", |fx| {
            fx.give_kept();
        })
        .finish(|fx| fx.audit_allocator()),
        zone("many", "pages are taken many at a time ‖ one of the same row becomes uncoalesced", 4, &[])
            .setup(|fx| {
                fx.occupy(FOUR_PAGES_LAST);
                // As in `uncoalesced-hint`: a hint that led nowhere, and two uncoalesced pages.
                fx.with_zone(|zone| zone.drain());
                fx.as_thread(2, |fx| {
                    fx.give_kept();
                    fx.give_kept();
                });
            })
            .thread("take three pages, give them", |fx| {
                fx.take_many(3).into_iter().for_each(|page| fx.give(page))
            })
            .thread("give a page", |fx| {
                fx.give_kept();
            })
            .finish(|fx| fx.audit_allocator()),
        zone(
            "row",
            "pages of a row are taken and given back together ‖ one of the same row comes and goes",
            4,
            &[Safeguard::AOrder],
        )
        .setup(|fx| {
            fx.occupy(FOUR_PAGES_LAST);
            // As in `many`.
            fx.with_zone(|zone| zone.drain());
            fx.as_thread(2, |fx| {
                fx.give_kept();
                fx.give_kept();
            });
        })
        .thread("take a row of three pages, give it", |fx| fx.take_and_give_row(3))
        .thread("give a page, take one", |fx| {
            fx.give_kept();
            take_a_page(fx);
        })
        .finish(|fx| fx.audit_allocator()),
        zone("many-left", "not all pages at hand were asked for ‖ another thread takes one", 4, &[])
            .setup(|fx| {
                fx.occupy(FOUR_PAGES_LAST);
                fx.as_thread(2, |fx| {
                    fx.give_kept();
                    fx.give_kept();
                    fx.give_kept();
                });
            })
            .thread("take a page of many", |fx| {
                fx.take_many(1).into_iter().for_each(|page| fx.keep_block(page))
            })
            .thread("take a page", take_a_page)
            .finish(|fx| fx.audit_allocator()),
        // The last two frames of one row and the last four of the next, so two hints in one word.
        Scenario {
            explored: |frame| matches!(frame, 446 | 508),
            ..zone(
                "many-rows",
                "the hints to several rows are taken away at once, and of them not all is asked for ‖ another thread takes two pages",
                4,
                &[],
            )
        }
        .setup(|fx| {
            fx.occupy([8, 7, 5, 4, 3, 2, 1, 5, 4, 3, 2, 0, 0, 0, 0, 0, 0]);
            fx.with_zone(|zone| zone.drain());
            fx.as_thread(2, |fx| while fx.with_zone(|zone| zone.used_frames()) > 506 && fx.give_kept() {});
        })
        .thread("take a page of many", |fx| {
            fx.take_of_many(1, 128).into_iter().for_each(|page| fx.keep_block(page))
        })
        .thread("take two pages", |fx| {
            take_a_page(fx);
            take_a_page(fx);
        })
        .finish(|fx| fx.audit_allocator()),
        zone(
            "drop-many",
            "two pages are dropped at once, and what leads to them is looked for afterwards ‖ another thread takes one",
            4,
            &[Safeguard::AOrder],
        )
        .setup(all_in_use_but_hinted_at)
        .thread("drop two pages", |fx| fx.give_many(&[fx.kept_block(), fx.kept_block()]))
        .thread("take a page", take_a_page)
        .finish(|fx| fx.audit_allocator()),
        // The set-up leaves a hint to the last two frames of a word on the shelf of filled
        // pageblocks, and the rest of the pageblock free.
        Scenario {
            explored: |frame| frame == 62 || frame == 63,
            ..zone(
                "sparse",
                "a hint goes to the run index of sparse pageblocks ‖ the pageblock is filled",
                2,
                &[],
            )
        }
        .setup(|fx| {
            // Each call brings rests of lines to the pool, so that the next one takes them.
            fx.occupy([5, 4, 3, 2]);
            fx.occupy([1]);
            fx.occupy([6, 7, 8, 1]);
            while fx.with_zone(|zone| zone.used_frames()) > 62 {
                fx.give_kept();
            }
        })
        .thread("take two pages, give them", |fx| {
            if let Some(block) = fx.take(1) {
                fx.give(block);
            }
        })
        .thread("take half a pageblock", |fx| {
            if let Some(block) = fx.take(8) {
                fx.keep_block(block);
            }
        })
        .finish(|fx| fx.audit_allocator()),
        Scenario {
            explored: |frame| frame >= 504,
            ..zone(
                "line-drain",
                "a block is taken and the rest of its line parked ‖ what is parked goes to the pool",
                2,
                &[],
            )
        }
        .setup(|fx| fx.occupy([8, 7, 6, 5, 4, 3]))
        .thread("take, give a block", |fx| {
            if let Some(block) = fx.take(2) {
                fx.give(block);
            }
        })
        .thread("drain", |fx| fx.with_zone(|zone| zone.drain()))
        .finish(|fx| fx.audit_allocator()),
        Scenario {
            explored: |frame| frame >= 504,
            ..zone("line-line", "two CPUs take blocks of one free line", 2, &[])
        }
        .setup(|fx| fx.occupy([8, 7, 6, 5, 4, 3]))
        .thread("take a block", |fx| fx.keep_block(fx.take(2).expect("there is one for each")))
        .thread("take a block", |fx| fx.keep_block(fx.take(2).expect("there is one for each")))
        .finish(|fx| fx.audit_allocator()),
        zone("parked-drain", "a block is parked ‖ what is parked goes to the pool", 1, &[])
            .setup(|fx| fx.occupy(BUT_TWO))
            .thread("drop two pages", |fx| fx.give_handle(fx.kept_block()))
            .thread("drain", |fx| fx.with_zone(|zone| zone.drain()))
            .finish(|fx| fx.audit_allocator()),
        zone("parked-shared", "two threads at one CPU cache take and drop blocks of one order", 1, &[])
            .setup(|fx| fx.occupy([8, 7, 6, 5, 4, 3, 2, 1, 1]))
            .thread("drop two pages, take and give two", |fx| {
                fx.give_handle(fx.kept_block());
                if let Some(block) = fx.take(1) {
                    fx.give(block);
                }
            })
            .thread("drop two pages", |fx| fx.give_handle(fx.kept_block()))
            .finish(|fx| fx.audit_allocator()),
        zone(
            "own-drain",
            "a CPU's owner parks a block and takes it ‖ what is parked goes to the pool",
            2,
            &[],
        )
        .setup(|fx| fx.occupy(BUT_TWO))
        .thread("drop two pages, take and drop two", |fx| {
            fx.give_locally(fx.kept_block());
            if let Some(block) = fx.take_locally(1) {
                fx.give_locally(block);
            }
        })
        .thread("drain", |fx| fx.with_zone(|zone| zone.drain()))
        .finish(|fx| fx.audit_allocator()),
        zone("own-taken", "a CPU's owner parks a block ‖ another CPU takes it and parks it", 2, &[])
            .setup(|fx| fx.occupy(BUT_TWO))
            .thread("drop two pages, take two", |fx| {
                fx.give_locally(fx.kept_block());
                if let Some(block) = fx.take_locally(1) {
                    fx.keep_block(block);
                }
            })
            .thread("take and drop two pages", |fx| {
                if let Some(block) = fx.take(1) {
                    fx.give_handle(block);
                }
            })
            .finish(|fx| fx.audit_allocator()),
    ]
}

/// A set-up: all of the pageblock is in use, and yet a hint leads there. No CPU cache has the
/// pages' row reserved; so the first thread hints at one, and takes it again, as it remembers it.
fn all_in_use_but_hinted_at<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    fx.occupy(FOUR_PAGES_LAST);
    fx.with_zone(|zone| zone.drain());
    fx.as_thread(0, |fx| {
        fx.give_kept();
        fx.occupy([0]);
    });
}

pub(super) fn take_and_give<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    if let Some(page) = fx.take(0) {
        fx.give(page);
    }
}

fn take_a_page<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    if let Some(page) = fx.take(0) {
        fx.keep_block(page);
    }
}
