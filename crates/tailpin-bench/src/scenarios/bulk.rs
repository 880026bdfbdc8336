//! Takes every block there is, then frees all of them in random order. Ours has operations for many
//! at once; it is measured one by one as well, as the others are.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tailpin::{Block, Order, Request, Zone};

use crate::clock::once;
use crate::cores::{mean, on_cores};
use crate::lazy::LazyWords;
use crate::recorder::{Recorder, Run, Sample};
use crate::rng::Rng;
use crate::subjects::{Frames, Group, with_subjects};

struct Bulk {
    alloc: &'static str,
    free: &'static str,
    order: u8,
    threads: usize,
    frames: u64,
}

impl Bulk {
    /// Blocks for each thread.
    fn most(&self) -> usize {
        (self.frames >> self.order) as usize / self.threads
    }

    /// The repetition with these two operations, on one block each; `take` is told which block of
    /// all of them it is about.
    fn run<'s, T: Send + 's>(
        &self,
        take: impl Fn(usize) -> Option<T> + Sync + 's,
        give: impl Fn(T) + Sync + 's,
    ) -> Run<'s> {
        let most = self.most();
        let fill = move |seat: usize, held: &mut Vec<T>| {
            while held.len() < most
                && let Some(block) = take(seat * most + held.len())
            {
                held.push(block);
            }
        };
        self.run_many(fill, move |held| held.drain(..).for_each(&give))
    }

    /// The repetition with operations on as many blocks as there are for a thread: `fill` takes
    /// them for a seat.
    fn run_many<'s, T: Send + 's>(
        &self,
        fill: impl Fn(usize, &mut Vec<T>) + Sync + 's,
        empty: impl Fn(&mut Vec<T>) + Sync + 's,
    ) -> Run<'s> {
        let Self { alloc, free, threads, .. } = *self;
        let most = self.most();
        // Kept between repetitions, so that its own page faults fall into the one that does not
        // count.
        let stores: Vec<Mutex<Vec<T>>> = (0..threads).map(|_| Mutex::new(Vec::with_capacity(most))).collect();
        Box::new(move |effort| {
            let times = on_cores(threads, |seat| {
                // Taken out while it is in use: two that lie side by side share a line, and each
                // push writes to it.
                let mut store = stores[seat.index].lock().expect("not poisoned");
                let mut held = std::mem::take(&mut *store);
                let (taking, ()) = once(effort, alloc, || {
                    fill(seat.index, &mut held);
                    (held.len() as u64, ())
                });
                Rng::new(seat.index as u64 + 1).shuffle(&mut held);
                seat.meet();
                let (giving, ()) = once(effort, free, || {
                    let n = held.len() as u64;
                    empty(&mut held);
                    (n, ())
                });
                *store = held;
                (taking, giving)
            });
            let part = |pick: fn(&(f64, f64)) -> f64| mean(&times.iter().map(pick).collect::<Vec<_>>());
            vec![Sample::new(alloc, threads, part(|t| t.0)), Sample::new(free, threads, part(|t| t.1))]
        })
    }

    /// The limit of an allocator that keeps a word per frame and believes nothing: a store to take,
    /// a compare-and-swap to give, no search.
    fn bare(&self) -> Run<'static> {
        let order = self.order;
        let words = Arc::new(LazyWords::new(self.frames as usize));
        let same = Arc::clone(&words);
        let take = move |nth: usize| {
            // Release, and AcqRel below: as a reference count is published and dropped.
            words.words()[nth << order].store(1, Ordering::Release);
            Some(nth << order)
        };
        let give = move |frame: usize| {
            let dropped = same.words()[frame].compare_exchange(1, 0, Ordering::AcqRel, Ordering::Relaxed);
            assert!(dropped.is_ok(), "no other handle has it");
        };
        self.run(take, give)
    }
}

impl Group for Bulk {
    fn case<'s, S: Frames>(&self, subject: &'s S) -> Run<'s> {
        let order = self.order;
        self.run(move |_| subject.take(order), move |block| subject.give(block, order))
    }

    fn many<'s>(&self, zone: &'s Zone<'s>) -> Option<Run<'s>> {
        let (order, most) = (Order::new(self.order)?, self.most());
        let fill = move |_: usize, held: &mut Vec<Block<'s>>| {
            held.extend(zone.alloc_many(Request::new(order), most - held.len()));
        };
        Some(self.run_many(fill, |held| zone.drop_many(held.drain(..))))
    }
}

fn measure(recorder: &mut Recorder<'_>, alloc: &'static str, free: &'static str, order: u8) {
    if !recorder.wants_any(&[alloc, free]) {
        return;
    }
    for threads in recorder.thread_counts() {
        let (frames, repetitions) = (recorder.effort.frames, recorder.effort.repetitions);
        let bulk = Bulk { alloc, free, order, threads, frames };
        with_subjects(frames, &bulk, |mut cases| {
            cases.push(("bare-word-per-frame", bulk.bare()));
            recorder.interleave(repetitions, cases);
        });
    }
}

pub(super) fn order_0(recorder: &mut Recorder<'_>) {
    measure(recorder, "bulk-o0-alloc", "bulk-o0-free-random", 0);
}

pub(super) fn order_9(recorder: &mut Recorder<'_>) {
    measure(recorder, "bulk-o9-alloc", "bulk-o9-free-random", 9);
}
