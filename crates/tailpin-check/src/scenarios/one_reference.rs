//! Two threads that act through one and the same reference. Most may be done at once; a merge needs
//! the reference for itself, which handles see to (`&mut self`, or by value).

use std::sync::atomic::Ordering;

use tailpin::AtomicWord;
use tailpin::Class::Splittable;

use super::rearrange::merge;
use super::{BOTH, ONE_WORD, plan};
use crate::engine::Engine;
use crate::family::{Family, number};
use crate::lock_wait;
use crate::plan::Plan;
use crate::switches::{Switch, off};
use crate::trace::Name;
use crate::word::CheckWord;
use crate::world::World;

pub(super) fn plans<E: Engine, F: Family<CheckWord<E>>>() -> Vec<Plan<E, F>> {
    vec![
        plan::<E, F>("one-ref-splits", "splits to 1 and to pages through one reference", ONE_WORD, &[])
            .setup(|w| w.begin_with(2))
            .role("split to 1, to 0", |w| {
                w.split(0, 2, 1);
                w.split(0, 2, 0);
            })
            .role("split to 0", |w| w.split(0, 2, 0))
            .finish(|w| w.drop_refs(0, 2, 1)),
        plan::<E, F>("one-ref-clone", "split ‖ a clone, through one reference", BOTH, &[Switch::W5])
            .setup(|w| w.begin_with(1))
            .role("split", |w| w.split(0, 1, 0))
            .role("clone; drop of it", |w| {
                w.more_refs(0, 1, 1);
                w.drop_refs(0, 1, 1);
            })
            .finish(|w| w.drop_refs(0, 1, 1)),
        plan::<E, F>("one-ref-clones", "two clones of pieces, through one reference", BOTH, &[])
            .setup(|w| {
                w.begin_with(1);
                w.split(0, 1, 0);
            })
            .role("clone", |w| w.more_refs(0, 1, 1))
            .role("clone; drop of it", |w| {
                w.more_refs(0, 1, 1);
                w.drop_refs(0, 1, 1);
            })
            .finish(|w| w.drop_refs(0, 1, 2)),
        plan::<E, F>(
            "one-ref-merge-split",
            "merge ‖ split to pages of one handle, which is lent to one at a time; a page is pinned",
            ONE_WORD,
            &[Switch::WAlone],
        )
        .setup(|w| {
            handle(w);
            w.begin_with(2);
            w.split(0, 2, 1);
            w.keep(0, w.must_get(3));
        })
        .role("merge", |w| alone(w, |w| merge(w, 2)))
        .role("split", |w| alone(w, |w| w.split(0, 2, 0)))
        .finish(|w| {
            w.drop_refs(0, 2, 1);
            w.put_kept(0);
        })
        .with_words(),
        plan::<E, F>(
            "one-ref-merge-clone",
            "merge ‖ a clone of one handle, which is lent to one at a time",
            ONE_WORD,
            &[Switch::WAlone],
        )
        .setup(|w| {
            handle(w);
            w.alloc(0, 1, Splittable);
            w.split(0, 1, 0);
        })
        .role("merge", |w| alone(w, |w| merge(w, 1)))
        .role("clone; drop of it", |w| {
            alone(w, |w| {
                w.more_refs(0, 1, 1);
                w.drop_refs(0, 1, 1);
            });
        })
        .finish(|w| w.drop_refs(0, 1, 1))
        .with_words(),
        plan::<E, F>(
            "one-ref-merge-merge",
            "two merges of one handle, which is lent to one at a time; a page is pinned",
            ONE_WORD,
            &[],
        )
        .setup(|w| {
            handle(w);
            w.begin_with(1);
            w.split(0, 1, 0);
            w.keep(0, w.must_get(1));
        })
        .role("merge", |w| alone(w, |w| merge(w, 1)))
        .role("merge; pin, unpin", |w| {
            alone(w, |w| merge(w, 1));
            w.get_and_put(0);
        })
        .finish(|w| {
            w.audit(0, 1);
            w.drop_refs(0, 1, 1);
            w.put_kept(0);
        })
        .with_words(),
    ]
}

impl<E: Engine, F> Plan<E, F> {
    /// The set-up brings words along.
    fn with_words(mut self) -> Self {
        self.quiet_ends = false;
        self
    }
}

/// A handle that two threads have, and that only one of them uses at a time: what the borrow
/// checker sees to, or a mutex.
struct Handle<E: Engine>(CheckWord<E>);

fn handle<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>) {
    lock_wait::blocks();
    w.bring(Handle::<E>(CheckWord::explored(Name { field: "lock", frame: 0, decode: number })));
}

/// Uses the handle alone.
fn alone<E: Engine, F: Family<CheckWord<E>>>(w: &World<E, F>, body: fn(&World<E, F>)) {
    if off(Switch::WAlone) {
        return body(w);
    }
    let Handle::<E>(lock) = w.brought();
    // Acquire here and Release below, as of a mutex: what one does with the handle is before what
    // the next one does.
    while lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
        lock_wait::relax::<E>();
    }
    body(w);
    lock.store(0, Ordering::Release);
}
