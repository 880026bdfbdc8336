//! The report that the kernel writes on its serial port, a line at a time.

use serde::Serialize;

use crate::units::counted;

/// A scenario and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) passed: bool,
    /// Shootdown rounds that it took.
    pub(super) rounds: u64,
    /// Millions of processor ticks that it took.
    pub(super) mcycles: u64,
    /// What it found out, a line each.
    pub(super) notes: Vec<String>,
    /// Why it failed.
    pub(super) why: Option<String>,
}

/// What there is to run, as the kernel lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Catalogue {
    pub(super) scenarios: Vec<String>,
    pub(super) breaks: Vec<BreakEntry>,
}

/// A way to break the kernel on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BreakEntry {
    pub(super) name: String,
    /// The scenario that finds it.
    pub(super) scenario: String,
    /// What shows that it was found: `fails`, `panics` or `resets`.
    pub(super) sign: String,
}

/// What the kernel has said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// CPUs that run, once it has said so.
    pub(super) cpus: Option<u64>,
    pub(super) memory_bytes: u64,
    /// Scenarios that it is going to run.
    pub(super) announced: usize,
    pub(super) outcomes: Vec<Outcome>,
    /// The scenario that is running.
    pub(super) running: Option<String>,
    notes: Vec<String>,
    pub(super) panic: Option<String>,
    /// Whether it has said that it is through.
    pub(super) ended: bool,
    /// Deepest page-fault handler's stack, in bytes.
    pub(super) fault_stack_bytes: u64,
    pub(super) metadata_bytes: u64,
    pub(super) catalogue: Catalogue,
}

/// What a line was about, for those who follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A scenario has begun.
    Begun,
    /// A scenario has ended: the last of the outcomes.
    Ended,
    /// Something else.
    Other,
}

impl Report {
    /// Takes the next line.
    pub(super) fn take(&mut self, line: &str) -> Event {
        let line = line.trim_end();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "memory" => self.metadata_bytes = number(rest, "metadata_bytes").unwrap_or(0),
            "tailpin" => {
                self.cpus = number(rest, "cpus");
                self.memory_bytes = number(rest, "memory").unwrap_or(0);
                self.announced = number(rest, "scenarios").unwrap_or(0) as usize;
            }
            "run" => {
                self.running = Some(rest.to_owned());
                self.notes.clear();
                return Event::Begun;
            }
            "note" => self.notes.push(rest.trim_start().to_owned()),
            "pass" | "fail" => {
                let (figures, why) = match rest.split_once(": ") {
                    Some((figures, why)) if word == "fail" => (figures, Some(why.to_owned())),
                    _ => (rest, None),
                };
                self.outcomes.push(Outcome {
                    name: figures.split(' ').next().unwrap_or("").to_owned(),
                    passed: word == "pass",
                    rounds: number(figures, "rounds").unwrap_or(0),
                    mcycles: number(figures, "mcycles").unwrap_or(0),
                    notes: std::mem::take(&mut self.notes),
                    why,
                });
                self.running = None;
                return Event::Ended;
            }
            "cpu" => {
                let deep = number(rest, "fault_stack_bytes").unwrap_or(0);
                self.fault_stack_bytes = self.fault_stack_bytes.max(deep);
            }
            "panic" => self.panic = Some(line.to_owned()),
            "end" => self.ended = true,
            "scenario" => self.catalogue.scenarios.push(rest.to_owned()),
            "break" => {
                if let [name, scenario, sign] = rest.split(' ').collect::<Vec<_>>()[..] {
                    let [name, scenario, sign] = [name, scenario, sign].map(str::to_owned);
                    self.catalogue.breaks.push(BreakEntry { name, scenario, sign });
                }
            }
            _ => {}
        }
        Event::Other
    }

    /// Whether the kernel has said nothing that belongs here.
    pub(super) fn is_blank(&self) -> bool {
        *self == Self::default()
    }

    /// Closes the scenario that was running when the machine stopped.
    pub(super) fn cut_off(&mut self, why: &str) {
        if let Some(name) = self.running.take() {
            let (notes, why) = (std::mem::take(&mut self.notes), Some(why.to_owned()));
            self.outcomes.push(Outcome { name, passed: false, rounds: 0, mcycles: 0, notes, why });
        }
    }

    /// Why this is no pass, for a machine that ended well: every scenario that was announced must
    /// have passed.
    pub(super) fn shortcoming(&self) -> Option<String> {
        let failed = self.outcomes.iter().filter(|outcome| !outcome.passed).count();
        if let Some(panic) = &self.panic {
            Some(panic.clone())
        } else if self.cpus.is_none() {
            Some("the kernel said nothing".to_owned())
        } else if failed > 0 {
            Some(format!("{} failed", counted(failed as u64, "scenario")))
        } else if self.outcomes.len() != self.announced || !self.ended {
            Some(format!("{} of {} scenarios reported", self.outcomes.len(), self.announced))
        } else if self.announced == 0 {
            Some("no scenario was run".to_owned())
        } else {
            None
        }
    }
}

/// The number after `key=` in a line of such.
fn number(line: &str, key: &str) -> Option<u64> {
    line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "\
memory ranges=2 usable_frames=60125 metadata_bytes=1601472 mcycles=626
tailpin cpus=2 memory=267902976 scenarios=2
run walks
note  3 faults for 2048 pages
pass walks mcycles=70 rounds=3
run rights
pass rights mcycles=13 rounds=5
cpu 0 faults=180 fault_stack_bytes=3072
cpu 1 faults=180 fault_stack_bytes=4096
end passed=2 failed=0";

    fn report(text: &str) -> Report {
        let mut report = Report::default();
        for line in text.lines() {
            report.take(line);
        }
        report
    }

    #[test]
    fn a_report_is_read_line_by_line() {
        let report = report(WHOLE);
        assert_eq!((report.cpus, report.memory_bytes, report.announced), (Some(2), 267_902_976, 2));
        assert_eq!((report.fault_stack_bytes, report.metadata_bytes), (4096, 1_601_472));
        let [walks, rights] = &report.outcomes[..] else { panic!("{:?}", report.outcomes) };
        assert_eq!(walks.notes, ["3 faults for 2048 pages"]);
        assert_eq!((rights.name.as_str(), rights.passed, rights.rounds), ("rights", true, 5));
        assert_eq!(report.shortcoming(), None);
    }

    #[test]
    fn each_line_that_lacks_is_a_shortcoming() {
        for lacking in ["tailpin", "pass walks", "pass rights", "end"] {
            let lines: Vec<_> = WHOLE.lines().filter(|line| !line.starts_with(lacking)).collect();
            assert!(report(&lines.join("\n")).shortcoming().is_some(), "without {lacking}");
        }
        let failed =
            WHOLE.replace("pass rights mcycles=13 rounds=5", "fail rights mcycles=1 rounds=2: stale: yes");
        let failed = report(&failed);
        assert_eq!(failed.outcomes[1].why.as_deref(), Some("stale: yes"));
        assert_eq!(failed.shortcoming().as_deref(), Some("1 scenario failed"));
        let panicked = report(&format!("{WHOLE}\npanic on CPU 1: no"));
        assert_eq!(panicked.shortcoming().as_deref(), Some("panic on CPU 1: no"));
        assert!(report("tailpin cpus=1 memory=1 scenarios=0\nend passed=0 failed=0").shortcoming().is_some());
    }

    #[test]
    fn a_scenario_that_was_running_when_the_machine_stopped_has_failed() {
        let mut report = report("tailpin cpus=2 memory=1 scenarios=1\nrun walks\nnote  half way");
        report.cut_off("the processor reset");
        let [walks] = &report.outcomes[..] else { panic!("{:?}", report.outcomes) };
        assert_eq!((walks.passed, walks.why.as_deref()), (false, Some("the processor reset")));
        assert_eq!(walks.notes, ["half way"]);
    }
}
