//! Races of the same kind that mainline found later.

use tailpin::Checked;
use tailpin::Class::{Splittable, Unsplittable};
use tailpin::FrameWords;
use tailpin::Rearrange;

use super::{BOTH, CLASSIC, scenario};
use crate::engine::Engine;
use crate::fixture::block;
use crate::safeguards::Safeguard;
use crate::scenario::Scenario;
use crate::tested_protocol::TestedProtocol;
use crate::trace::violation;
use crate::word::CheckWord;

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    vec![
        scenario::<E, F>(
            "I7",
            "speculative get sets a mark ‖ split makes the tail a page",
            BOTH,
            &[Safeguard::H14],
        )
        .setup(|fx| fx.begin_with(1))
        .thread("get(T), mark, put", |fx| {
            if !fx.protocol().mark_hwpoison(tailpin::Pfn::new(1), fx) {
                violation("page 1 is in use and can be marked".to_owned());
            }
        })
        .thread("split", |fx| fx.split(0, 1, 0))
        .finish(|fx| {
            fx.drop_refs(0, 1, 1);
            if !fx.is_retired(1) {
                violation("the mark on page 1 was lost".to_owned());
            }
        }),
        scenario::<E, F>(
            "I8",
            "raw free of a block ‖ speculative get and put of its first page",
            BOTH,
            &[Safeguard::H15, Safeguard::H16, Safeguard::WDrop],
        )
        .thread("allocate; free", |fx| {
            let generation = fx.alloc(0, 1, Splittable);
            fx.raw_free(0, 1, generation);
        })
        .thread("get(H), put", |fx| fx.get_and_put(0)),
        scenario::<E, F>(
            "I9",
            "a big page is assembled from freed small ones ‖ speculative get",
            BOTH,
            &[Safeguard::H16],
        )
        .setup(|fx| {
            for page in 0..2 {
                fx.alloc(page, 0, Splittable);
            }
        })
        .reuses()
        .thread("free both; allocate order 1; drop", |fx| {
            for page in 0..2 {
                let generation = fx.protocol().state(tailpin::Pfn::new(page)).generation;
                fx.raw_free(page, 0, generation);
            }
            if fx.try_alloc(0, 1, Splittable) {
                fx.drop_refs(0, 1, 1);
            }
        })
        .thread("get(0), put", |fx| fx.get_and_put(0)),
        scenario::<E, F>("I10", "gets near the limit ‖ each other; then a split", BOTH, &[Safeguard::H18])
            .setup(|fx| {
                fx.alloc(0, 1, Splittable);
                fx.force_pins(0, F::ALL_BUT_ONE);
            })
            .thread("get(H)", |fx| {
                if let Ok(held) = fx.try_get(0) {
                    fx.keep(0, held);
                }
            })
            .thread("get(H)", |fx| {
                if let Ok(held) = fx.try_get(0) {
                    fx.keep(1, held);
                }
            })
            .finish(|fx| {
                let got = [fx.kept(0), fx.kept(1)];
                if got.iter().flatten().count() != 1 {
                    violation("there was room for exactly one more pin".to_owned());
                }
                fx.split(0, 1, 0);
                got.into_iter().flatten().for_each(|held| fx.put(held));
                fx.force_pins(0, F::ALL_BUT_ONE.wrapping_neg());
                fx.drop_refs(0, 1, 1);
            }),
        scenario::<E, F>(
            "I16",
            "allocation, with its hooks and zeroing ‖ speculative getters",
            BOTH,
            &[Safeguard::H2, Safeguard::WRelease, Safeguard::WAcquire],
        )
        .thread("allocate", |fx| {
            fx.alloc(0, 1, Splittable);
        })
        .thread("get(T), put", |fx| fx.get_and_put(1))
        .finish(|fx| fx.drop_refs(0, 1, 1)),
        scenario::<E, F>(
            "I16-head",
            "allocation ‖ speculative get of the head",
            BOTH,
            &[Safeguard::WRelease],
        )
        .thread("allocate", |fx| {
            fx.alloc(0, 1, Splittable);
        })
        .thread("get(H), put", |fx| fx.get_and_put(0))
        .finish(|fx| fx.drop_refs(0, 1, 1)),
        // Of one page: nothing but the publication itself orders anything.
        scenario::<E, F>(
            "I16-page",
            "allocation of one page ‖ speculative get",
            BOTH,
            &[Safeguard::H3, Safeguard::WRelease],
        )
        .thread("allocate", |fx| {
            fx.alloc(0, 0, Splittable);
        })
        .thread("get, put", |fx| fx.get_and_put(0))
        .finish(|fx| fx.drop_refs(0, 0, 1)),
        scenario::<E, F>(
            "I17",
            "get and put of an unsplittable tail ‖ the frames get another class",
            BOTH,
            &[Safeguard::H6],
        )
        .setup(|fx| {
            fx.alloc(0, 1, Unsplittable);
        })
        .reuses()
        .thread("get(T), put", |fx| fx.get_and_put(1))
        .thread("drop; allocate splittable; drop", |fx| {
            fx.drop_refs(0, 1, 1);
            if fx.try_alloc(0, 1, Splittable) {
                fx.drop_refs(0, 1, 1);
            }
        }),
        scenario::<E, F>(
            "I2-stale",
            "get of a stale tail ‖ the head is handed out in a smaller block and freed",
            BOTH,
            &[Safeguard::H5, Safeguard::H13],
        )
        .setup(|fx| fx.begin_with(2))
        .reuses()
        .thread("get(3), put", |fx| fx.get_and_put(3))
        .thread("drop; allocate order 1; drop", |fx| {
            fx.drop_refs(0, 2, 1);
            if fx.try_alloc(0, 1, Splittable) {
                fx.drop_refs(0, 1, 1);
            }
        }),
        scenario::<E, F>(
            "I1-again",
            "get of a page that was a tail ‖ split, then its own free",
            CLASSIC,
            &[Safeguard::H1],
        )
        .setup(|fx| {
            fx.alloc(0, 1, Splittable);
            fx.keep(0, fx.must_get(1));
        })
        .thread("get(T), put, put", |fx| {
            let held = fx.kept(0).expect("kept by the set-up");
            fx.get(held);
            fx.put(held);
            fx.put(held);
        })
        .thread("split; drop", |fx| {
            fx.split(0, 1, 0);
            fx.drop_refs(0, 1, 1);
        }),
        scenario::<E, F>(
            "I17-class",
            "class of a pinned tail ‖ split, head handed out as another class",
            CLASSIC,
            &[],
        )
        .setup(|fx| {
            fx.alloc(0, 2, Splittable);
            fx.keep(0, fx.must_get(3));
        })
        .reuses()
        .thread("counted(T)?", |fx| {
            if !F::counts_tail(&fx.protocol(), 3) {
                violation("tail 3, which is counted, was said not to be".to_owned());
            }
        })
        .thread("split; drop; allocate unsplittable; drop", |fx| {
            fx.protocol().split(block(0, 2), tailpin::Order::PAGE, fx).expect("splittable");
            fx.drop_refs(0, 2, 1);
            if fx.try_alloc(0, 1, Unsplittable) {
                fx.drop_refs(0, 1, 1);
            }
        })
        .finish(|fx| fx.put_kept(0)),
    ]
}
