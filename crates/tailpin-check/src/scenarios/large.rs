//! Blocks above 2 MiB: tails of parts of a block.
//!
//! The map has two whole pageblocks, of which the words of the head, the second part and one page
//! of each are explored.

use tailpin::Class::Splittable;
use tailpin::Rearrange;

use super::{ONE_WORD, scenario};
use crate::engine::Engine;
use crate::fixture::{block, to_order};
use crate::scenario::Scenario;
use crate::tested_protocol::TestedProtocol;
use crate::trace::note;
use crate::word::CheckWord;

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    let large = |name, title| Scenario {
        frames: 1024,
        explored: |frame| frame % 512 < 2,
        ..scenario::<E, F>(name, title, ONE_WORD, &[])
    };
    vec![
        large("large-pin", "pin of a page in the second part ‖ split of the whole to parts")
            .setup(|fx| {
                fx.alloc(0, 10, Splittable);
            })
            .thread("get(513), put", |fx| fx.must_get_and_put(513))
            .thread("split to 9", |fx| fx.split(0, 10, 9))
            .finish(|fx| fx.drop_refs(0, 10, 1)),
        large("large-split", "pin of a page ‖ split of the whole, then of its part")
            .setup(|fx| {
                fx.alloc(0, 10, Splittable);
            })
            .thread("get(513), put", |fx| fx.must_get_and_put(513))
            .thread("split to 9; split part", |fx| {
                fx.split(0, 10, 9);
                fx.split(512, 9, 0);
            })
            .finish(|fx| fx.drop_refs(0, 10, 1)),
        // The three threads of a block of two levels. 2 MiB are the middle whatever is above: of 1
        // GiB it is the same code with more parts.
        Scenario {
            explored: |frame| frame == 0 || frame == 512 || frame == 513,
            preemptions: 1,
            ..large(
                "large-three",
                "pin of a page ‖ split of the whole ‖ split of the page's part, once it is one",
            )
        }
        .setup(|fx| {
            fx.alloc(0, 10, Splittable);
            fx.more_refs(0, 10, 1);
        })
        .thread("get(513)", |fx| fx.keep(0, fx.must_get(513)))
        .thread("split to 9", |fx| fx.split(0, 10, 9))
        .thread("split part", |fx| {
            // Not a block of its own yet, perhaps: then it is left as it is.
            if fx.protocol().split(block(512, 9), to_order(8), fx).is_ok() {
                note(|| "has split the part".to_owned());
            }
        })
        .finish(|fx| {
            fx.drop_refs(0, 10, 2);
            fx.put_kept(0);
        }),
        large("large-drop", "pin of a page ‖ the last reference to the whole goes")
            .setup(|fx| {
                fx.alloc(0, 10, Splittable);
            })
            .thread("get(513), put", |fx| fx.get_and_put(513))
            .thread("drop", |fx| fx.drop_refs(0, 10, 1)),
    ]
}
