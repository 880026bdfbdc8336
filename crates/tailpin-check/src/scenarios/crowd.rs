//! Four to eight threads at once: too many to explore, so they are run by random schedules and on
//! the machine itself.

use tailpin::Class::Splittable;
use tailpin::{Pfn, Protocol};

use super::{BOTH, ONE_WORD, plan};
use crate::engine::Engine;
use crate::family::Family;
use crate::plan::{Plan, Role};
use crate::switches::Switch;
use crate::trace::violation;
use crate::word::CheckWord;
use crate::world::{World, o};

pub(super) fn plans<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    vec![
        pinned("crowd-4", 4, &[]),
        pinned("crowd-6", 6, &[]),
        // Some steps are left out here as well, to see that random schedules find what they should.
        pinned("crowd-8", 8, &[Switch::W1, Switch::W5, Switch::W7, Switch::W8, Switch::W10, Switch::H13]),
        reused(),
        zone(),
    ]
}

/// Eight frames in one block, and `threads` threads that pin, split, clone and drop.
fn pinned<E: Engine, F: Family<CheckWord<E>>>(
    name: &'static str,
    threads: usize,
    finds: &'static [Switch],
) -> Plan<E, F> {
    let bodies: [Role<E, F>; 8] = [
        Role { name: "split; drop", body: |w| split(w, 0) },
        Role { name: "get(5), put", body: |w| pin(w, 5) },
        Role { name: "clone; drop; drop", body: clone },
        Role { name: "get(7), put", body: |w| pin(w, 7) },
        Role { name: "split to 1; drop", body: |w| split(w, 1) },
        Role { name: "get(0), put", body: |w| pin(w, 0) },
        Role { name: "get(5), put", body: |w| pin(w, 5) },
        Role { name: "look-up", body: look_up },
    ];
    Plan {
        frames: 8,
        roles: bodies[..threads].to_vec(),
        ..plan(name, "threads pin, split, clone and drop one block", BOTH, finds)
    }
    .setup(|w| {
        w.alloc(0, 3, Splittable);
        // One each for the roles that drop one.
        w.more_refs(0, 3, 3);
    })
    .finish(|w| {
        w.drop_refs(0, 3, 1);
        // References of roles that this run had too few threads for.
        while w.has_refs(0) {
            w.drop_refs(0, 3, 1);
        }
    })
}

fn split<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>, target: u8) {
    w.split(0, 3, target);
    w.drop_refs(0, 3, 1);
}

fn clone<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    w.more_refs(0, 3, 2);
    w.drop_refs(0, 3, 2);
    w.drop_refs(0, 3, 1);
}

fn pin<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>, page: u64) {
    let held = w.must_get(page);
    w.get(held);
    w.put(held);
    w.put(held);
}

fn look_up<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    for page in 0..8 {
        let found = w.protocol().head_of(Pfn::new(page));
        if !found.is_some_and(|(head, order)| order <= o(3) && head == Pfn::new(page).head(order)) {
            violation(format!("page {page} is in use, but was found in {found:?}"));
        }
    }
}

/// Frames that are freed and handed out at other orders while others pin them by number.
fn reused<E: Engine, F: Family<CheckWord<E>>>() -> Plan<E, F> {
    Plan {
        frames: 8,
        ..plan("crowd-reuse", "frames change hands under threads that pin by number", BOTH, &[])
    }
    .setup(|w| w.begin_with(3))
    .reuses()
    .role("drop; order 2 at 0; split to 1; drop", |w| {
        w.drop_refs(0, 3, 1);
        again(w, 0, 2, 1);
        again(w, 0, 0, 0);
    })
    .role("order 2 at 4; split; drop", |w| {
        again(w, 4, 1, 1);
        again(w, 4, 2, 0);
    })
    .role("get(7), put", |w| w.get_and_put(7))
    .role("get(3), put", |w| w.get_and_put(3))
    .role("get(0), put", |w| w.get_and_put(0))
    .role("get(5), put", |w| w.get_and_put(5))
    .role("get(4), put", |w| w.get_and_put(4))
}

fn again<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>, head: u64, order: u8, target: u8) {
    if w.try_alloc(head, order, Splittable) {
        w.split(head, order, target);
        w.drop_refs(head, order, 1);
    }
}

/// The allocator: six threads, two slots, an area that fills up and becomes whole again.
fn zone<E: Engine, F: Family<CheckWord<E>>>() -> Plan<E, F> {
    Plan {
        frames: 1024,
        explored: |frame| !(4..1020).contains(&frame),
        slots: Some(2),
        ..plan("crowd-zone", "threads take and give blocks of all sizes", ONE_WORD, &[])
    }
    .setup(|w| w.occupy([9, 8, 7, 6, 5, 4, 3, 2]))
    .role("two pages", |w| [0, 0].into_iter().for_each(|order| take_and_give(w, order)))
    .role("page, order 1", |w| [0, 1].into_iter().for_each(|order| take_and_give(w, order)))
    .role("page, page", |w| {
        let both = [w.take(0), w.take(0)];
        both.into_iter().flatten().for_each(|block| w.give(block));
    })
    .role("order 2, page", |w| [2, 0].into_iter().for_each(|order| take_and_give(w, order)))
    .role("drain; 2 MiB", |w| {
        w.with_zone(|zone| zone.drain());
        take_and_give(w, 9);
    })
    .role("give", |w| {
        for _ in 0..7 {
            w.give_kept();
        }
    })
}

fn take_and_give<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>, order: u8) {
    if let Some(block) = w.take(order) {
        w.give(block);
    }
}
