//! Four to eight threads at once: too many to explore, so they are run by random schedules and on
//! the machine itself.

use tailpin::Class::Splittable;
use tailpin::{FrameWords, Pfn};

use super::{BOTH, ONE_WORD, scenario};
use crate::engine::Engine;
use crate::fixture::{Fixture, to_order};
use crate::safeguards::Safeguard;
use crate::scenario::{Scenario, Thread};
use crate::tested_protocol::TestedProtocol;
use crate::trace::violation;
use crate::word::CheckWord;

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    vec![
        pinned("crowd-4", 4, &[]),
        pinned("crowd-6", 6, &[]),
        // Some steps are left out here as well, to see that random schedules find what they should.
        pinned(
            "crowd-8",
            8,
            &[Safeguard::W1, Safeguard::W5, Safeguard::W7, Safeguard::W8, Safeguard::W10, Safeguard::H13],
        ),
        reused(),
        zone(),
    ]
}

/// Eight frames in one block, and `threads` threads that pin, split, clone and drop.
fn pinned<E: Engine, F: TestedProtocol<CheckWord<E>>>(
    name: &'static str,
    threads: usize,
    finds: &'static [Safeguard],
) -> Scenario<E, F> {
    let bodies: [Thread<E, F>; 8] = [
        Thread { name: "split; drop", body: |fx| split(fx, 0) },
        Thread { name: "get(5), put", body: |fx| pin(fx, 5) },
        Thread { name: "clone; drop; drop", body: clone },
        Thread { name: "get(7), put", body: |fx| pin(fx, 7) },
        Thread { name: "split to 1; drop", body: |fx| split(fx, 1) },
        Thread { name: "get(0), put", body: |fx| pin(fx, 0) },
        Thread { name: "get(5), put", body: |fx| pin(fx, 5) },
        Thread { name: "look-up", body: look_up },
    ];
    Scenario {
        frames: 8,
        threads: bodies[..threads].to_vec(),
        ..scenario(name, "threads pin, split, clone and drop one block", BOTH, finds)
    }
    .setup(|fx| {
        fx.alloc(0, 3, Splittable);
        // One each for the threads that drop one.
        fx.more_refs(0, 3, 3);
    })
    .finish(|fx| {
        fx.drop_refs(0, 3, 1);
        // References of threads that this run had too few threads for.
        while fx.has_refs(0) {
            fx.drop_refs(0, 3, 1);
        }
    })
}

fn split<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, target: u8) {
    fx.split(0, 3, target);
    fx.drop_refs(0, 3, 1);
}

fn clone<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    fx.more_refs(0, 3, 2);
    fx.drop_refs(0, 3, 2);
    fx.drop_refs(0, 3, 1);
}

fn pin<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, page: u64) {
    let held = fx.must_get(page);
    fx.get(held);
    fx.put(held);
    fx.put(held);
}

fn look_up<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    for page in 0..8 {
        let found = fx.protocol().head_of(Pfn::new(page));
        if !found.is_some_and(|(head, order)| order <= to_order(3) && head == Pfn::new(page).head(order)) {
            violation(format!("page {page} is in use, but was found in {found:?}"));
        }
    }
}

/// Frames that are freed and handed out at other orders while others pin them by number.
fn reused<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Scenario<E, F> {
    Scenario {
        frames: 8,
        ..scenario("crowd-reuse", "frames change hands under threads that pin by number", BOTH, &[])
    }
    .setup(|fx| fx.begin_with(3))
    .reuses()
    .thread("drop; order 2 at 0; split to 1; drop", |fx| {
        fx.drop_refs(0, 3, 1);
        again(fx, 0, 2, 1);
        again(fx, 0, 0, 0);
    })
    .thread("order 2 at 4; split; drop", |fx| {
        again(fx, 4, 1, 1);
        again(fx, 4, 2, 0);
    })
    .thread("get(7), put", |fx| fx.get_and_put(7))
    .thread("get(3), put", |fx| fx.get_and_put(3))
    .thread("get(0), put", |fx| fx.get_and_put(0))
    .thread("get(5), put", |fx| fx.get_and_put(5))
    .thread("get(4), put", |fx| fx.get_and_put(4))
}

fn again<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, head: u64, order: u8, target: u8) {
    if fx.try_alloc(head, order, Splittable) {
        fx.split(head, order, target);
        fx.drop_refs(head, order, 1);
    }
}

/// The allocator: six threads, two slots, a pageblock that fills up and becomes whole again.
fn zone<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Scenario<E, F> {
    Scenario {
        frames: 1024,
        explored: |frame| !(4..1020).contains(&frame),
        slots: Some(2),
        ..scenario("crowd-zone", "threads take and give blocks of all sizes", ONE_WORD, &[])
    }
    .setup(|fx| fx.occupy([9, 8, 7, 6, 5, 4, 3, 2]))
    .thread("two pages", |fx| [0, 0].into_iter().for_each(|order| take_and_give(fx, order)))
    .thread("page, order 1", |fx| [0, 1].into_iter().for_each(|order| take_and_give(fx, order)))
    .thread("page, page", |fx| {
        let both = [fx.take(0), fx.take(0)];
        both.into_iter().flatten().for_each(|block| fx.give(block));
    })
    .thread("order 2, page", |fx| [2, 0].into_iter().for_each(|order| take_and_give(fx, order)))
    .thread("drain; 2 MiB", |fx| {
        fx.with_zone(|zone| zone.drain());
        take_and_give(fx, 9);
    })
    .thread("give", |fx| {
        for _ in 0..7 {
            fx.give_kept();
        }
    })
}

fn take_and_give<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, order: u8) {
    if let Some(block) = fx.take(order) {
        fx.give(block);
    }
}
