//! The scenarios. Those named I… are the ones of the project's list of interleavings; each is
//! written once and runs on every engine and on each protocol it is for.

mod allocator;
mod futex;
mod large;
mod later_races;
mod mail;
mod many_threads;
mod one_reference;
mod pin_by_address;
mod rearrange;
mod runs;
mod set_aside;
mod shootdown;
mod since_2019;
mod subcases;

use crate::engine::Engine;
use crate::fixture::Fixture;
use crate::protocol_kind::ProtocolKind;
use crate::safeguards::Safeguard;
use crate::scenario::{Scenario, Thread};
use crate::tested_protocol::TestedProtocol;
use crate::word::CheckWord;

/// Both protocols.
const BOTH: &[ProtocolKind] = &ProtocolKind::ALL;
/// For what only the one-word protocol can do.
const ONE_WORD: &[ProtocolKind] = &[ProtocolKind::OneWord];
/// For what only the classic protocol has.
const CLASSIC: &[ProtocolKind] = &[ProtocolKind::Classic];

/// Every scenario that can be explored, for one engine and protocol.
pub(crate) fn all<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    let mut scenarios = mail::scenarios();
    scenarios.extend(later_races::scenarios());
    scenarios.extend(since_2019::scenarios());
    scenarios.extend(rearrange::scenarios());
    scenarios.extend(one_reference::scenarios());
    scenarios.extend(large::scenarios());
    scenarios.extend(subcases::scenarios());
    scenarios.extend(allocator::scenarios());
    scenarios.extend(runs::scenarios());
    scenarios.extend(set_aside::scenarios());
    scenarios.extend(futex::scenarios());
    scenarios.extend(pin_by_address::scenarios());
    scenarios.extend(shootdown::scenarios());
    of_protocol(scenarios)
}

/// Those with too many threads for that.
pub(crate) fn many_threads<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    of_protocol(many_threads::scenarios())
}

fn of_protocol<E: Engine, F: TestedProtocol<CheckWord<E>>>(
    mut scenarios: Vec<Scenario<E, F>>,
) -> Vec<Scenario<E, F>> {
    scenarios.retain(|scenario| scenario.protocols.contains(&F::KIND));
    scenarios
}

/// Words for a new scenario: `frames` frames, all explored, used once.
fn scenario<E: Engine, F: TestedProtocol<CheckWord<E>>>(
    name: &'static str,
    title: &'static str,
    protocols: &'static [ProtocolKind],
    finds: &'static [Safeguard],
) -> Scenario<E, F> {
    Scenario {
        name,
        title,
        protocols,
        finds,
        frames: 4,
        explored: |_| true,
        reuses: false,
        slots: None,
        plain_setup: true,
        preemptions: 2,
        setup: |_| {},
        threads: Vec::new(),
        finish: |_| {},
    }
}

impl<E: Engine, F> Scenario<E, F> {
    fn setup(mut self, setup: fn(&Fixture<E, F>)) -> Self {
        self.setup = setup;
        self
    }

    /// Explores only so many preemptions on the classic protocol, which takes about twice the
    /// steps.
    fn classic_to(mut self, preemptions: usize) -> Self
    where
        F: TestedProtocol<CheckWord<E>>,
    {
        if F::KIND == ProtocolKind::Classic {
            self.preemptions = preemptions;
        }
        self
    }

    fn thread(mut self, name: &'static str, body: fn(&Fixture<E, F>)) -> Self {
        self.threads.push(Thread { name, body });
        self
    }

    fn finish(mut self, finish: fn(&Fixture<E, F>)) -> Self {
        self.finish = finish;
        self
    }

    fn reuses(mut self) -> Self {
        self.reuses = true;
        self
    }
}
