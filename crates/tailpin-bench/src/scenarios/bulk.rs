//! Takes every block there is, then frees all of them in random order.

use std::sync::Mutex;

use crate::clock::once;
use crate::cores::{mean, on_cores};
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

impl Group for Bulk {
    fn case<'s, S: Frames>(&self, subject: &'s S) -> Run<'s> {
        let Self { alloc, free, order, threads, frames } = *self;
        let most = (frames >> order) as usize / threads;
        // Kept between repetitions, so that its own page faults fall into the one that does not count.
        let stores: Vec<Mutex<Vec<S::Held>>> =
            (0..threads).map(|_| Mutex::new(Vec::with_capacity(most))).collect();
        Box::new(move |effort| {
            let times = on_cores(threads, |seat| {
                let mut held = stores[seat.index].lock().expect("not poisoned");
                let (taking, ()) = once(effort, alloc, || {
                    while held.len() < most
                        && let Some(block) = subject.take(order)
                    {
                        held.push(block);
                    }
                    (held.len() as u64, ())
                });
                Rng::new(seat.index as u64 + 1).shuffle(&mut held);
                seat.meet();
                let (giving, ()) = once(effort, free, || {
                    let n = held.len() as u64;
                    held.drain(..).for_each(|block| subject.give(block, order));
                    (n, ())
                });
                (taking, giving)
            });
            let part = |pick: fn(&(f64, f64)) -> f64| mean(&times.iter().map(pick).collect::<Vec<_>>());
            vec![Sample::new(alloc, threads, part(|t| t.0)), Sample::new(free, threads, part(|t| t.1))]
        })
    }
}

fn measure(recorder: &mut Recorder<'_>, alloc: &'static str, free: &'static str, order: u8) {
    if !recorder.wants_any(&[alloc, free]) {
        return;
    }
    for threads in recorder.thread_counts() {
        let (frames, repetitions) = (recorder.effort.frames, recorder.effort.repetitions);
        with_subjects(frames, &Bulk { alloc, free, order, threads, frames }, |cases| {
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
