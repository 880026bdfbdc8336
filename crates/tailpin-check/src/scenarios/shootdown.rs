//! Shootdowns as a kernel runs them: rounds, marks and sections of `tailpin-kernel` on two CPUs.

use super::{ONE_WORD, scenario};
use crate::engine::Engine;
use crate::fixture::Fixture;
use crate::safeguards::Safeguard;
use crate::scenario::Scenario;
use crate::shootdown_fixture::ShootdownFixture;
use crate::tested_protocol::TestedProtocol;
use crate::word::CheckWord;

fn machine<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) -> &ShootdownFixture<E> {
    fx.extension()
}

fn unmap<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    machine(fx).unmap();
    machine(fx).answer_to_the_end();
}

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    let shootdown = |name, title, finds| Scenario {
        frames: 1,
        explored: |_| false,
        plain_setup: false,
        ..scenario::<E, F>(name, title, ONE_WORD, finds)
    };
    vec![
        shootdown(
            "K1",
            "unmap, and the frame is another owner's ‖ accesses of a CPU that runs the space",
            &[Safeguard::KAsk, Safeguard::KFlush, Safeguard::KWait],
        )
        .setup(|fx| fx.extend_with(ShootdownFixture::<E>::new(&[1])))
        .thread("unmap", unmap)
        .thread("access; interrupt; access", |fx| {
            machine(fx).access();
            machine(fx).interrupt();
            machine(fx).access();
            machine(fx).answer_to_the_end();
        }),
        shootdown(
            "K2",
            "unmap, and the frame is another owner's ‖ a CPU loads the space and accesses it",
            &[Safeguard::KMark, Safeguard::KShoot, Safeguard::KLoad],
        )
        .setup(|fx| fx.extend_with(ShootdownFixture::<E>::new(&[])))
        .thread("unmap", unmap)
        .thread("load; access", |fx| {
            machine(fx).load();
            machine(fx).access();
            machine(fx).answer_to_the_end();
        }),
        shootdown(
            "K3",
            "unmap, and the frame is another owner's ‖ a section of a CPU that runs another space",
            &[Safeguard::KSection, Safeguard::KAsk, Safeguard::KWait, Safeguard::KShoot, Safeguard::KLoad],
        )
        .setup(|fx| fx.extend_with(ShootdownFixture::<E>::new(&[])))
        .thread("unmap", unmap)
        .thread("section", |fx| {
            machine(fx).walk();
            machine(fx).answer_to_the_end();
        }),
        shootdown("K4", "two CPUs shoot down each other's space", &[Safeguard::KAnswer])
            .setup(|fx| fx.extend_with(ShootdownFixture::<E>::apart()))
            .thread("shootdown", |fx| {
                machine(fx).shoot_other();
                machine(fx).answer_to_the_end();
            })
            .thread("shootdown", |fx| {
                machine(fx).shoot_other();
                machine(fx).answer_to_the_end();
            }),
    ]
}
