//! Blocks above 2 MiB: tails of parts of a block.
//!
//! The map has two whole areas, of which the words of the head, the second part and one page of
//! each are explored.

use tailpin::Class::Splittable;
use tailpin::Protocol;

use super::{ONE_WORD, plan};
use crate::engine::Engine;
use crate::family::Family;
use crate::plan::Plan;
use crate::trace::note;
use crate::word::CheckWord;
use crate::world::{block, o};

pub(super) fn plans<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    let large = |name, title| Plan {
        frames: 1024,
        explored: |frame| frame % 512 < 2,
        ..plan::<E, F>(name, title, ONE_WORD, &[])
    };
    vec![
        large("large-pin", "pin of a page in the second part ‖ split of the whole to parts")
            .setup(|w| {
                w.alloc(0, 10, Splittable);
            })
            .role("get(513), put", |w| w.must_get_and_put(513))
            .role("split to 9", |w| w.split(0, 10, 9))
            .finish(|w| w.drop_refs(0, 10, 1)),
        large("large-split", "pin of a page ‖ split of the whole, then of its part")
            .setup(|w| {
                w.alloc(0, 10, Splittable);
            })
            .role("get(513), put", |w| w.must_get_and_put(513))
            .role("split to 9; split part", |w| {
                w.split(0, 10, 9);
                w.split(512, 9, 0);
            })
            .finish(|w| w.drop_refs(0, 10, 1)),
        // The three threads of a block of two levels. 2 MiB are the middle whatever is above: of 1
        // GiB it is the same code with more parts.
        Plan {
            explored: |frame| frame == 0 || frame == 512 || frame == 513,
            preemptions: 1,
            ..large(
                "large-three",
                "pin of a page ‖ split of the whole ‖ split of the page's part, once it is one",
            )
        }
        .setup(|w| {
            w.alloc(0, 10, Splittable);
            w.more_refs(0, 10, 1);
        })
        .role("get(513)", |w| w.keep(0, w.must_get(513)))
        .role("split to 9", |w| w.split(0, 10, 9))
        .role("split part", |w| {
            // Not a block of its own yet, perhaps: then it is left as it is.
            if w.protocol().split(block(512, 9), o(8), w).is_ok() {
                note(|| "has split the part".to_owned());
            }
        })
        .finish(|w| {
            w.drop_refs(0, 10, 2);
            w.put_kept(0);
        }),
        large("large-drop", "pin of a page ‖ the last reference to the whole goes")
            .setup(|w| {
                w.alloc(0, 10, Splittable);
            })
            .role("get(513), put", |w| w.get_and_put(513))
            .role("drop", |w| w.drop_refs(0, 10, 1)),
    ]
}
