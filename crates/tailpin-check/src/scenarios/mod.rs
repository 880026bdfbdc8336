//! The scenarios. Those named I… are the ones of the project's list of interleavings; each is
//! written once and runs on every engine and on each protocol it is for.

mod allocator;
mod crowd;
mod entry;
mod futex;
mod kin;
mod large;
mod mail;
mod one_reference;
mod parts;
mod rearrange;

use crate::engine::Engine;
use crate::family::{Family, Which};
use crate::plan::{Plan, Role};
use crate::switches::Switch;
use crate::word::CheckWord;
use crate::world::World;

/// Both protocols.
const BOTH: &[Which] = &Which::ALL;
/// For what only the one-word protocol can do.
const ONE_WORD: &[Which] = &[Which::OneWord];
/// For what only the classic protocol has.
const CLASSIC: &[Which] = &[Which::Classic];

/// Every scenario that can be explored, for one engine and protocol.
pub fn all<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    let mut plans = mail::plans();
    plans.extend(kin::plans());
    plans.extend(rearrange::plans());
    plans.extend(one_reference::plans());
    plans.extend(large::plans());
    plans.extend(parts::plans());
    plans.extend(allocator::plans());
    plans.extend(futex::plans());
    plans.extend(entry::plans());
    of_protocol(plans)
}

/// Those with too many threads for that.
pub fn crowds<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    of_protocol(crowd::plans())
}

fn of_protocol<E: Engine, F: Family<CheckWord<E>>>(mut plans: Vec<Plan<E, F>>) -> Vec<Plan<E, F>> {
    plans.retain(|plan| plan.protocols.contains(&F::WHICH));
    plans
}

/// Words for a new scenario: `frames` frames, all explored, used once.
fn plan<E: Engine, F: Family<CheckWord<E>>>(
    name: &'static str,
    title: &'static str,
    protocols: &'static [Which],
    finds: &'static [Switch],
) -> Plan<E, F> {
    Plan {
        name,
        title,
        protocols,
        finds,
        frames: 4,
        explored: |_| true,
        reuses: false,
        slots: None,
        quiet_ends: true,
        preemptions: 2,
        setup: |_| {},
        roles: Vec::new(),
        finish: |_| {},
    }
}

impl<E: Engine, F> Plan<E, F> {
    fn setup(mut self, setup: fn(&World<E, F>)) -> Self {
        self.setup = setup;
        self
    }

    /// Explores only so many preemptions on the classic protocol, which takes about twice the
    /// steps.
    fn classic_to(mut self, preemptions: usize) -> Self
    where
        F: Family<CheckWord<E>>,
    {
        if F::WHICH == Which::Classic {
            self.preemptions = preemptions;
        }
        self
    }

    fn role(mut self, name: &'static str, body: fn(&World<E, F>)) -> Self {
        self.roles.push(Role { name, body });
        self
    }

    fn finish(mut self, finish: fn(&World<E, F>)) -> Self {
        self.finish = finish;
        self
    }

    fn reuses(mut self) -> Self {
        self.reuses = true;
        self
    }
}
