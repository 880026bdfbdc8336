//! Parts of larger scenarios, small enough to be explored without a bound on the one-word protocol:
//! a pin that is only taken, or only given back.

use tailpin::Class::Splittable;
use tailpin::{Pfn, Protocol};

use super::rearrange::{keep_if_used, merge};
use super::{ONE_WORD, plan};
use crate::engine::Engine;
use crate::family::Family;
use crate::plan::Plan;
use crate::word::CheckWord;
use crate::world::{World, block, o};

pub(super) fn plans<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    let large = |name, title| Plan {
        frames: 1024,
        explored: |frame| frame == 0 || frame == 512 || frame == 513,
        ..plan::<E, F>(name, title, ONE_WORD, &[])
    };
    vec![
        plan::<E, F>("around-get", "split around a page ‖ get of a far tail", ONE_WORD, &[])
            .setup(|w| w.begin_with(2))
            .role("get(3)", |w| w.keep(0, w.must_get(3)))
            .role("split around 1", |w| {
                w.protocol().split_around(block(0, 2), Pfn::new(1), o(0), w).expect("splittable");
            })
            .finish(|w| give_back(w, 2)),
        plan::<E, F>("merge-get", "merge of two blocks ‖ get of a tail", ONE_WORD, &[])
            .setup(blocks)
            .role("get(3)", |w| keep_if_used(w, 3))
            .role("merge", |w| merge(w, 2))
            .finish(|w| {
                w.audit(0, 2);
                give_back(w, 2);
            }),
        plan::<E, F>("merge-put-tail", "merge of two blocks ‖ put of a tail", ONE_WORD, &[])
            .setup(|w| {
                blocks(w);
                w.keep(0, w.must_get(3));
            })
            .role("put(3)", |w| w.put_kept(0))
            .role("merge", |w| merge(w, 2))
            .finish(|w| {
                w.audit(0, 2);
                give_back(w, 2);
            }),
        plan::<E, F>("reuse-get", "stale get ‖ free, and its frame in another block", ONE_WORD, &[])
            .setup(|w| w.begin_with(2))
            .reuses()
            .role("get(3)", |w| keep_if_used(w, 3))
            .role("drop; allocate order 1", |w| {
                w.drop_refs(0, 2, 1);
                w.try_alloc(2, 1, Splittable);
            })
            .finish(|w| {
                if w.has_refs(2) {
                    w.drop_refs(2, 1, 1);
                }
                w.put_kept(0);
            }),
        large("large-drop-get", "get of a page ‖ the last reference to the whole goes")
            .setup(|w| w.begin_with(10))
            .role("get(513)", |w| keep_if_used(w, 513))
            .role("drop", |w| w.drop_refs(0, 10, 1))
            .finish(|w| w.put_kept(0)),
        large("large-drop-put", "put of a page ‖ the last reference to the whole goes")
            .setup(|w| pinned(w, 10, 513))
            .role("put(513)", |w| w.put_kept(0))
            .role("drop", |w| w.drop_refs(0, 10, 1)),
    ]
}

/// One block, and a pin on a page of it.
fn pinned<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>, order: u8, page: u64) {
    w.begin_with(order);
    w.keep(0, w.must_get(page));
}

fn blocks<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    w.alloc(0, 1, Splittable);
    w.alloc(2, 1, Splittable);
}

/// The last reference to the block at frame 0, and whatever pin was kept.
fn give_back<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>, order: u8) {
    w.drop_refs(0, order, 1);
    w.put_kept(0);
}
