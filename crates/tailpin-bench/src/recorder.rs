//! Lets the subjects of a scenario take turns and keeps what they needed.

use std::collections::BTreeMap;

use crate::cores;
use crate::effort::Effort;
use crate::report::{Fact, Report, Row};
use crate::stats::Summary;

/// What one repetition measured.
#[derive(Clone, Debug)]
pub struct Sample {
    pub(crate) scenario: String,
    pub(crate) threads: usize,
    pub(crate) ns_per_op: f64,
    told: Told,
}

/// What some repetitions tell besides their time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) operations: Option<u64>,
    pub(crate) failed: Option<u64>,
    pub(crate) huge_left: Option<u64>,
    pub(crate) huge_ideal: Option<u64>,
}

impl Sample {
    pub(crate) fn new(scenario: impl Into<String>, threads: usize, ns_per_op: f64) -> Self {
        Self { scenario: scenario.into(), threads, ns_per_op, told: Told::default() }
    }

    pub(crate) fn telling(self, told: Told) -> Self {
        Self { told, ..self }
    }
}

/// One repetition of a subject in a scenario; it may measure several things on the way.
pub type Run<'s> = Box<dyn FnMut(&Effort) -> Vec<Sample> + 's>;

type Key = (String, usize, &'static str);

/// A run under way.
pub(crate) struct Recorder<'r> {
    pub(crate) effort: &'r Effort,
    filter: Option<&'r str>,
    samples: BTreeMap<Key, Vec<Sample>>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) notes: Vec<String>,
}

impl<'r> Recorder<'r> {
    /// Nothing measured yet.
    pub(crate) fn new(effort: &'r Effort, filter: Option<&'r str>) -> Self {
        Self { effort, filter, samples: BTreeMap::new(), facts: Vec::new(), notes: Vec::new() }
    }

    /// Everything measured, in a run of so many milliseconds.
    pub(crate) fn report(mut self, elapsed_ms: u64) -> Report {
        if self.filter.is_none() && self.cores() < 16 {
            let most = self.thread_counts().last().unwrap_or(1);
            self.notes.push(format!("more than {most} threads: this machine has {} cores", self.cores()));
        }
        Report {
            rows: self.rows(),
            facts: self.facts,
            notes: self.notes,
            cores: cores::available(),
            elapsed_ms,
        }
    }

    /// Cores to use: one if operations are counted, for callgrind runs one thread at a time.
    pub(crate) fn cores(&self) -> usize {
        if self.effort.counting.is_some() { 1 } else { cores::available() }
    }

    /// Thread counts worth measuring here.
    pub(crate) fn thread_counts(&self) -> impl Iterator<Item = usize> + use<> {
        let cores = self.cores();
        [1, 2, 4, 8, 16].into_iter().filter(move |threads| *threads <= cores)
    }

    /// Whether a scenario of this name is wanted.
    pub(crate) fn wants(&self, scenario: &str) -> bool {
        self.filter.is_none_or(|part| scenario.contains(part))
    }

    /// Whether any of these is.
    pub(crate) fn wants_any(&self, scenarios: &[impl AsRef<str>]) -> bool {
        scenarios.iter().any(|scenario| self.wants(scenario.as_ref()))
    }

    /// Notes that a subject can't be measured in a scenario here, and why.
    pub(crate) fn skip(&mut self, scenario: &str, subject: &str, why: impl std::fmt::Display) {
        self.notes.push(format!("{subject} in {scenario}: {why}"));
    }

    /// Runs all cases in turn, `repetitions` times and once before that counts for nothing.
    pub(crate) fn interleave(&mut self, repetitions: usize, mut cases: Vec<(&'static str, Run<'_>)>) {
        if let Some(counting) = &self.effort.counting {
            cases.retain(|(subject, _)| counting.is_of(subject));
        }
        if cases.is_empty() {
            return;
        }
        for repetition in 0..=repetitions {
            if let Some(counting) = self.effort.counting.as_ref().filter(|_| repetition == 1) {
                counting.arm();
            }
            // Not always in the same order: who comes after whom should not matter.
            let n = cases.len();
            for i in 0..cases.len() {
                let (subject, run) = &mut cases[(i + repetition) % n];
                let samples = run(self.effort);
                if repetition == 0 {
                    continue;
                }
                for sample in samples
                    .into_iter()
                    .filter(|sample| self.filter.is_none_or(|f| sample.scenario.contains(f)))
                {
                    let key = (sample.scenario.clone(), sample.threads, *subject);
                    self.samples.entry(key).or_default().push(sample);
                }
            }
        }
    }

    fn rows(&self) -> Vec<Row> {
        let row = |(key, samples): (&Key, &Vec<Sample>)| {
            let times: Vec<f64> = samples.iter().map(|sample| sample.ns_per_op).collect();
            let summary = Summary::of(&times)?;
            let told =
                |of: fn(&Told) -> Option<u64>| samples.iter().filter_map(move |sample| of(&sample.told));
            Some(Row {
                scenario: key.0.clone(),
                threads: key.1,
                subject: key.2,
                ns_per_op_median: summary.median,
                ns_per_op_min: summary.min,
                ns_per_op_max: summary.max,
                repetitions: times.len(),
                operations: told(|told| told.operations).min(),
                failed: told(|told| told.failed).max(),
                huge_left: told(|told| told.huge_left).min(),
                huge_ideal: told(|told| told.huge_ideal).min(),
            })
        };
        self.samples.iter().filter_map(row).collect()
    }
}
