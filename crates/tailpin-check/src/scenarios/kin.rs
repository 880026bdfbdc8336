//! Races of the same kind that mainline found later.

use tailpin::Class::{Splittable, Unsplittable};
use tailpin::Protocol;

use super::{BOTH, CLASSIC, plan};
use crate::engine::Engine;
use crate::family::Family;
use crate::plan::Plan;
use crate::switches::Switch;
use crate::trace::violation;
use crate::word::CheckWord;
use crate::world::block;

pub(super) fn plans<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    vec![
        plan::<E, F>("I7", "speculative get sets a mark ‖ split makes the tail a page", BOTH, &[Switch::H14])
            .setup(|w| w.begin_with(1))
            .role("get(T), mark, put", |w| {
                if !w.protocol().poison(tailpin::Pfn::new(1), w) {
                    violation("page 1 is in use and can be marked".to_owned());
                }
            })
            .role("split", |w| w.split(0, 1, 0))
            .finish(|w| {
                w.drop_refs(0, 1, 1);
                if !w.is_retired(1) {
                    violation("the mark on page 1 was lost".to_owned());
                }
            }),
        plan::<E, F>(
            "I8",
            "raw free of a block ‖ speculative get and put of its first page",
            BOTH,
            &[Switch::H15, Switch::H16, Switch::WDrop],
        )
        .role("allocate; free", |w| {
            let generation = w.alloc(0, 1, Splittable);
            w.raw_free(0, 1, generation);
        })
        .role("get(H), put", |w| w.get_and_put(0)),
        plan::<E, F>(
            "I9",
            "a big page is assembled from freed small ones ‖ speculative get",
            BOTH,
            &[Switch::H16],
        )
        .setup(|w| {
            for page in 0..2 {
                w.alloc(page, 0, Splittable);
            }
        })
        .reuses()
        .role("free both; allocate order 1; drop", |w| {
            for page in 0..2 {
                let generation = w.protocol().state(tailpin::Pfn::new(page)).generation;
                w.raw_free(page, 0, generation);
            }
            if w.try_alloc(0, 1, Splittable) {
                w.drop_refs(0, 1, 1);
            }
        })
        .role("get(0), put", |w| w.get_and_put(0)),
        plan::<E, F>("I10", "gets near the limit ‖ each other; then a split", BOTH, &[Switch::H18])
            .setup(|w| {
                w.alloc(0, 1, Splittable);
                w.force_pins(0, F::ALL_BUT_ONE);
            })
            .role("get(H)", |w| {
                if let Ok(held) = w.try_get(0) {
                    w.keep(0, held);
                }
            })
            .role("get(H)", |w| {
                if let Ok(held) = w.try_get(0) {
                    w.keep(1, held);
                }
            })
            .finish(|w| {
                let got = [w.kept(0), w.kept(1)];
                if got.iter().flatten().count() != 1 {
                    violation("there was room for exactly one more pin".to_owned());
                }
                w.split(0, 1, 0);
                got.into_iter().flatten().for_each(|held| w.put(held));
                w.force_pins(0, F::ALL_BUT_ONE.wrapping_neg());
                w.drop_refs(0, 1, 1);
            }),
        plan::<E, F>(
            "I16",
            "allocation, with its hooks and zeroing ‖ speculative getters",
            BOTH,
            &[Switch::H2, Switch::WRelease, Switch::WAcquire],
        )
        .role("allocate", |w| {
            w.alloc(0, 1, Splittable);
        })
        .role("get(T), put", |w| w.get_and_put(1))
        .finish(|w| w.drop_refs(0, 1, 1)),
        plan::<E, F>("I16-head", "allocation ‖ speculative get of the head", BOTH, &[Switch::WRelease])
            .role("allocate", |w| {
                w.alloc(0, 1, Splittable);
            })
            .role("get(H), put", |w| w.get_and_put(0))
            .finish(|w| w.drop_refs(0, 1, 1)),
        // Of one page: nothing but the publication itself orders anything.
        plan::<E, F>(
            "I16-page",
            "allocation of one page ‖ speculative get",
            BOTH,
            &[Switch::H3, Switch::WRelease],
        )
        .role("allocate", |w| {
            w.alloc(0, 0, Splittable);
        })
        .role("get, put", |w| w.get_and_put(0))
        .finish(|w| w.drop_refs(0, 0, 1)),
        plan::<E, F>(
            "I17",
            "get and put of an unsplittable tail ‖ the frames get another class",
            BOTH,
            &[Switch::H6],
        )
        .setup(|w| {
            w.alloc(0, 1, Unsplittable);
        })
        .reuses()
        .role("get(T), put", |w| w.get_and_put(1))
        .role("drop; allocate splittable; drop", |w| {
            w.drop_refs(0, 1, 1);
            if w.try_alloc(0, 1, Splittable) {
                w.drop_refs(0, 1, 1);
            }
        }),
        plan::<E, F>(
            "I2-stale",
            "get of a stale tail ‖ the head is handed out in a smaller block and freed",
            BOTH,
            &[Switch::H5, Switch::H13],
        )
        .setup(|w| w.begin_with(2))
        .reuses()
        .role("get(3), put", |w| w.get_and_put(3))
        .role("drop; allocate order 1; drop", |w| {
            w.drop_refs(0, 2, 1);
            if w.try_alloc(0, 1, Splittable) {
                w.drop_refs(0, 1, 1);
            }
        }),
        plan::<E, F>(
            "I1-again",
            "get of a page that was a tail ‖ split, then its own free",
            CLASSIC,
            &[Switch::H1],
        )
        .setup(|w| {
            w.alloc(0, 1, Splittable);
            w.keep(0, w.must_get(1));
        })
        .role("get(T), put, put", |w| {
            let held = w.kept(0).expect("kept by the set-up");
            w.get(held);
            w.put(held);
            w.put(held);
        })
        .role("split; drop", |w| {
            w.split(0, 1, 0);
            w.drop_refs(0, 1, 1);
        }),
        plan::<E, F>(
            "I17-class",
            "class of a pinned tail ‖ split, head handed out as another class",
            CLASSIC,
            &[],
        )
        .setup(|w| {
            w.alloc(0, 2, Splittable);
            w.keep(0, w.must_get(3));
        })
        .reuses()
        .role("counted(T)?", |w| {
            if !F::counts_tail(&w.protocol(), 3) {
                violation("tail 3, which is counted, was said not to be".to_owned());
            }
        })
        .role("split; drop; allocate unsplittable; drop", |w| {
            w.protocol().split(block(0, 2), tailpin::Order::PAGE, w).expect("splittable");
            w.drop_refs(0, 2, 1);
            if w.try_alloc(0, 1, Unsplittable) {
                w.drop_refs(0, 1, 1);
            }
        })
        .finish(|w| w.put_kept(0)),
    ]
}
