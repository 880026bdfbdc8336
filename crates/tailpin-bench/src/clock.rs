//! Timing a loop without the clock showing in it.

use std::time::{Duration, Instant};

/// Repeats `op` for about `slice` and returns nanoseconds per call. The clock is read once per chunk, and chunks
/// grow until one lasts a sixteenth of the slice.
#[inline]
pub(crate) fn repeat(slice: Duration, mut op: impl FnMut()) -> f64 {
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
            return now.as_nanos() as f64 / done as f64;
        }
        if now - last < slice / 16 {
            chunk *= 2;
        }
        last = now;
    }
}

/// Nanoseconds per operation of one call that does `operations` of them.
#[inline]
pub(crate) fn once<T>(operations: u64, work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_nanos() as f64 / operations.max(1) as f64, result)
}
