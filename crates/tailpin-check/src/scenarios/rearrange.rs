//! Splits, merges and references against each other and against pins.

use tailpin::Class::{Splittable, Unsplittable};
use tailpin::{Pfn, Protocol};

use super::{BOTH, ONE_WORD, plan};
use crate::engine::Engine;
use crate::family::Family;
use crate::plan::Plan;
use crate::switches::Switch;
use crate::trace::violation;
use crate::word::CheckWord;
use crate::world::{World, block, o};

pub(super) fn plans<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    vec![
        plan::<E, F>("split-split", "two owners split and drop", BOTH, &[Switch::W10])
            .classic_to(1)
            .setup(|w| {
                w.alloc(0, 1, Splittable);
                w.more_refs(0, 1, 1);
            })
            .role("split; drop", split_and_drop)
            .role("split; drop", split_and_drop),
        plan::<E, F>("split-clone", "split ‖ a reference is cloned and dropped", BOTH, &[Switch::W5])
            .setup(|w| {
                w.alloc(0, 1, Splittable);
                w.more_refs(0, 1, 1);
            })
            .role("split", |w| w.split(0, 1, 0))
            .role("clone; drop; drop", |w| {
                w.more_refs(0, 1, 1);
                w.drop_refs(0, 1, 1);
                w.drop_refs(0, 1, 1);
            })
            .finish(|w| w.drop_refs(0, 1, 1)),
        plan::<E, F>(
            "get-many",
            "split ‖ get_many and put_many of three references",
            BOTH,
            &[Switch::W5, Switch::W12],
        )
        .setup(|w| {
            w.alloc(0, 1, Splittable);
            w.more_refs(0, 1, 1);
        })
        .role("split", |w| w.split(0, 1, 0))
        .role("+3; −3", |w| {
            w.more_refs(0, 1, 3);
            w.drop_refs(0, 1, 3);
        })
        .finish(|w| w.drop_refs(0, 1, 2)),
        plan::<E, F>(
            "split-pins",
            "split ‖ first and last pin of a tail, another kept",
            BOTH,
            &[Switch::W11, Switch::W11Value],
        )
        .setup(|w| {
            w.alloc(0, 1, Splittable);
            w.keep(0, w.must_get(1));
        })
        .role("put(T), get(T), put", |w| {
            w.put_kept(0);
            let held = w.must_get(1);
            w.put(held);
        })
        .role("split", |w| w.split(0, 1, 0))
        .finish(|w| w.drop_refs(0, 1, 1)),
        plan::<E, F>("split-head", "split ‖ pins of the head", BOTH, &[Switch::W11])
            .setup(|w| w.begin_with(1))
            .role("get(H), put", |w| w.must_get_and_put(0))
            .role("split", |w| w.split(0, 1, 0))
            .finish(|w| w.drop_refs(0, 1, 1)),
        plan::<E, F>("split-to-1", "split to order 1 ‖ get of a far tail", BOTH, &[Switch::W7, Switch::W8])
            .setup(|w| w.begin_with(2))
            .role("get(3)", |w| w.keep(0, w.must_get(3)))
            .role("split to 1", |w| w.split(0, 2, 1))
            .finish(|w| {
                if (w.audit(0, 1), w.audit(2, 1)) != (0, 1) {
                    violation("page 3 should be the only one with a pin".to_owned());
                }
                w.drop_refs(0, 2, 1);
                w.put_kept(0);
            }),
        plan::<E, F>(
            "split-two-steps",
            "split to 1, then the far half to pages ‖ get of its tail",
            BOTH,
            &[Switch::W2],
        )
        .classic_to(1)
        .setup(|w| w.begin_with(2))
        .role("get(3)", |w| w.keep(0, w.must_get(3)))
        .role("split to 1, 2 to 0", |w| {
            w.split(0, 2, 1);
            w.split(2, 1, 0);
        })
        .finish(|w| {
            w.drop_refs(0, 2, 1);
            w.put_kept(0);
        }),
        // Who helps may come late, when the head is being split once more.
        plan::<E, F>(
            "split-helped",
            "split to 1, then to pages ‖ split to 1; a tail has recorded its order",
            ONE_WORD,
            &[],
        )
        .setup(|w| {
            w.begin_with(2);
            w.more_refs(0, 2, 1);
            w.must_get_and_put(3);
        })
        .role("split to 1, to 0", |w| {
            w.split(0, 2, 1);
            w.split(0, 1, 0);
        })
        .role("split to 1", |w| w.split(0, 2, 1))
        .finish(|w| w.drop_refs(0, 2, 2)),
        Plan {
            frames: 8,
            ..plan::<E, F>("split-helped-clean", "split to 2, then to 1 ‖ split to 2", ONE_WORD, &[])
        }
        .setup(|w| {
            w.begin_with(3);
            w.more_refs(0, 3, 1);
        })
        .role("split to 2, to 1", |w| {
            w.split(0, 3, 2);
            w.split(0, 2, 1);
        })
        .role("split to 2", |w| w.split(0, 3, 2))
        .finish(|w| {
            for head in [0, 2] {
                w.audit(head, 1);
            }
            w.drop_refs(0, 3, 2);
        }),
        plan::<E, F>("split-used", "get and put of a far tail ‖ split to order 1", ONE_WORD, &[Switch::W14])
            .setup(|w| w.begin_with(2))
            .role("get(3), put", |w| w.must_get_and_put(3))
            .role("split to 1", |w| w.split(0, 2, 1))
            .finish(audit_halves),
        plan::<E, F>(
            "split-marks",
            "get and put of a near tail ‖ split to order 1",
            ONE_WORD,
            &[Switch::W15],
        )
        .setup(|w| w.begin_with(2))
        .role("get(1), put", |w| w.must_get_and_put(1))
        .role("split to 1", |w| w.split(0, 2, 1))
        .finish(audit_halves),
        // A pin of the piece itself, which leaves no mark, meets the mark that the split leaves.
        Plan {
            preemptions: 3,
            ..plan::<E, F>(
                "split-marks-late",
                "get of a near tail, then of a piece ‖ split to order 1",
                ONE_WORD,
                &[],
            )
        }
        .setup(|w| w.begin_with(2))
        .role("get(1), get(2)", |w| {
            w.keep(0, w.must_get(1));
            w.keep(1, w.must_get(2));
        })
        .role("split to 1", |w| w.split(0, 2, 1))
        .finish(|w| {
            if (w.audit(0, 1), w.audit(2, 1)) != (1, 1) {
                violation("pages 1 and 2 should be pinned".to_owned());
            }
            w.drop_refs(0, 2, 1);
            w.put_kept(0);
            w.put_kept(1);
        }),
        plan::<E, F>(
            "split-reused",
            "split to order 1 of frames with a past ‖ get",
            ONE_WORD,
            &[Switch::W16],
        )
        .setup(|w| {
            w.alloc(0, 2, Splittable);
            w.split(0, 2, 0);
            w.drop_refs(0, 2, 1);
            w.alloc(0, 2, Splittable);
        })
        .role("get(3), put", |w| w.must_get_and_put(3))
        .role("split to 1", |w| w.split(0, 2, 1))
        .finish(audit_halves),
        plan::<E, F>("split-around", "split around a page ‖ pin on a far tail", ONE_WORD, &[Switch::W7])
            .setup(|w| w.begin_with(2))
            .role("get(3), put", |w| w.must_get_and_put(3))
            .role("split around 1", |w| {
                w.protocol().split_around(block(0, 2), Pfn::new(1), o(0), w).expect("splittable");
            })
            .finish(|w| w.drop_refs(0, 2, 1)),
        plan::<E, F>("merge-pin", "merge of pages ‖ first and last pin of one", ONE_WORD, &[])
            .setup(pages)
            .role("get(1), put", |w| w.get_and_put(1))
            .role("merge", |w| merge(w, 1))
            .finish(|w| w.drop_refs(0, 1, 1)),
        plan::<E, F>("merge-put", "merge of pages ‖ the last pin of one goes", ONE_WORD, &[])
            .setup(|w| {
                pages(w);
                w.keep(0, w.must_get(1));
            })
            .role("put(1)", |w| w.put_kept(0))
            .role("merge", |w| merge(w, 1))
            .finish(|w| w.drop_refs(0, 1, 1)),
        plan::<E, F>(
            "merge-held",
            "merge of two blocks, one of them pinned ‖ get of its tail",
            ONE_WORD,
            &[],
        )
        .setup(|w| {
            w.alloc(0, 1, Splittable);
            w.alloc(2, 1, Splittable);
            w.keep(0, w.must_get(2));
        })
        .role("get(3)", |w| {
            if let Ok(held) = w.try_get(3) {
                w.keep(1, held);
            }
        })
        .role("merge", |w| merge(w, 2))
        .finish(|w| {
            w.audit(0, 2);
            w.drop_refs(0, 2, 1);
            w.put_kept(0);
            w.put_kept(1);
        }),
        plan::<E, F>(
            "merge-blocks",
            "merge of two blocks ‖ get of a tail",
            ONE_WORD,
            &[Switch::W13, Switch::W7],
        )
        .setup(|w| {
            w.alloc(0, 1, Splittable);
            w.alloc(2, 1, Splittable);
        })
        .role("get(3), put", |w| w.get_and_put(3))
        .role("merge", |w| merge(w, 2))
        .finish(|w| {
            w.audit(0, 2);
            w.drop_refs(0, 2, 1);
        }),
        plan::<E, F>("merge-first", "merge of two blocks ‖ get of a tail of the first", ONE_WORD, &[])
            .setup(|w| {
                w.alloc(0, 1, Splittable);
                w.alloc(2, 1, Splittable);
            })
            .role("get(1)", |w| keep_if_used(w, 1))
            .role("merge", |w| merge(w, 2))
            .finish(|w| {
                w.audit(0, 2);
                w.drop_refs(0, 2, 1);
                w.put_kept(0);
            }),
        Plan {
            frames: 8,
            ..plan::<E, F>(
                "merge-recorded",
                "merge of two blocks ‖ get of a tail at rest beside one that has recorded its order",
                ONE_WORD,
                &[],
            )
        }
        .setup(|w| {
            w.alloc(0, 2, Splittable);
            w.alloc(4, 2, Splittable);
            w.must_get_and_put(5);
        })
        .role("get(6)", |w| keep_if_used(w, 6))
        .role("merge", |w| merge(w, 3))
        .finish(|w| {
            w.audit(0, 3);
            w.drop_refs(0, 3, 1);
            w.put_kept(0);
        }),
        plan::<E, F>(
            "self-split",
            "last reference goes ‖ put of a tail ‖ get of another",
            BOTH,
            &[Switch::W6],
        )
        .classic_to(1)
        .setup(|w| {
            w.alloc(0, 1, Splittable);
            w.keep(0, w.must_get(1));
        })
        .role("drop", |w| w.drop_refs(0, 1, 1))
        .role("put(1)", |w| w.put_kept(0))
        .role("get(0)", |w| {
            if let Ok(held) = w.try_get(0) {
                w.keep(1, held);
            }
        })
        .finish(|w| w.put_kept(1)),
        plan::<E, F>(
            "self-split-put",
            "last reference goes ‖ the first page's pin goes",
            BOTH,
            &[Switch::W18],
        )
        .setup(|w| {
            w.alloc(0, 1, Splittable);
            w.keep(0, w.must_get(0));
        })
        .role("drop", |w| w.drop_refs(0, 1, 1))
        .role("put(0)", |w| w.put_kept(0)),
        plan::<E, F>(
            "self-split-get",
            "last reference goes ‖ get of a tail",
            BOTH,
            &[Switch::W1, Switch::W3],
        )
        .setup(|w| w.begin_with(1))
        .role("drop", |w| w.drop_refs(0, 1, 1))
        .role("get(1), put", |w| w.get_and_put(1)),
        plan::<E, F>(
            "unsplittable",
            "last reference to an unsplittable block ‖ pins of its tails",
            BOTH,
            &[],
        )
        .setup(|w| {
            w.alloc(0, 1, Unsplittable);
        })
        .role("get(1), put", |w| w.get_and_put(1))
        .role("drop", |w| w.drop_refs(0, 1, 1)),
        plan::<E, F>(
            "reuse",
            "stale get ‖ free, and the frames in a block of another order",
            BOTH,
            &[Switch::W1],
        )
        .setup(|w| w.begin_with(2))
        .reuses()
        .role("get(3), put", |w| w.get_and_put(3))
        .role("drop; allocate order 1; drop", |w| {
            w.drop_refs(0, 2, 1);
            if w.try_alloc(2, 1, Splittable) {
                w.drop_refs(2, 1, 1);
            }
        }),
    ]
}

fn split_and_drop<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    w.split(0, 1, 0);
    w.drop_refs(0, 1, 1);
}

fn audit_halves<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    if (w.audit(0, 1), w.audit(2, 1)) != (0, 0) {
        violation("no page should be pinned".to_owned());
    }
    w.drop_refs(0, 2, 1);
}

/// A pin for later, if the page is in use.
pub(super) fn keep_if_used<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>, page: u64) {
    if let Ok(held) = w.try_get(page) {
        w.keep(0, held);
    }
}

fn pages<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    w.alloc(0, 0, Splittable);
    w.alloc(1, 0, Splittable);
}

pub(super) fn merge<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>, order: u8) {
    if let Err(error) = w.protocol().merge(Pfn::new(0), o(order), w) {
        violation(format!("the pieces are the caller's alone, but: {error}"));
    }
}
