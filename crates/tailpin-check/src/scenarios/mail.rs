//! The races of the mail itself.

use tailpin::Class::Splittable;
use tailpin::{FrameWords, Order, Pfn};

use super::{BOTH, ONE_WORD, scenario};
use crate::engine::Engine;
use crate::fixture::Fixture;
use crate::safeguards::Safeguard;
use crate::scenario::Scenario;
use crate::tested_protocol::TestedProtocol;
use crate::trace::violation;
use crate::word::CheckWord;

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    vec![
        scenario::<E, F>(
            "I1",
            "put of a tail ‖ split, last references go",
            BOTH,
            &[Safeguard::H1, Safeguard::H4, Safeguard::H4Believed, Safeguard::H12],
        )
        .setup(|fx| {
            fx.alloc(0, 1, Splittable);
            fx.keep(0, fx.must_get(1));
        })
        .thread("put(T)", |fx| fx.put_kept(0))
        .thread("split; drop", |fx| {
            fx.split(0, 1, 0);
            fx.drop_refs(0, 1, 1);
        }),
        scenario::<E, F>(
            "I2",
            "put of a tail ‖ split, head freed and handed out in a smaller block",
            BOTH,
            &[Safeguard::H2, Safeguard::H2Stuck],
        )
        .setup(|fx| {
            fx.alloc(0, 2, Splittable);
            fx.keep(0, fx.must_get(3));
        })
        .reuses()
        .thread("put(T)", |fx| fx.put_kept(0))
        .thread("split; drop; allocate order 1; free", |fx| {
            fx.split(0, 2, 0);
            fx.drop_refs(0, 2, 1);
            if fx.try_alloc(0, 1, Splittable) {
                fx.drop_refs(0, 1, 1);
            }
        }),
        scenario::<E, F>(
            "I2-compaction",
            "put of a tail ‖ split, the head's frames isolated one by one and handed out as one block",
            BOTH,
            &[Safeguard::H2, Safeguard::H2Stuck],
        )
        .setup(|fx| {
            fx.alloc(0, 2, Splittable);
            fx.keep(0, fx.must_get(3));
        })
        .reuses()
        .thread("put(T)", |fx| fx.put_kept(0))
        .thread("split; drop; isolate 0, 1; hand out; free", |fx| {
            fx.split(0, 2, 0);
            fx.drop_refs(0, 2, 1);
            // As compaction does: frames are collected in a list of its own, not through the
            // allocator's, and the target of a migration is made of them.
            if fx.isolate(0) && fx.isolate(1) {
                fx.hand_out(0, 1, Splittable);
                fx.drop_refs(0, 1, 1);
            }
        })
        .finish(|fx| fx.unisolate()),
        scenario::<E, F>(
            "I3-tail",
            "get of a frame that was a tail ‖ its old head and its new block are handed out",
            BOTH,
            &[Safeguard::H3Tail],
        )
        .setup(|fx| fx.begin_with(2))
        .reuses()
        .thread("get(3), put", |fx| fx.get_and_put(3))
        .thread("drop; allocate 0; allocate order 1 at 2", |fx| {
            fx.drop_refs(0, 2, 1);
            if fx.try_alloc(0, 0, Splittable) && fx.try_alloc(2, 1, Splittable) {
                fx.drop_refs(2, 1, 1);
            }
        })
        .finish(|fx| {
            if fx.has_refs(0) {
                fx.drop_refs(0, 0, 1);
            }
        }),
        scenario::<E, F>("I3", "head of a frame ‖ it is freed and handed out as a page", BOTH, &[])
            .setup(|fx| fx.begin_with(1))
            .reuses()
            .thread("drop; allocate; drop", |fx| {
                fx.drop_refs(0, 1, 1);
                if fx.try_alloc(1, 0, Splittable) {
                    fx.drop_refs(1, 0, 1);
                }
            })
            .thread("look-up", |fx| {
                look_up(fx, 1, &[(0, 1), (1, 0)]);
            }),
        scenario::<E, F>("I3-orders", "head of a frame ‖ blocks of different orders over it", ONE_WORD, &[])
            .setup(|fx| fx.begin_with(2))
            .reuses()
            .thread("drop; allocate; drop", |fx| {
                fx.drop_refs(0, 2, 1);
                if fx.try_alloc(2, 1, Splittable) {
                    fx.drop_refs(2, 1, 1);
                }
            })
            .thread("look-up twice", |fx| {
                look_up(fx, 3, &[(0, 2), (2, 1)]);
                look_up(fx, 3, &[(0, 2), (2, 1)]);
            }),
        scenario::<E, F>(
            "I3-used",
            "head of a page in use ‖ its block is split, and the frames before it are freed and used again",
            BOTH,
            &[],
        )
        .classic_to(1)
        .setup(|fx| {
            fx.alloc(0, 2, Splittable);
            fx.keep(0, fx.must_get(3));
        })
        .reuses()
        .thread("look-up", |fx| {
            if look_up(fx, 3, &[(0, 2), (2, 1), (3, 0)]).is_none() {
                violation("page 3 is in use, but no head was found".to_owned());
            }
        })
        .thread("split to 1; drop; allocate; drop", |fx| {
            fx.split(0, 2, 1);
            fx.drop_refs(0, 2, 1);
            if fx.try_alloc(0, 0, Splittable) {
                fx.drop_refs(0, 0, 1);
            }
        })
        .finish(|fx| fx.put_kept(0)),
        scenario::<E, F>(
            "I4",
            "get of a tail ‖ split",
            BOTH,
            &[
                Safeguard::H13,
                Safeguard::H14Barrier,
                Safeguard::W1,
                Safeguard::W3,
                Safeguard::W4,
                Safeguard::W9,
                Safeguard::W11,
            ],
        )
        .setup(|fx| fx.begin_with(1))
        .thread("get(T), put", |fx| fx.must_get_and_put(1))
        .thread("split", |fx| fx.split(0, 1, 0))
        .finish(|fx| fx.drop_refs(0, 1, 1)),
        scenario::<E, F>(
            "I4-kept",
            "get of a tail ‖ split and drop; the pin stays",
            BOTH,
            &[Safeguard::H13, Safeguard::W6],
        )
        .setup(|fx| fx.begin_with(1))
        .thread("get(T)", |fx| {
            if let Ok(held) = fx.try_get(1) {
                fx.keep(0, held);
            }
        })
        .thread("split; drop", |fx| {
            fx.split(0, 1, 0);
            fx.drop_refs(0, 1, 1);
        })
        .finish(|fx| fx.put_kept(0)),
        scenario::<E, F>(
            "I5",
            "split of a block with references and pins",
            BOTH,
            &[Safeguard::W6, Safeguard::W12],
        )
        .setup(|fx| {
            fx.alloc(0, 2, Splittable);
            fx.more_refs(0, 2, 1);
            fx.keep(0, fx.must_get(1));
            fx.keep(1, fx.must_get(3));
            fx.keep(2, fx.must_get(3));
        })
        .thread("split", |fx| fx.split(0, 2, 0))
        .thread("put(3)", |fx| fx.put_kept(1))
        .finish(|fx| {
            let protocol = fx.protocol();
            for (page, pins) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
                let state = protocol.state(Pfn::new(page));
                if (state.order, state.pins, state.refs) != (Order::PAGE, pins, 2) {
                    violation(format!("page {page} should have pins {pins}, refs 2: {state}"));
                }
            }
            fx.drop_refs(0, 2, 2);
            fx.put_kept(0);
            fx.put_kept(2);
        }),
    ]
}

/// The answer must be one that was true at some moment, or none.
fn look_up<E: Engine, F: TestedProtocol<CheckWord<E>>>(
    fx: &Fixture<E, F>,
    frame: u64,
    blocks: &[(u64, u8)],
) -> Option<(u64, u8)> {
    let head = fx.protocol().head_of(Pfn::new(frame));
    let told = head.map(|(head, order)| (head.get(), order.get()));
    if told.is_some_and(|told| !blocks.contains(&told)) {
        violation(format!("frame {frame} was said to be in {told:?}, which never was"));
    }
    told
}
