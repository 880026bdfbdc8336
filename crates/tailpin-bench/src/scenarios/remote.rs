//! Allocated on one core, sent through a ring, freed on another.

use std::sync::Mutex;
use std::time::Instant;

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::cores::on_cores;
use crate::recorder::{Recorder, Run, Sample};
use crate::subjects::{Frames, Group, with_subjects};

const RING: usize = 256;

enum End<T> {
    From(Producer<T>),
    To(Consumer<T>),
}

fn pause(spins: &mut u32) {
    *spins += 1;
    if spins.is_multiple_of(4096) { std::thread::yield_now() } else { std::hint::spin_loop() }
}

/// Nanoseconds per item that `make` made on one core and `take` took on another.
pub(super) fn through_ring<T: Send>(
    slice: std::time::Duration,
    make: impl Fn() -> Option<T> + Sync,
    take: impl Fn(T) + Sync,
) -> f64 {
    let (from, to) = RingBuffer::new(RING);
    let ends = Mutex::new(vec![End::To(to), End::From(from)]);
    let times = on_cores(2, |seat| {
        let mine = ends.lock().expect("not poisoned").pop();
        seat.meet();
        let mut spins = 0;
        let mut n = 0_u64;
        let start = Instant::now();
        match mine {
            Some(End::From(mut from)) => {
                while !n.is_multiple_of(256) || start.elapsed() < slice {
                    let Some(mut item) = make() else {
                        pause(&mut spins);
                        continue;
                    };
                    while let Err(PushError::Full(back)) = from.push(item) {
                        item = back;
                        pause(&mut spins);
                    }
                    n += 1;
                }
                start.elapsed().as_nanos() as f64 / n as f64
            }
            Some(End::To(mut to)) => {
                loop {
                    match to.pop() {
                        Ok(item) => take(item),
                        Err(_) if to.is_abandoned() && to.is_empty() => break,
                        Err(_) => pause(&mut spins),
                    }
                }
                0.0
            }
            None => 0.0,
        }
    });
    times.into_iter().fold(0.0, f64::max)
}

struct Remote(&'static str, u8);

impl Group for Remote {
    fn case<'s, S: Frames>(&self, subject: &'s S) -> Run<'s> {
        let Self(scenario, order) = *self;
        Box::new(move |effort| {
            let ns = through_ring(effort.slice, || subject.take(order), |held| subject.give(held, order));
            vec![Sample::new(scenario, 2, ns)]
        })
    }
}

fn measure(recorder: &mut Recorder<'_>, scenario: &'static str, order: u8) {
    if recorder.cores() < 2 || !recorder.wants(scenario) {
        return;
    }
    let (frames, repetitions) = (recorder.effort.frames, recorder.effort.repetitions);
    with_subjects(frames, &Remote(scenario, order), |mut cases| {
        let bare: Run<'_> = Box::new(move |effort| {
            let ns = through_ring(
                effort.slice,
                || Some(1_usize),
                |item| {
                    std::hint::black_box(item);
                },
            );
            vec![Sample::new(scenario, 2, ns)]
        });
        cases.push(("bare-ring", bare));
        recorder.interleave(repetitions, cases);
    });
}

pub(super) fn order_0(recorder: &mut Recorder<'_>) {
    measure(recorder, "remote-free-o0", 0);
}

pub(super) fn order_9(recorder: &mut Recorder<'_>) {
    measure(recorder, "remote-free-o9", 9);
}
