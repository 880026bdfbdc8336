//! Pins by address against everything that changes the entry: the page that is pinned is the one
//! mapped at some moment of the call, and as long as both last they don't part. Instructions and
//! faults against changes: no two translations of an address differ, and no fault takes an entry
//! for empty that a thread is about to replace.

use super::{ONE_WORD, scenario};
use crate::engine::Engine;
use crate::page_table_fixture::{
    access, collapse, copy_on_write, exit, fault, fork, huge, locked, pages, pin, split, unmap, use_tables,
};
use crate::safeguards::Safeguard;
use crate::scenario::Scenario;
use crate::tested_protocol::TestedProtocol;
use crate::word::CheckWord;

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    let entry = |name, title, finds| Scenario {
        explored: |frame| frame < 2,
        plain_setup: false,
        ..scenario::<E, F>(name, title, ONE_WORD, finds).finish(exit)
    };
    let pin_it: fn(&_) = |fx| pin(fx, 0);
    vec![
        // To two preemptions these are too many; each two of the three have scenarios of their own
        // below.
        Scenario {
            preemptions: 1,
            ..entry("I6", "pin by address ‖ split, collapse ‖ unmap, and the frame is used again", &[])
        }
        .reuses()
        .setup(huge)
        .thread("pin", pin_it)
        .thread("split; collapse", |fx| {
            locked(fx, split);
            locked(fx, collapse);
        })
        .thread("unmap; reuse", |fx| locked(fx, unmap)),
        entry("I6-split", "pin by address ‖ split of mapping and page", &[])
            .setup(huge)
            .thread("pin", pin_it)
            .thread("split", split),
        entry("I6-unmap", "pin by address ‖ unmap, and the frame is used again", &[Safeguard::H13Entry])
            .reuses()
            .setup(|fx| pages(fx, [0, 1]))
            .thread("pin", pin_it)
            .thread("unmap; reuse", unmap),
        entry(
            "I6-part",
            "pin by address ‖ unmap of a part of a huge page, and the frame is used again",
            &[Safeguard::H13Entry],
        )
        .reuses()
        .setup(huge)
        .thread("pin", pin_it)
        .thread("split; unmap; reuse", unmap),
        entry("I6-collapse", "pin by address ‖ collapse where the pages are", &[])
            .setup(|fx| pages(fx, [0, 1]))
            .thread("pin", pin_it)
            .thread("collapse", collapse),
        entry(
            "I6-copy",
            "pin by address ‖ collapse by copy, and a frame is used again",
            &[Safeguard::H13Entry, Safeguard::H19, Safeguard::H21Pin, Safeguard::H21Change],
        )
        .reuses()
        .setup(|fx| pages(fx, [1, 0]))
        .thread("pin", pin_it)
        .thread("collapse; reuse", collapse),
        entry(
            "I6-fork",
            "pin by address ‖ fork",
            &[Safeguard::H13Entry, Safeguard::H21Pin, Safeguard::H21Change],
        )
        .setup(|fx| pages(fx, [0, 1]))
        .thread("pin", pin_it)
        .thread("fork", fork),
        entry("I6-break", "two instructions of a CPU ‖ split of the mapping", &[Safeguard::TBreak])
            .setup(huge)
            .thread("access; access", |fx| {
                access(fx, 0);
                access(fx, 0);
            })
            .thread("split", split),
        entry("I6-cow", "instructions of two CPUs ‖ copy on write", &[Safeguard::TBreak])
            .setup(|fx| pages(fx, [0, 1]))
            .thread("access", |fx| access(fx, 0))
            .thread("access", |fx| access(fx, 1))
            .thread("copy", copy_on_write),
        entry("I6-fault", "fault ‖ split of the mapping", &[Safeguard::TEmpty])
            .setup(huge)
            .thread("fault", fault)
            .thread("split", |fx| locked(fx, split)),
        entry("I6-pins", "two pins by address ‖ collapse by copy", &[])
            .reuses()
            .setup(|fx| pages(fx, [1, 0]))
            .thread("pin", pin_it)
            .thread("pin", |fx| pin(fx, 1))
            .thread("collapse; reuse", collapse),
        entry(
            "I6-table",
            "pin by address ‖ collapse, and the table's frame is used again",
            &[Safeguard::H19Wait],
        )
        .setup(|fx| pages(fx, [0, 1]))
        .thread("pin", pin_it)
        .thread("collapse; reuse the table", |fx| {
            collapse(fx);
            use_tables(fx);
        }),
    ]
}
