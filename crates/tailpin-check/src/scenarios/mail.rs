//! The races of the mail itself.

use tailpin::Class::Splittable;
use tailpin::{Order, Pfn, Protocol};

use super::{BOTH, plan};
use crate::engine::Engine;
use crate::family::Family;
use crate::plan::Plan;
use crate::switches::Switch;
use crate::trace::violation;
use crate::word::CheckWord;

pub(super) fn plans<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    vec![
        plan::<E, F>("I1", "put of a tail ‖ split, last references go", BOTH, &[Switch::H1])
            .setup(|w| {
                w.alloc(0, 1, Splittable);
                w.keep(0, w.must_get(1));
            })
            .role("put(T)", |w| w.put_kept(0))
            .role("split; drop", |w| {
                w.split(0, 1, 0);
                w.drop_refs(0, 1, 1);
            }),
        plan::<E, F>(
            "I2",
            "put of a tail ‖ split, head freed and handed out in a smaller block",
            BOTH,
            &[Switch::H2, Switch::H2Stuck],
        )
        .setup(|w| {
            w.alloc(0, 2, Splittable);
            w.keep(0, w.must_get(3));
        })
        .reuses()
        .role("put(T)", |w| w.put_kept(0))
        .role("split; drop; allocate order 1; free", |w| {
            w.split(0, 2, 0);
            w.drop_refs(0, 2, 1);
            if w.try_alloc(0, 1, Splittable) {
                w.drop_refs(0, 1, 1);
            }
        }),
        plan::<E, F>("I3", "head of a frame ‖ allocations of different orders over it", BOTH, &[])
            .setup(|w| {
                w.alloc(0, 2, Splittable);
            })
            .reuses()
            .role("drop; allocate; drop", |w| {
                w.drop_refs(0, 2, 1);
                if w.try_alloc(2, 1, Splittable) {
                    w.drop_refs(2, 1, 1);
                }
            })
            .role("look-up", |w| {
                for _ in 0..2 {
                    let head = w.protocol().head_of(Pfn::new(3));
                    let told = head.map(|(head, order)| (head.get(), order.get()));
                    if !matches!(told, None | Some((0, 2) | (2, 1))) {
                        violation(format!("frame 3 was said to be in {told:?}, which never was"));
                    }
                }
            }),
        plan::<E, F>(
            "I4",
            "get of a tail ‖ split",
            BOTH,
            &[Switch::H13, Switch::H14Barrier, Switch::W1, Switch::W3, Switch::W4, Switch::W9, Switch::W11],
        )
        .setup(|w| {
            w.alloc(0, 1, Splittable);
        })
        .role("get(T), put", |w| {
            let held = w.must_get(1);
            w.put(held);
        })
        .role("split", |w| w.split(0, 1, 0))
        .finish(|w| w.drop_refs(0, 1, 1)),
        plan::<E, F>(
            "I4-kept",
            "get of a tail ‖ split and drop; the pin stays",
            BOTH,
            &[Switch::H13, Switch::W6],
        )
        .setup(|w| {
            w.alloc(0, 1, Splittable);
        })
        .role("get(T)", |w| {
            if let Ok(held) = w.try_get(1) {
                w.keep(0, held);
            }
        })
        .role("split; drop", |w| {
            w.split(0, 1, 0);
            w.drop_refs(0, 1, 1);
        })
        .finish(|w| w.put_kept(0)),
        plan::<E, F>("I5", "split of a block with references and pins", BOTH, &[Switch::W6, Switch::W12])
            .setup(|w| {
                w.alloc(0, 2, Splittable);
                w.more_refs(0, 2, 1);
                w.keep(0, w.must_get(1));
                w.keep(1, w.must_get(3));
                w.keep(2, w.must_get(3));
            })
            .role("split", |w| w.split(0, 2, 0))
            .role("put(3)", |w| w.put_kept(1))
            .finish(|w| {
                let protocol = w.protocol();
                for (page, pins) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
                    let state = protocol.state(Pfn::new(page));
                    if (state.order, state.pins, state.refs) != (Order::PAGE, pins, 2) {
                        violation(format!("page {page} should have pins {pins}, refs 2: {state}"));
                    }
                }
                w.drop_refs(0, 2, 2);
                w.put_kept(0);
                w.put_kept(2);
            }),
    ]
}
