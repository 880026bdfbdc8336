//! Splits, merges and references against each other and against pins.

use tailpin::Class::{Splittable, Unsplittable};
use tailpin::{Checked, FrameWords, MergeError, Pfn, RawBlock, Rearrange};

use super::{BOTH, ONE_WORD, scenario};
use crate::engine::Engine;
use crate::fixture::{Fixture, block, to_order};
use crate::safeguards::Safeguard;
use crate::scenario::Scenario;
use crate::tested_protocol::TestedProtocol;
use crate::trace::violation;
use crate::word::CheckWord;

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    vec![
        scenario::<E, F>("split-split", "two owners split and drop", BOTH, &[Safeguard::W10])
            .classic_to(1)
            .setup(|fx| {
                fx.alloc(0, 1, Splittable);
                fx.more_refs(0, 1, 1);
            })
            .thread("split; drop", split_and_drop)
            .thread("split; drop", split_and_drop),
        scenario::<E, F>("split-clone", "split ‖ a reference is cloned and dropped", BOTH, &[Safeguard::W5])
            .setup(|fx| {
                fx.alloc(0, 1, Splittable);
                fx.more_refs(0, 1, 1);
            })
            .thread("split", |fx| fx.split(0, 1, 0))
            .thread("clone; drop; drop", |fx| {
                fx.more_refs(0, 1, 1);
                fx.drop_refs(0, 1, 1);
                fx.drop_refs(0, 1, 1);
            })
            .finish(|fx| fx.drop_refs(0, 1, 1)),
        scenario::<E, F>(
            "get-many",
            "split ‖ get_many and put_many of three references",
            BOTH,
            &[Safeguard::W5, Safeguard::W12],
        )
        .setup(|fx| {
            fx.alloc(0, 1, Splittable);
            fx.more_refs(0, 1, 1);
        })
        .thread("split", |fx| fx.split(0, 1, 0))
        .thread("+3; −3", |fx| {
            fx.more_refs(0, 1, 3);
            fx.drop_refs(0, 1, 3);
        })
        .finish(|fx| fx.drop_refs(0, 1, 2)),
        scenario::<E, F>(
            "split-pins",
            "split ‖ first and last pin of a tail, another kept",
            BOTH,
            &[Safeguard::W11, Safeguard::W11Value],
        )
        .setup(|fx| {
            fx.alloc(0, 1, Splittable);
            fx.keep(0, fx.must_get(1));
        })
        .thread("put(T), get(T), put", |fx| {
            fx.put_kept(0);
            let held = fx.must_get(1);
            fx.put(held);
        })
        .thread("split", |fx| fx.split(0, 1, 0))
        .finish(|fx| fx.drop_refs(0, 1, 1)),
        scenario::<E, F>("split-head", "split ‖ pins of the head", BOTH, &[Safeguard::W11])
            .setup(|fx| fx.begin_with(1))
            .thread("get(H), put", |fx| fx.must_get_and_put(0))
            .thread("split", |fx| fx.split(0, 1, 0))
            .finish(|fx| fx.drop_refs(0, 1, 1)),
        scenario::<E, F>(
            "split-to-1",
            "split to order 1 ‖ get of a far tail",
            BOTH,
            &[Safeguard::W7, Safeguard::W8],
        )
        .setup(|fx| fx.begin_with(2))
        .thread("get(3)", |fx| fx.keep(0, fx.must_get(3)))
        .thread("split to 1", |fx| fx.split(0, 2, 1))
        .finish(|fx| {
            if (fx.audit(0, 1), fx.audit(2, 1)) != (0, 1) {
                violation("page 3 should be the only one with a pin".to_owned());
            }
            fx.drop_refs(0, 2, 1);
            fx.put_kept(0);
        }),
        scenario::<E, F>(
            "split-two-steps",
            "split to 1, then the far half to pages ‖ get of its tail",
            BOTH,
            &[Safeguard::W2],
        )
        .classic_to(1)
        .setup(|fx| fx.begin_with(2))
        .thread("get(3)", |fx| fx.keep(0, fx.must_get(3)))
        .thread("split to 1, 2 to 0", |fx| {
            fx.split(0, 2, 1);
            fx.split(2, 1, 0);
        })
        .finish(|fx| {
            fx.drop_refs(0, 2, 1);
            fx.put_kept(0);
        }),
        // Who helps may come late, when the head is being split once more.
        scenario::<E, F>(
            "split-helped",
            "split to 1, then to pages ‖ split to 1; a tail is explicit",
            ONE_WORD,
            &[],
        )
        .setup(|fx| {
            fx.begin_with(2);
            fx.more_refs(0, 2, 1);
            fx.must_get_and_put(3);
        })
        .thread("split to 1, to 0", |fx| {
            fx.split(0, 2, 1);
            fx.split(0, 1, 0);
        })
        .thread("split to 1", |fx| fx.split(0, 2, 1))
        .finish(|fx| fx.drop_refs(0, 2, 2)),
        Scenario {
            frames: 8,
            ..scenario::<E, F>("split-helped-clean", "split to 2, then to 1 ‖ split to 2", ONE_WORD, &[])
        }
        .setup(|fx| {
            fx.begin_with(3);
            fx.more_refs(0, 3, 1);
        })
        .thread("split to 2, to 1", |fx| {
            fx.split(0, 3, 2);
            fx.split(0, 2, 1);
        })
        .thread("split to 2", |fx| fx.split(0, 3, 2))
        .finish(|fx| {
            for head in [0, 2] {
                fx.audit(head, 1);
            }
            fx.drop_refs(0, 3, 2);
        }),
        scenario::<E, F>(
            "split-used",
            "get and put of a far tail ‖ split to order 1",
            ONE_WORD,
            &[Safeguard::W14],
        )
        .setup(|fx| fx.begin_with(2))
        .thread("get(3), put", |fx| fx.must_get_and_put(3))
        .thread("split to 1", |fx| fx.split(0, 2, 1))
        .finish(audit_halves),
        scenario::<E, F>(
            "split-marks",
            "get and put of a near tail ‖ split to order 1",
            ONE_WORD,
            &[Safeguard::W15],
        )
        .setup(|fx| fx.begin_with(2))
        .thread("get(1), put", |fx| fx.must_get_and_put(1))
        .thread("split to 1", |fx| fx.split(0, 2, 1))
        .finish(audit_halves),
        // A pin of the piece itself, which leaves no mark, meets the mark that the split leaves.
        Scenario {
            preemptions: 3,
            ..scenario::<E, F>(
                "split-marks-late",
                "get of a near tail, then of a piece ‖ split to order 1",
                ONE_WORD,
                &[],
            )
        }
        .setup(|fx| fx.begin_with(2))
        .thread("get(1), get(2)", |fx| {
            fx.keep(0, fx.must_get(1));
            fx.keep(1, fx.must_get(2));
        })
        .thread("split to 1", |fx| fx.split(0, 2, 1))
        .finish(|fx| {
            if (fx.audit(0, 1), fx.audit(2, 1)) != (1, 1) {
                violation("pages 1 and 2 should be pinned".to_owned());
            }
            fx.drop_refs(0, 2, 1);
            fx.put_kept(0);
            fx.put_kept(1);
        }),
        scenario::<E, F>(
            "split-reused",
            "split to order 1 of frames with a past ‖ get",
            ONE_WORD,
            &[Safeguard::W16],
        )
        .setup(|fx| {
            fx.alloc(0, 2, Splittable);
            fx.split(0, 2, 0);
            fx.drop_refs(0, 2, 1);
            fx.alloc(0, 2, Splittable);
        })
        .thread("get(3), put", |fx| fx.must_get_and_put(3))
        .thread("split to 1", |fx| fx.split(0, 2, 1))
        .finish(audit_halves),
        scenario::<E, F>(
            "split-around",
            "split around a page ‖ pin on a far tail",
            ONE_WORD,
            &[Safeguard::W7],
        )
        .setup(|fx| fx.begin_with(2))
        .thread("get(3), put", |fx| fx.must_get_and_put(3))
        .thread("split around 1", |fx| {
            fx.protocol().split_around(block(0, 2), Pfn::new(1), to_order(0), fx).expect("splittable");
        })
        .finish(|fx| fx.drop_refs(0, 2, 1)),
        scenario::<E, F>("merge-pin", "merge of pages ‖ first and last pin of one", ONE_WORD, &[])
            .setup(pages)
            .thread("get(1), put", |fx| fx.get_and_put(1))
            .thread("merge", |fx| merge(fx, 1))
            .finish(|fx| fx.drop_refs(0, 1, 1)),
        scenario::<E, F>("merge-put", "merge of pages ‖ the last pin of one goes", ONE_WORD, &[])
            .setup(|fx| {
                pages(fx);
                fx.keep(0, fx.must_get(1));
            })
            .thread("put(1)", |fx| fx.put_kept(0))
            .thread("merge", |fx| merge(fx, 1))
            .finish(|fx| fx.drop_refs(0, 1, 1)),
        // Two threads use one reference, which no handle allows: the second step is refused, or
        // comes after the first.
        scenario::<E, F>("raw-merge-split", "raw merge ‖ raw split, by one reference", ONE_WORD, &[])
            .setup(pages)
            .thread("merge", raw_merge)
            .thread("split", |fx| {
                let _ = fx.protocol().raw_split(token(fx, 0, 1), to_order(0), fx);
            })
            .finish(|fx| fx.drop_refs(0, 1, 1)),
        scenario::<E, F>("raw-merge-get", "raw merge ‖ raw get of a page, by one reference", ONE_WORD, &[])
            .setup(pages)
            .thread("merge", raw_merge)
            .thread("get(1)", |fx| {
                if fx.protocol().raw_get_block(token(fx, 1, 0), 1, fx).is_ok() {
                    fx.count_ref(1);
                }
            })
            .finish(|fx| {
                // The merge is refused where the reference came first.
                if fx.protocol().state(Pfn::new(1)).refs == 2 {
                    fx.drop_refs(1, 0, 1);
                }
                fx.drop_refs(0, 1, 1);
            }),
        scenario::<E, F>("raw-merge-pin", "raw merge ‖ first and last pin of a page", ONE_WORD, &[])
            .setup(pages)
            .thread("merge", raw_merge)
            .thread("get(1), put", |fx| fx.get_and_put(1))
            .finish(|fx| fx.drop_refs(0, 1, 1)),
        scenario::<E, F>("raw-put-head", "raw put on a head ‖ a pin moves from tail to tail", ONE_WORD, &[])
            .setup(|fx| {
                fx.alloc(0, 2, Splittable);
                fx.keep(0, fx.must_get(0));
                fx.keep(1, fx.must_get(1));
            })
            .thread("raw put(0)", |fx| fx.raw_put_kept(0))
            .thread("put(1), get(2)", |fx| {
                fx.put_kept(1);
                fx.keep(2, fx.must_get(2));
            })
            .finish(|fx| {
                fx.audit(0, 2);
                fx.put_kept(2);
                fx.drop_refs(0, 2, 1);
            }),
        scenario::<E, F>("raw-put-piece", "raw put on the head of a piece ‖ split", ONE_WORD, &[])
            .setup(|fx| {
                fx.alloc(0, 2, Splittable);
                fx.keep(0, fx.must_get(2));
                fx.keep(1, fx.must_get(3));
            })
            .thread("raw put(2)", |fx| fx.raw_put_kept(0))
            .thread("split", |fx| fx.split(0, 2, 1))
            .finish(|fx| {
                fx.put_kept(1);
                fx.audit(0, 1);
                fx.audit(2, 1);
                fx.drop_refs(0, 1, 1);
                fx.drop_refs(2, 1, 1);
            }),
        scenario::<E, F>(
            "merge-held",
            "merge of two blocks, one of them pinned ‖ get of its tail",
            ONE_WORD,
            &[],
        )
        .setup(|fx| {
            fx.alloc(0, 1, Splittable);
            fx.alloc(2, 1, Splittable);
            fx.keep(0, fx.must_get(2));
        })
        .thread("get(3)", |fx| {
            if let Ok(held) = fx.try_get(3) {
                fx.keep(1, held);
            }
        })
        .thread("merge", |fx| merge(fx, 2))
        .finish(|fx| {
            fx.audit(0, 2);
            fx.drop_refs(0, 2, 1);
            fx.put_kept(0);
            fx.put_kept(1);
        }),
        scenario::<E, F>(
            "merge-blocks",
            "merge of two blocks ‖ get of a tail",
            ONE_WORD,
            &[Safeguard::W13, Safeguard::W7],
        )
        .setup(|fx| {
            fx.alloc(0, 1, Splittable);
            fx.alloc(2, 1, Splittable);
        })
        .thread("get(3), put", |fx| fx.get_and_put(3))
        .thread("merge", |fx| merge(fx, 2))
        .finish(|fx| {
            fx.audit(0, 2);
            fx.drop_refs(0, 2, 1);
        }),
        scenario::<E, F>("merge-first", "merge of two blocks ‖ get of a tail of the first", ONE_WORD, &[])
            .setup(|fx| {
                fx.alloc(0, 1, Splittable);
                fx.alloc(2, 1, Splittable);
            })
            .thread("get(1)", |fx| keep_if_used(fx, 1))
            .thread("merge", |fx| merge(fx, 2))
            .finish(|fx| {
                fx.audit(0, 2);
                fx.drop_refs(0, 2, 1);
                fx.put_kept(0);
            }),
        Scenario {
            frames: 8,
            ..scenario::<E, F>(
                "merge-recorded",
                "merge of two blocks ‖ get of an implicit tail beside an explicit one",
                ONE_WORD,
                &[],
            )
        }
        .setup(|fx| {
            fx.alloc(0, 2, Splittable);
            fx.alloc(4, 2, Splittable);
            fx.must_get_and_put(5);
        })
        .thread("get(6)", |fx| keep_if_used(fx, 6))
        .thread("merge", |fx| merge(fx, 3))
        .finish(|fx| {
            fx.audit(0, 3);
            fx.drop_refs(0, 3, 1);
            fx.put_kept(0);
        }),
        scenario::<E, F>(
            "merge-find",
            "merge of pages ‖ one of them is found by its number and given back",
            ONE_WORD,
            &[Safeguard::W19],
        )
        .setup(pages)
        .thread("try_block(1); drop", |fx| find_and_drop(fx, 1))
        .thread("merge", |fx| merge_if_alone(fx, 1))
        .finish(|fx| fx.drop_refs(0, 1, 1)),
        scenario::<E, F>(
            "merge-find-first",
            "merge of a block and pages ‖ get of its tail ‖ a page is found by its number",
            ONE_WORD,
            &[Safeguard::W19],
        )
        .setup(|fx| {
            fx.alloc(0, 1, Splittable);
            fx.alloc(2, 0, Splittable);
            fx.alloc(3, 0, Splittable);
        })
        .thread("get(1)", |fx| keep_if_used(fx, 1))
        .thread("try_block(3); drop", |fx| find_and_drop(fx, 3))
        .thread("merge", |fx| merge_if_alone(fx, 2))
        .finish(|fx| {
            fx.drop_refs(0, 2, 1);
            fx.put_kept(0);
        }),
        // A tail of a later piece is pinned as a tail of the whole, which is then undone.
        scenario::<E, F>(
            "merge-find-last",
            "merge of pages and a block ‖ get of its tail ‖ a page is found by its number",
            ONE_WORD,
            &[Safeguard::W19],
        )
        .setup(|fx| {
            pages(fx);
            fx.alloc(2, 1, Splittable);
        })
        .thread("get(3)", |fx| keep_if_used(fx, 3))
        .thread("try_block(1); drop", |fx| find_and_drop(fx, 1))
        .thread("merge", |fx| merge_if_alone(fx, 2))
        .finish(|fx| {
            fx.drop_refs(0, 2, 1);
            fx.put_kept(0);
        }),
        scenario::<E, F>(
            "merge-find-block",
            "merge of two blocks ‖ get of a tail ‖ its block is found by its number",
            ONE_WORD,
            &[],
        )
        .setup(|fx| {
            fx.alloc(0, 1, Splittable);
            fx.alloc(2, 1, Splittable);
        })
        .thread("get(3)", |fx| keep_if_used(fx, 3))
        .thread("try_block(2); drop", |fx| {
            if fx.find_block(2, 1) {
                fx.drop_refs(2, 1, 1);
            }
        })
        .thread("merge", |fx| merge_if_alone(fx, 2))
        .finish(|fx| {
            fx.drop_refs(0, 2, 1);
            fx.put_kept(0);
        }),
        scenario::<E, F>(
            "self-split",
            "last reference goes ‖ put of a tail ‖ get of another",
            BOTH,
            &[Safeguard::W6],
        )
        .classic_to(1)
        .setup(|fx| {
            fx.alloc(0, 1, Splittable);
            fx.keep(0, fx.must_get(1));
        })
        .thread("drop", |fx| fx.drop_refs(0, 1, 1))
        .thread("put(1)", |fx| fx.put_kept(0))
        .thread("get(0)", |fx| {
            if let Ok(held) = fx.try_get(0) {
                fx.keep(1, held);
            }
        })
        .finish(|fx| fx.put_kept(1)),
        scenario::<E, F>(
            "self-split-put",
            "last reference goes ‖ the first page's pin goes",
            BOTH,
            &[Safeguard::W18],
        )
        .setup(|fx| {
            fx.alloc(0, 1, Splittable);
            fx.keep(0, fx.must_get(0));
        })
        .thread("drop", |fx| fx.drop_refs(0, 1, 1))
        .thread("put(0)", |fx| fx.put_kept(0)),
        scenario::<E, F>(
            "self-split-get",
            "last reference goes ‖ get of a tail",
            BOTH,
            &[Safeguard::W1, Safeguard::W3, Safeguard::W20],
        )
        .setup(|fx| fx.begin_with(1))
        .thread("drop", |fx| fx.drop_refs(0, 1, 1))
        .thread("get(1), put", |fx| fx.get_and_put(1)),
        scenario::<E, F>(
            "self-split-tails",
            "last reference goes while a tail is pinned ‖ get of another ‖ the pin goes",
            ONE_WORD,
            &[Safeguard::W20],
        )
        .setup(with_pinned_tail)
        .thread("drop", |fx| fx.drop_refs(0, 2, 1))
        .thread("get(3), put", |fx| fx.get_and_put(3))
        .thread("put(1)", |fx| fx.put_kept(0)),
        // What was free in one step is handed out while a thread may still be about to pin it.
        scenario::<E, F>(
            "self-split-reuse",
            "last reference goes while a tail is pinned, and others are handed out ‖ get of one of these",
            ONE_WORD,
            &[Safeguard::W1, Safeguard::W20],
        )
        .setup(with_pinned_tail)
        .reuses()
        .thread("get(3), put", |fx| fx.get_and_put(3))
        .thread("drop; allocate order 1; drop", drop_and_reuse)
        .finish(|fx| fx.put_kept(0)),
        scenario::<E, F>(
            "unsplittable",
            "last reference to an unsplittable block ‖ pins of its tails",
            BOTH,
            &[],
        )
        .setup(|fx| {
            fx.alloc(0, 1, Unsplittable);
        })
        .thread("get(1), put", |fx| fx.get_and_put(1))
        .thread("drop", |fx| fx.drop_refs(0, 1, 1)),
        scenario::<E, F>(
            "reuse",
            "stale get ‖ free, and the frames in a block of another order",
            BOTH,
            &[Safeguard::W1],
        )
        .setup(|fx| fx.begin_with(2))
        .reuses()
        .thread("get(3), put", |fx| fx.get_and_put(3))
        .thread("drop; allocate order 1; drop", drop_and_reuse),
    ]
}

/// A block of order 2 of which page 1 is pinned.
fn with_pinned_tail<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    fx.alloc(0, 2, Splittable);
    fx.keep(0, fx.must_get(1));
}

/// Its last two frames are a block of their own after the block's last reference, if they are free.
fn drop_and_reuse<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    fx.drop_refs(0, 2, 1);
    if fx.try_alloc(2, 1, Splittable) {
        fx.drop_refs(2, 1, 1);
    }
}

fn split_and_drop<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    fx.split(0, 1, 0);
    fx.drop_refs(0, 1, 1);
}

fn audit_halves<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    if (fx.audit(0, 1), fx.audit(2, 1)) != (0, 0) {
        violation("no page should be pinned".to_owned());
    }
    fx.drop_refs(0, 2, 1);
}

/// A pin for later, if the page is in use.
pub(super) fn keep_if_used<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, page: u64) {
    if let Ok(held) = fx.try_get(page) {
        fx.keep(0, held);
    }
}

fn pages<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    fx.alloc(0, 0, Splittable);
    fx.alloc(1, 0, Splittable);
}

/// The token that a block of `order` at `head` has at this moment.
fn token<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, head: u64, order: u8) -> RawBlock {
    let generation = fx.protocol().state(Pfn::new(head)).generation;
    RawBlock::from_parts(Pfn::new(head), to_order(order), generation)
}

/// A raw merge of two pages while another thread uses one of their references: done or refused.
fn raw_merge<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let pages = [token(fx, 0, 0), token(fx, 1, 0)];
    let _ = fx.protocol().raw_merge(pages.into_iter(), fx);
}

fn find_and_drop<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, page: u64) {
    if fx.find_block(page, 0) {
        fx.drop_refs(page, 0, 1);
    }
}

/// A merge of what another thread may have found.
fn merge_if_alone<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, order: u8) {
    match fx.protocol().merge(Pfn::new(0), to_order(order), fx) {
        Ok(()) | Err(MergeError::Shared { .. }) => {}
        Err(error) => violation(format!("the pieces are the caller's, but: {error}")),
    }
}

pub(super) fn merge<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, order: u8) {
    if let Err(error) = fx.protocol().merge(Pfn::new(0), to_order(order), fx) {
        violation(format!("the pieces are the caller's alone, but: {error}"));
    }
}
