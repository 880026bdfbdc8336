//! Races of the same kinds that the kernel met from 2019 to 2026, around the split that it refuses
//! while a page is pinned: page lists, memory failure, unmapping of a part, conversion of a range.
//! Those of futexes are in `futex`.
//!
//! What the kernel does *around* compound pages is modelled here, step for step; the pages are
//! those of the protocol that ships.

use std::sync::atomic::{AtomicBool, Ordering};

use tailpin::Class::Splittable;
use tailpin::{AtomicWord, Checked, FrameWords, Pfn};

use super::{BOTH, ONE_WORD, scenario};
use crate::engine::Engine;
use crate::fixture::Fixture;
use crate::lock_wait;
use crate::safeguards::{Safeguard, is_left_out};
use crate::scenario::Scenario;
use crate::tested_protocol::{TestedProtocol, number};
use crate::trace::{Name, note, violation};
use crate::word::CheckWord;

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    vec![
        scenario::<E, F>(
            "lru-isolate",
            "split, and the cache lets a piece go ‖ reclaim takes the piece off its list",
            ONE_WORD,
            &[Safeguard::H28],
        )
        .setup(|fx| {
            // One reference of the page cache, one of the thread that splits.
            fx.alloc(0, 1, Splittable);
            fx.more_refs(0, 1, 1);
            fx.extend_with(PageList::<E>::new());
            fx.when_freed(off_the_list);
        })
        .thread("split; list 1; drop it twice", |fx| {
            fx.split(0, 1, 0);
            fx.extension::<PageList<E>>().add();
            fx.drop_refs(1, 0, 1);
            fx.drop_refs(1, 0, 1);
        })
        .thread("isolate 1", isolate)
        .finish(|fx| fx.drop_refs(0, 0, 2)),
        scenario::<E, F>(
            "hwpoison-free",
            "memory failure in a page of a block ‖ the block is freed, its frames used again",
            BOTH,
            &[Safeguard::H29],
        )
        .classic_to(1)
        .setup(|fx| fx.begin_with(1))
        .reuses()
        .thread("mark 1", |fx| {
            if fx.protocol().mark_hwpoison(Pfn::new(1), fx) {
                note(|| "has marked page 1 as hwpoison".to_owned());
                fx.keep_mark();
            }
        })
        .thread("drop; allocate 1; drop", |fx| {
            fx.drop_refs(0, 1, 1);
            if fx.try_alloc(1, 0, Splittable) {
                fx.drop_refs(1, 0, 1);
            }
        })
        .finish(|fx| {
            if fx.has_mark() && !fx.is_retired(1) {
                violation("frame 1 has hwpoison, and is free for the next owner".to_owned());
            }
        }),
        scenario::<E, F>(
            "unmap-part",
            "a page of a pinned block is unmapped ‖ the pin goes",
            BOTH,
            &[Safeguard::H30],
        )
        .setup(|fx| {
            fx.alloc(0, 1, Splittable);
            fx.keep(0, fx.must_get(0));
        })
        .thread("unmap 1", unmap_part)
        .thread("put(0)", |fx| fx.put_kept(0))
        .finish(|fx| {
            if fx.has_refs(1) {
                violation(
                    "page 1 has no mapping and no pin, its block is on no list, and it is in use".to_owned(),
                );
            }
            fx.drop_refs(0, 0, 1);
        }),
        scenario::<E, F>(
            "convert",
            "two pages of a block of four are converted ‖ another page of it is pinned",
            BOTH,
            &[Safeguard::H31],
        )
        .classic_to(1)
        .setup(|fx| fx.begin_with(2))
        .thread("convert 2, 3", convert)
        .thread("get(0), put", |fx| fx.get_and_put(0))
        .finish(|fx| fx.drop_refs(0, 2, 1)),
    ]
}

/// The list that page 1 is on or not: a mark in the page's flags, and the list under its lock.
struct PageList<E: Engine> {
    mark: CheckWord<E>,
    lock: CheckWord<E>,
    /// Changed with the lock held.
    listed: AtomicBool,
}

impl<E: Engine> PageList<E> {
    fn new() -> Self {
        lock_wait::blocks();
        let word = |field| CheckWord::explored(Name { frame: 1, field, decode: number });
        Self { mark: word("PG_lru"), lock: word("lock"), listed: AtomicBool::new(false) }
    }

    fn locked(&self, body: impl FnOnce()) {
        while self.lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            CheckWord::<E>::relax();
        }
        body();
        self.lock.store(0, Ordering::Release);
    }

    fn add(&self) {
        self.locked(|| {
            // Relaxed, here and below: one thread runs at a time, and it has the lock.
            self.listed.store(true, Ordering::Relaxed);
            self.mark.fetch_or(1, Ordering::AcqRel);
        });
        note(|| "has put page 1 on the list".to_owned());
    }

    fn remove(&self) {
        self.locked(|| self.listed.store(false, Ordering::Relaxed));
        note(|| "has taken page 1 off the list".to_owned());
    }

    /// Whether the mark was there: the thread that clears it has to take the page off the list.
    fn clear(&self) -> bool {
        self.mark.fetch_and(0, Ordering::AcqRel) == 1
    }
}

/// Page 1 is freed: it leaves the list, if its mark says that it is on one.
fn off_the_list<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, page: u64) {
    let list: &PageList<E> = fx.extension();
    if page == 1 && list.clear() {
        list.remove();
    }
    // Relaxed: one thread runs at a time.
    if page == 1 && list.listed.load(Ordering::Relaxed) {
        violation("page 1 is freed while it is on the list".to_owned());
    }
}

/// Reclaim has met page 1 on the list, and takes it off under a pin of its own.
fn isolate<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let list: &PageList<E> = fx.extension();
    if is_left_out(Safeguard::H28) {
        if list.clear() {
            list.remove();
        }
    } else if let Ok(held) = fx.try_get(1) {
        if list.clear() {
            list.remove();
        }
        fx.put(held);
    }
}

/// The mapping of page 1 goes. The page is split off, whether or not the block has a pin; the
/// kernel tries that now and once more from its list, and gives up where a page is pinned.
fn unmap_part<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let refused = || is_left_out(Safeguard::H30) && fx.protocol().state(Pfn::new(0)).pins > 0;
    if refused() {
        note(|| "puts the block on the list of splits that were put off".to_owned());
        if refused() {
            note(|| "takes it off the list: the split is refused again".to_owned());
            return;
        }
    }
    fx.split(0, 1, 0);
    fx.drop_refs(1, 0, 1);
}

/// Pages 2 and 3 get another owner. They must have no pin, which is asked of them alone.
fn convert<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    if is_left_out(Safeguard::H31) && fx.protocol().state(Pfn::new(0)).pins > 0 {
        violation("pages 2 and 3 have no pin, and their conversion was refused".to_owned());
    }
    fx.split(0, 2, 1);
    let pins = |page| fx.protocol().state(Pfn::new(page)).pins;
    if pins(2) + pins(3) > 0 {
        violation("pages 2 and 3 have no pin, and one was counted".to_owned());
    }
    note(|| "has converted pages 2 and 3".to_owned());
}
