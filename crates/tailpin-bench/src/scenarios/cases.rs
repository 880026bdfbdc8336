//! The plainest scenario: one operation, over and over, on one or more threads.

use crate::clock::repeat;
use crate::cores::{mean, on_cores};
use crate::recorder::{Run, Sample};

/// One subject's case: `op`, called again and again on each of `threads`, with the number of its
/// thread.
pub(super) fn case<'s>(scenario: &'static str, threads: usize, op: impl Fn(usize) + Sync + 's) -> Run<'s> {
    Box::new(move |effort| {
        let times = on_cores(threads, |seat| repeat(effort, scenario, || op(seat.index)));
        vec![Sample::new(scenario, threads, mean(&times))]
    })
}
