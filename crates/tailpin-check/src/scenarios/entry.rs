//! Pins by address against everything that changes the entry: the page that is pinned is the one
//! mapped at some moment of the call, and as long as both last they don't part.

use super::{ONE_WORD, plan};
use crate::engine::Engine;
use crate::entry_world::{collapse, exit, fork, huge, locked, pages, pin, split, unmap, use_tables};
use crate::family::Family;
use crate::plan::Plan;
use crate::switches::Switch;
use crate::word::CheckWord;

pub(super) fn plans<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    let entry = |name, title, finds| Plan {
        explored: |frame| frame < 2,
        quiet_ends: false,
        ..plan::<E, F>(name, title, ONE_WORD, finds).finish(exit)
    };
    let pin_it: fn(&_) = |w| pin(w, 0);
    vec![
        // To two preemptions these are too many; each two of the three have scenarios of their own
        // below.
        Plan {
            preemptions: 1,
            ..entry("I6", "pin by address ‖ split, collapse ‖ unmap, and the frame is used again", &[])
        }
        .reuses()
        .setup(huge)
        .role("pin", pin_it)
        .role("split; collapse", |w| {
            locked(w, split);
            locked(w, collapse);
        })
        .role("unmap; reuse", |w| locked(w, unmap)),
        entry("I6-split", "pin by address ‖ split of mapping and page", &[])
            .setup(huge)
            .role("pin", pin_it)
            .role("split", split),
        entry("I6-unmap", "pin by address ‖ unmap, and the frame is used again", &[Switch::H13Entry])
            .reuses()
            .setup(|w| pages(w, [0, 1]))
            .role("pin", pin_it)
            .role("unmap; reuse", unmap),
        entry(
            "I6-part",
            "pin by address ‖ unmap of a part of a huge page, and the frame is used again",
            &[Switch::H13Entry],
        )
        .reuses()
        .setup(huge)
        .role("pin", pin_it)
        .role("split; unmap; reuse", unmap),
        entry("I6-collapse", "pin by address ‖ collapse where the pages are", &[])
            .setup(|w| pages(w, [0, 1]))
            .role("pin", pin_it)
            .role("collapse", collapse),
        entry(
            "I6-copy",
            "pin by address ‖ collapse by copy, and a frame is used again",
            &[Switch::H13Entry, Switch::H19, Switch::H21Pin, Switch::H21Change],
        )
        .reuses()
        .setup(|w| pages(w, [1, 0]))
        .role("pin", pin_it)
        .role("collapse; reuse", collapse),
        entry("I6-fork", "pin by address ‖ fork", &[Switch::H13Entry, Switch::H21Pin, Switch::H21Change])
            .setup(|w| pages(w, [0, 1]))
            .role("pin", pin_it)
            .role("fork", fork),
        entry("I6-pins", "two pins by address ‖ collapse by copy", &[])
            .reuses()
            .setup(|w| pages(w, [1, 0]))
            .role("pin", pin_it)
            .role("pin", |w| pin(w, 1))
            .role("collapse; reuse", collapse),
        entry(
            "I6-table",
            "pin by address ‖ collapse, and the table's frame is used again",
            &[Switch::H19Wait],
        )
        .setup(|w| pages(w, [0, 1]))
        .role("pin", pin_it)
        .role("collapse; reuse the table", |w| {
            collapse(w);
            use_tables(w);
        }),
    ]
}
