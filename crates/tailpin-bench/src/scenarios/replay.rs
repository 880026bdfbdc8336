//! Recorded kernel traces, replayed by both protocols, beside the rate at which they were recorded.
//!
//! An operation is one event of the trace. With several threads each replays a copy of its own, all
//! on one zone.

use tailpin_replay::{Plan, Protocol, Reading, Setup, Watch, compile, trace};

use crate::cores::{self, Hindered};
use crate::recorder::{Recorder, Run, Sample, Told};

/// Puts each copy on a core of its own.
struct Pinned;

impl Watch for Pinned {
    fn begins(&self, copy: usize) {
        cores::pin(copy);
    }
}

fn case<'s>(scenario: &'s str, protocol: Protocol, threads: usize, plan: &'s Plan) -> Run<'s> {
    Box::new(move |_| {
        let setup = Setup { protocol, threads, zone_frames: None };
        let measured =
            setup.round(plan, &Pinned).unwrap_or_else(|error| Hindered::end(format!("{scenario}: {error}")));
        let wrong = measured.violations
            + measured.leaked_frames
            + measured.tally.skipped
            + measured.tally.failed_allocs;
        let told =
            Told { operations: Some(plan.events() * threads as u64), failed: Some(wrong), ..Told::default() };
        let ns = measured.elapsed_ns as f64 / plan.events().max(1) as f64;
        vec![Sample::new(scenario, threads, ns).telling(told)]
    })
}

/// Every trace that is built in, on one thread and on as many as there are cores.
pub(super) fn builtins(recorder: &mut Recorder<'_>) {
    for builtin in trace::builtins() {
        let scenario = format!("replay-{}", builtin.name);
        if !recorder.wants(&scenario) || recorder.effort.counting.is_some() {
            continue;
        }
        let trace = builtin.open().expect("tested with the reader");
        let plans = Protocol::ALL.map(|protocol| {
            let reading = Reading { as_recorded: false, merges: protocol.merges() };
            compile(&trace, reading).expect("tested with the reader")
        });
        let recorded_ns = trace.duration_ns() as f64 / trace.len().max(1) as f64;
        let most = recorder.thread_counts().last().unwrap_or(1);
        let mut counts = vec![1, most];
        counts.dedup();
        for threads in counts {
            let bare: Run<'_> = Box::new(|_| vec![Sample::new(scenario.as_str(), threads, recorded_ns)]);
            let cases = vec![
                ("tailpin", case(&scenario, Protocol::OneWord, threads, &plans[0])),
                ("tailpin-classic", case(&scenario, Protocol::Classic, threads, &plans[1])),
                ("bare-recorded-rate", bare),
            ];
            let repetitions = recorder.effort.replay_repetitions;
            recorder.interleave(repetitions, cases);
        }
    }
}
