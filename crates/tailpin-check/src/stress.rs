//! The same scenarios beyond what can be explored: four to eight threads, by random schedules and on the machine.

use std::panic::{AssertUnwindSafe, catch_unwind};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use tailpin::Class::Splittable;
use tailpin::{Pfn, Protocol};

use crate::engine::{Engine, Machine, Shuttle};
use crate::family::Family;
use crate::plan::{Plan, Role};
use crate::trace::violation;
use crate::word::CheckWord;
use crate::world::{World, o};

/// Eight frames in one block, and `threads` threads that pin, split, clone and drop: every run audited.
pub fn crowd<E: Engine, F: Family<CheckWord<E>>>(threads: usize) -> Plan<E, F> {
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
        name: "crowd",
        title: "many threads pin, split, clone and drop one block",
        protocols: &crate::family::Which::ALL,
        finds: &[],
        frames: 8,
        explored: |_| true,
        reuses: false,
        setup: |w| {
            w.alloc(0, 3, Splittable);
            // One each for the roles that drop one.
            w.more_refs(0, 3, 3);
        },
        roles: bodies[..threads].to_vec(),
        finish: |w| {
            w.drop_refs(0, 3, 1);
            // References of roles that this run had too few threads for.
            while w.has_refs(0) {
                w.drop_refs(0, 3, 1);
            }
        },
    }
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

/// Runs `schedules` random schedules of `threads` threads, half of them by priorities.
///
/// # Errors
/// Says what broke in the first one that went wrong.
pub fn random<F: Family<CheckWord<Shuttle>>>(threads: usize, schedules: usize) -> Result<(), String> {
    let runs = || {
        let mut config = shuttle::Config::new();
        config.max_steps = shuttle::MaxSteps::FailAfter(100_000);
        config.failure_persistence = shuttle::FailurePersistence::None;
        let once = move || crowd::<Shuttle, F>(threads).execute();
        shuttle::Runner::new(RandomScheduler::new(schedules / 2), config.clone()).run(once);
        shuttle::Runner::new(PctScheduler::new(3, schedules - schedules / 2), config).run(once);
    };
    catch_unwind(AssertUnwindSafe(runs)).map_err(|_| {
        let (_, broke) = crate::trace::take();
        broke.unwrap_or_else(|| "a schedule did not end as it should".to_owned())
    })
}

/// Runs the same `rounds` times on the machine's own threads.
///
/// # Panics
/// If a promise is broken.
pub fn machine<F: Family<CheckWord<Machine>>>(threads: usize, rounds: usize) {
    let plan = crowd::<Machine, F>(threads);
    (0..rounds).for_each(|_| plan.execute());
}
