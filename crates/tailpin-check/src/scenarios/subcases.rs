//! Parts of larger scenarios, small enough to be explored without a bound on the one-word protocol:
//! a pin that is only taken, or only given back.

use tailpin::Class::Splittable;
use tailpin::{Pfn, Rearrange};

use super::rearrange::{keep_if_used, merge};
use super::{ONE_WORD, scenario};
use crate::engine::Engine;
use crate::fixture::{Fixture, block, to_order};
use crate::scenario::Scenario;
use crate::tested_protocol::TestedProtocol;
use crate::word::CheckWord;

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    let large = |name, title| Scenario {
        frames: 1024,
        explored: |frame| frame == 0 || frame == 512 || frame == 513,
        ..scenario::<E, F>(name, title, ONE_WORD, &[])
    };
    vec![
        scenario::<E, F>("around-get", "split around a page ‖ get of a far tail", ONE_WORD, &[])
            .setup(|fx| fx.begin_with(2))
            .thread("get(3)", |fx| fx.keep(0, fx.must_get(3)))
            .thread("split around 1", |fx| {
                fx.protocol().split_around(block(0, 2), Pfn::new(1), to_order(0), fx).expect("splittable");
            })
            .finish(|fx| give_back(fx, 2)),
        scenario::<E, F>("merge-get", "merge of two blocks ‖ get of a tail", ONE_WORD, &[])
            .setup(blocks)
            .thread("get(3)", |fx| keep_if_used(fx, 3))
            .thread("merge", |fx| merge(fx, 2))
            .finish(|fx| {
                fx.audit(0, 2);
                give_back(fx, 2);
            }),
        scenario::<E, F>("merge-put-tail", "merge of two blocks ‖ put of a tail", ONE_WORD, &[])
            .setup(|fx| {
                blocks(fx);
                fx.keep(0, fx.must_get(3));
            })
            .thread("put(3)", |fx| fx.put_kept(0))
            .thread("merge", |fx| merge(fx, 2))
            .finish(|fx| {
                fx.audit(0, 2);
                give_back(fx, 2);
            }),
        scenario::<E, F>("reuse-get", "stale get ‖ free, and its frame in another block", ONE_WORD, &[])
            .setup(|fx| fx.begin_with(2))
            .reuses()
            .thread("get(3)", |fx| keep_if_used(fx, 3))
            .thread("drop; allocate order 1", |fx| {
                fx.drop_refs(0, 2, 1);
                fx.try_alloc(2, 1, Splittable);
            })
            .finish(|fx| {
                if fx.has_refs(2) {
                    fx.drop_refs(2, 1, 1);
                }
                fx.put_kept(0);
            }),
        large("large-drop-get", "get of a page ‖ the last reference to the whole goes")
            .setup(|fx| fx.begin_with(10))
            .thread("get(513)", |fx| keep_if_used(fx, 513))
            .thread("drop", |fx| fx.drop_refs(0, 10, 1))
            .finish(|fx| fx.put_kept(0)),
        large("large-drop-put", "put of a page ‖ the last reference to the whole goes")
            .setup(|fx| pinned(fx, 10, 513))
            .thread("put(513)", |fx| fx.put_kept(0))
            .thread("drop", |fx| fx.drop_refs(0, 10, 1)),
    ]
}

/// One block, and a pin on a page of it.
fn pinned<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, order: u8, page: u64) {
    fx.begin_with(order);
    fx.keep(0, fx.must_get(page));
}

fn blocks<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    fx.alloc(0, 1, Splittable);
    fx.alloc(2, 1, Splittable);
}

/// The last reference to the block at frame 0, and whatever pin was kept.
fn give_back<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, order: u8) {
    fx.drop_refs(0, order, 1);
    fx.put_kept(0);
}
