//! Timing a loop without the clock showing in it.

use std::time::{Duration, Instant};

use crate::counting::OPERATIONS;
use crate::effort::Effort;

/// Repeats `op` for about a slice and returns nanoseconds per call. The clock is read once per
/// chunk, and chunks grow until one lasts a sixteenth of the slice.
#[inline]
pub(crate) fn repeat(effort: &Effort, scenario: &str, op: impl FnMut()) -> f64 {
    repeat_parts(effort, scenario, 1, op)
}

/// As [`repeat`], where each call is so many operations.
#[inline]
pub(crate) fn repeat_parts(effort: &Effort, scenario: &str, parts: u64, mut op: impl FnMut()) -> f64 {
    if let Some(counting) = &effort.counting {
        return counting.run(scenario, || {
            (0..OPERATIONS).for_each(|_| op());
            (OPERATIONS * parts, 0.0)
        });
    }
    let slice = effort.slice;
    let mut chunk = 16_u64;
    let mut done = 0_u64;
    let start = Instant::now();
    let mut last = Duration::ZERO;
    loop {
        for _ in 0..chunk {
            op();
        }
        done += chunk;
        let now = start.elapsed();
        if now >= slice {
            return now.as_nanos() as f64 / (done * parts) as f64;
        }
        if now - last < slice / 16 {
            chunk *= 2;
        }
        last = now;
    }
}

/// Nanoseconds per operation of one piece of work, which returns how many operations it was.
#[inline]
pub(crate) fn once<T>(effort: &Effort, scenario: &str, work: impl FnOnce() -> (u64, T)) -> (f64, T) {
    if let Some(counting) = &effort.counting {
        return (0.0, counting.run(scenario, work));
    }
    let start = Instant::now();
    let (operations, result) = work();
    (start.elapsed().as_nanos() as f64 / operations.max(1) as f64, result)
}

/// Whether a series of short pieces goes on: until its slice is over.
pub(crate) fn goes_on(effort: &Effort, start: Instant, rounds: u64) -> bool {
    if effort.counting.is_some() { rounds < 16 } else { start.elapsed() < effort.slice }
}
