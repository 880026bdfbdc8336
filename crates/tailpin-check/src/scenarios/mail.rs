//! The races of the mail itself.

use tailpin::Class::Splittable;
use tailpin::{Order, Pfn, Protocol};

use super::{BOTH, ONE_WORD, plan};
use crate::engine::Engine;
use crate::family::Family;
use crate::plan::Plan;
use crate::switches::Switch;
use crate::trace::violation;
use crate::word::CheckWord;
use crate::world::World;

pub(super) fn plans<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    vec![
        plan::<E, F>(
            "I1",
            "put of a tail ‖ split, last references go",
            BOTH,
            &[Switch::H1, Switch::H4, Switch::H4Believed, Switch::H12],
        )
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
        plan::<E, F>(
            "I2-compaction",
            "put of a tail ‖ split, the head's frames isolated one by one and handed out as one block",
            BOTH,
            &[Switch::H2, Switch::H2Stuck],
        )
        .setup(|w| {
            w.alloc(0, 2, Splittable);
            w.keep(0, w.must_get(3));
        })
        .reuses()
        .role("put(T)", |w| w.put_kept(0))
        .role("split; drop; isolate 0, 1; hand out; free", |w| {
            w.split(0, 2, 0);
            w.drop_refs(0, 2, 1);
            // As compaction does: frames are collected in a list of its own, not through the
            // allocator's, and the target of a migration is made of them.
            if w.isolate(0) && w.isolate(1) {
                w.hand_out(0, 1, Splittable);
                w.drop_refs(0, 1, 1);
            }
        })
        .finish(|w| w.unisolate()),
        plan::<E, F>(
            "I3-tail",
            "get of a frame that was a tail ‖ its old head and its new block are handed out",
            BOTH,
            &[Switch::H3Tail],
        )
        .setup(|w| w.begin_with(2))
        .reuses()
        .role("get(3), put", |w| w.get_and_put(3))
        .role("drop; allocate 0; allocate order 1 at 2", |w| {
            w.drop_refs(0, 2, 1);
            if w.try_alloc(0, 0, Splittable) && w.try_alloc(2, 1, Splittable) {
                w.drop_refs(2, 1, 1);
            }
        })
        .finish(|w| {
            if w.has_refs(0) {
                w.drop_refs(0, 0, 1);
            }
        }),
        plan::<E, F>("I3", "head of a frame ‖ it is freed and handed out by itself", BOTH, &[])
            .setup(|w| w.begin_with(1))
            .reuses()
            .role("drop; allocate; drop", |w| {
                w.drop_refs(0, 1, 1);
                if w.try_alloc(1, 0, Splittable) {
                    w.drop_refs(1, 0, 1);
                }
            })
            .role("look-up", |w| {
                look_up(w, 1, &[(0, 1), (1, 0)]);
            }),
        plan::<E, F>("I3-orders", "head of a frame ‖ blocks of different orders over it", ONE_WORD, &[])
            .setup(|w| w.begin_with(2))
            .reuses()
            .role("drop; allocate; drop", |w| {
                w.drop_refs(0, 2, 1);
                if w.try_alloc(2, 1, Splittable) {
                    w.drop_refs(2, 1, 1);
                }
            })
            .role("look-up twice", |w| {
                look_up(w, 3, &[(0, 2), (2, 1)]);
                look_up(w, 3, &[(0, 2), (2, 1)]);
            }),
        plan::<E, F>(
            "I3-used",
            "head of a page in use ‖ its block is split, and the frames before it are freed and used again",
            BOTH,
            &[],
        )
        .classic_to(1)
        .setup(|w| {
            w.alloc(0, 2, Splittable);
            w.keep(0, w.must_get(3));
        })
        .reuses()
        .role("look-up", |w| {
            if look_up(w, 3, &[(0, 2), (2, 1), (3, 0)]).is_none() {
                violation("page 3 is in use, but no head was found".to_owned());
            }
        })
        .role("split to 1; drop; allocate; drop", |w| {
            w.split(0, 2, 1);
            w.drop_refs(0, 2, 1);
            if w.try_alloc(0, 0, Splittable) {
                w.drop_refs(0, 0, 1);
            }
        })
        .finish(|w| w.put_kept(0)),
        plan::<E, F>(
            "I4",
            "get of a tail ‖ split",
            BOTH,
            &[Switch::H13, Switch::H14Barrier, Switch::W1, Switch::W3, Switch::W4, Switch::W9, Switch::W11],
        )
        .setup(|w| w.begin_with(1))
        .role("get(T), put", |w| w.must_get_and_put(1))
        .role("split", |w| w.split(0, 1, 0))
        .finish(|w| w.drop_refs(0, 1, 1)),
        plan::<E, F>(
            "I4-kept",
            "get of a tail ‖ split and drop; the pin stays",
            BOTH,
            &[Switch::H13, Switch::W6],
        )
        .setup(|w| w.begin_with(1))
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

/// The answer must be one that was true at some moment, or none.
fn look_up<E: Engine, F: Family<CheckWord<E>>>(
    w: &World<E, F>,
    frame: u64,
    blocks: &[(u64, u8)],
) -> Option<(u64, u8)> {
    let head = w.protocol().head_of(Pfn::new(frame));
    let told = head.map(|(head, order)| (head.get(), order.get()));
    if told.is_some_and(|told| !blocks.contains(&told)) {
        violation(format!("frame {frame} was said to be in {told:?}, which never was"));
    }
    told
}
