//! Runs of frames: taken, parted, and given back by several threads at once.
//!
//! As for the [allocator](super::allocator): the set-up takes most of a pageblock, and the threads
//! meet in its last four frames. Under the classic protocol a run is single pages.

use tailpin::{FrameRange, Pfn};

use super::{ONE_WORD, scenario};
use crate::engine::Engine;
use crate::fixture::Fixture;
use crate::safeguards::Safeguard;
use crate::scenario::Scenario;
use crate::tested_protocol::TestedProtocol;
use crate::trace::violation;
use crate::word::CheckWord;

fn frames(start: u64, end: u64) -> FrameRange {
    FrameRange { start: Pfn::new(start), end: Pfn::new(end) }
}

/// All but the last four frames of a pageblock.
const BUT_FOUR: [u8; 7] = [8, 7, 6, 5, 4, 3, 2];

/// The set-up of those that give back: the last four frames are one run.
fn all_four<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    fx.occupy(BUT_FOUR);
    assert!(fx.take_run_at(frames(508, 512)), "the set-up asks for what there is");
}

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    let zone = |name, title| Scenario {
        frames: 512,
        explored: |frame| frame >= 508,
        slots: Some(2),
        preemptions: 2,
        ..scenario::<E, F>(name, title, ONE_WORD, &[])
    };
    vec![
        zone("run-parts", "two threads give back the halves of one block of a run")
            .setup(all_four)
            .thread("give the first half", |fx| fx.give_run(frames(508, 510)))
            .thread("give the second half", |fx| fx.give_run(frames(510, 512)))
            .finish(|fx| fx.audit_allocator()),
        Scenario {
            preemptions: 1,
            ..zone("run-uneven-parts", "two threads give back uneven parts of one block of a run")
        }
        .setup(all_four)
        .thread("give one frame", |fx| fx.give_run(frames(508, 509)))
        .thread("give three frames", |fx| fx.give_run(frames(509, 512)))
        .finish(|fx| fx.audit_allocator()),
        Scenario {
            finds: &[Safeguard::W21],
            ..zone(
                "run-pinned-part",
                "two threads give back the halves of one block of a run ‖ a page of it is pinned",
            )
        }
        .setup(|fx| {
            all_four(fx);
            fx.with_zone(|zone| zone.raw().pin(Pfn::new(511))).expect("it is in use");
        })
        .thread("give the first half", |fx| fx.give_run(frames(508, 510)))
        .thread("give the second half", |fx| fx.give_run(frames(510, 512)))
        .finish(|fx| {
            if let Err(misuse) = fx.with_zone(|zone| zone.raw().unpin(Pfn::new(511))) {
                violation(format!("frame 511 is pinned, but: {misuse}"));
            }
            fx.audit_allocator();
        }),
        Scenario {
            preemptions: 1,
            ..zone("run-part-pin", "a part of a run is given back ‖ a page of it is pinned by its number")
        }
        .setup(all_four)
        .thread("give three frames", |fx| fx.give_run(frames(509, 512)))
        .thread("pin, unpin", |fx| {
            if let Ok(pin) = fx.with_zone(|zone| zone.raw().pin(Pfn::new(510))) {
                fx.with_zone(|zone| zone.raw().unpin(pin.page)).expect("it is pinned");
            }
        })
        .finish(|fx| fx.give_run(frames(508, 509))),
        zone("run-named", "named frames are taken ‖ a page of them is taken and given back")
            .setup(|fx| fx.occupy(BUT_FOUR))
            .thread("take frames 509 to 512", |fx| {
                if fx.take_run_at(frames(509, 512)) {
                    fx.give_run(frames(509, 512));
                }
            })
            .thread("take, give a page", |fx| {
                if let Some(page) = fx.take(0) {
                    fx.give(page);
                }
            })
            .finish(|fx| fx.audit_allocator()),
        zone("run-found", "three frames side by side are taken ‖ two of the four that are left come back")
            .setup(|fx| {
                fx.occupy(BUT_FOUR);
                fx.occupy([1]);
            })
            .thread("take three frames", |fx| {
                if let Some(run) = fx.take_run(3) {
                    fx.give_run(run);
                }
            })
            .thread("give two pages", |fx| {
                fx.give_kept();
            })
            .finish(|fx| fx.audit_allocator()),
    ]
}
