//! Two threads that act through one and the same reference. Most may be done at once; a merge needs
//! the reference for itself, which handles see to (`&mut self`, or by value).

use std::sync::atomic::Ordering;

use tailpin::AtomicWord;
use tailpin::Class::Splittable;

use super::rearrange::merge;
use super::{BOTH, ONE_WORD, scenario};
use crate::engine::Engine;
use crate::fixture::Fixture;
use crate::lock_wait;
use crate::safeguards::{Safeguard, is_left_out};
use crate::scenario::Scenario;
use crate::tested_protocol::{TestedProtocol, number};
use crate::trace::Name;
use crate::word::CheckWord;

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    vec![
        scenario::<E, F>("one-ref-splits", "splits to 1 and to pages through one reference", ONE_WORD, &[])
            .setup(|fx| fx.begin_with(2))
            .thread("split to 1, to 0", |fx| {
                fx.split(0, 2, 1);
                fx.split(0, 2, 0);
            })
            .thread("split to 0", |fx| fx.split(0, 2, 0))
            .finish(|fx| fx.drop_refs(0, 2, 1)),
        scenario::<E, F>("one-ref-clone", "split ‖ a clone, through one reference", BOTH, &[Safeguard::W5])
            .setup(|fx| fx.begin_with(1))
            .thread("split", |fx| fx.split(0, 1, 0))
            .thread("clone; drop of it", |fx| {
                fx.more_refs(0, 1, 1);
                fx.drop_refs(0, 1, 1);
            })
            .finish(|fx| fx.drop_refs(0, 1, 1)),
        scenario::<E, F>("one-ref-clones", "two clones of pieces, through one reference", BOTH, &[])
            .setup(|fx| {
                fx.begin_with(1);
                fx.split(0, 1, 0);
            })
            .thread("clone", |fx| fx.more_refs(0, 1, 1))
            .thread("clone; drop of it", |fx| {
                fx.more_refs(0, 1, 1);
                fx.drop_refs(0, 1, 1);
            })
            .finish(|fx| fx.drop_refs(0, 1, 2)),
        scenario::<E, F>(
            "one-ref-merge-split",
            "merge ‖ split to pages of one handle, which is lent to one at a time; a page is pinned",
            ONE_WORD,
            &[Safeguard::WAlone],
        )
        .setup(|fx| {
            handle(fx);
            fx.begin_with(2);
            fx.split(0, 2, 1);
            fx.keep(0, fx.must_get(3));
        })
        .thread("merge", |fx| alone(fx, |fx| merge(fx, 2)))
        .thread("split", |fx| alone(fx, |fx| fx.split(0, 2, 0)))
        .finish(|fx| {
            fx.drop_refs(0, 2, 1);
            fx.put_kept(0);
        })
        .with_words(),
        scenario::<E, F>(
            "one-ref-merge-clone",
            "merge ‖ a clone of one handle, which is lent to one at a time",
            ONE_WORD,
            &[Safeguard::WAlone],
        )
        .setup(|fx| {
            handle(fx);
            fx.alloc(0, 1, Splittable);
            fx.split(0, 1, 0);
        })
        .thread("merge", |fx| alone(fx, |fx| merge(fx, 1)))
        .thread("clone; drop of it", |fx| {
            alone(fx, |fx| {
                fx.more_refs(0, 1, 1);
                fx.drop_refs(0, 1, 1);
            });
        })
        .finish(|fx| fx.drop_refs(0, 1, 1))
        .with_words(),
        scenario::<E, F>(
            "one-ref-merge-merge",
            "two merges of one handle, which is lent to one at a time; a page is pinned",
            ONE_WORD,
            &[],
        )
        .setup(|fx| {
            handle(fx);
            fx.begin_with(1);
            fx.split(0, 1, 0);
            fx.keep(0, fx.must_get(1));
        })
        .thread("merge", |fx| alone(fx, |fx| merge(fx, 1)))
        .thread("merge; pin, unpin", |fx| {
            alone(fx, |fx| merge(fx, 1));
            fx.get_and_put(0);
        })
        .finish(|fx| {
            fx.audit(0, 1);
            fx.drop_refs(0, 1, 1);
            fx.put_kept(0);
        })
        .with_words(),
    ]
}

impl<E: Engine, F> Scenario<E, F> {
    /// The set-up brings words along.
    fn with_words(mut self) -> Self {
        self.plain_setup = false;
        self
    }
}

/// A handle that two threads have, and that only one of them uses at a time: what the borrow
/// checker sees to, or a mutex.
struct Handle<E: Engine>(CheckWord<E>);

fn handle<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    lock_wait::blocks();
    fx.extend_with(Handle::<E>(CheckWord::explored(Name { field: "lock", frame: 0, decode: number })));
}

/// Uses the handle alone.
fn alone<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, body: fn(&Fixture<E, F>)) {
    if is_left_out(Safeguard::WAlone) {
        return body(fx);
    }
    let Handle::<E>(lock) = fx.extension();
    // Acquire here and Release below, as of a mutex: what one does with the handle is before what
    // the next one does.
    while lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
        lock_wait::relax::<E>();
    }
    body(fx);
    lock.store(0, Ordering::Release);
}
