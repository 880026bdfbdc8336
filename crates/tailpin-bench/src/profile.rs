//! Instructions and cache misses per operation, counted by callgrind: what a scenario's floor is
//! made of.
//!
//! The program runs itself under `valgrind --tool=callgrind`, once for each subject and scenario
//! (`tailpin bench --once SCENARIO SUBJECT`), and divides what callgrind saw within the timed part
//! by the operations done there. Callgrind's "global bus events" are the instructions with a `lock`
//! prefix, and `xchg`. Its caches are simulated, with the sizes given here and not this machine's,
//! so the misses of two machines can be compared.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::counting::{Counting, WINDOW};
use crate::effort::Effort;
use crate::judge::{best_peer, limit};
use crate::measure::measure;
use crate::report::{Report, Row};
use crate::table::ns;

/// What one operation costs one subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profiled {
    /// What was done.
    pub scenario: String,
    /// By whom.
    pub subject: String,
    /// Instructions of one operation.
    pub instructions_per_op: f64,
    /// Of those, the locked ones.
    pub locked_per_op: f64,
    /// Accesses that the first-level cache misses.
    pub first_level_misses_per_op: f64,
    /// Of those, what the second-level cache misses too.
    pub second_level_misses_per_op: f64,
    /// Nanoseconds that the locked instructions alone take, uncontended, at the rate of the bare
    /// pair of locked additions in the same run; `None` if the run has none.
    pub locked_ns_per_op: Option<f64>,
    /// What the operation took in that run, the median.
    pub ns_per_op_median: f64,
}

/// First-level and second-level data caches as they are simulated: size, ways, bytes of a line.
const CACHES: [&str; 2] = ["--D1=32768,8,64", "--LL=1048576,8,64"];

/// What callgrind counted.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Events {
    instructions: u64,
    locked: u64,
    first_level_misses: u64,
    second_level_misses: u64,
}

/// What a counting run says on its standard output.
#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    operations: u64,
}

/// The counting run itself: runs one subject in one scenario and says how many operations there
/// were, as JSON. `None` if there is no such subject in a scenario of that name.
pub fn count(scenario: &str, subject: &str) -> Option<String> {
    let effort = Effort::counting(Counting::of(scenario, subject));
    measure(&effort, Some(scenario), &mut |_, _| {});
    let operations = effort.counting.as_ref()?.operations();
    (operations > 0).then(|| format!("{{\"operations\":{operations}}}"))
}

/// Profiles tailpin, the best peer and the best limit (classic, where there is neither) in every
/// scenario of one thread that the report has them in. `again` makes the command that runs this
/// program with a counting run's arguments.
///
/// # Errors
/// In words, if valgrind can't be run or says nothing that is understood.
pub fn profile(
    report: &Report,
    again: &dyn Fn(&mut Command),
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Profiled>, String> {
    let mut jobs: Vec<&Row> = Vec::new();
    for (scenario, _) in report.scenarios().into_iter().filter(|(_, threads)| *threads == 1) {
        let others = [best_peer(report, scenario, 1), limit(report, scenario, 1)];
        // Callgrind sees nothing of what the kernel does.
        let mut others: Vec<&Row> =
            others.into_iter().flatten().filter(|row| !row.subject.starts_with("linux-")).collect();
        if others.is_empty() {
            others.extend(report.row(scenario, "tailpin-classic", 1));
        }
        if let Some(ours) = report.row(scenario, "tailpin", 1).filter(|_| !others.is_empty()) {
            jobs.push(ours);
            jobs.extend(others);
        }
    }
    // A pair is two locked instructions.
    let pairs = report.rows.iter().filter(|row| row.subject == "bare-fetch-add-sub" && row.threads == 1);
    let locked_ns = pairs.map(|row| row.ns_per_op_median / 2.0).min_by(f64::total_cmp);
    let out = std::env::temp_dir().join(format!("tailpin-profile-{}", std::process::id()));
    let mut profiled = Vec::new();
    for (done, row) in jobs.iter().enumerate() {
        progress(done, jobs.len());
        let Some((events, operations)) = one(row, again, &out)? else { continue };
        let per_op = |total: u64| total as f64 / operations as f64;
        profiled.push(Profiled {
            scenario: row.scenario.clone(),
            subject: row.subject.to_owned(),
            instructions_per_op: per_op(events.instructions),
            locked_per_op: per_op(events.locked),
            first_level_misses_per_op: per_op(events.first_level_misses),
            second_level_misses_per_op: per_op(events.second_level_misses),
            locked_ns_per_op: locked_ns.map(|ns| ns * per_op(events.locked)),
            ns_per_op_median: row.ns_per_op_median,
        });
    }
    Ok(profiled)
}

/// One counting run: what was counted in how many operations; `None` if the scenario has nothing to
/// count.
fn one(row: &Row, again: &dyn Fn(&mut Command), out: &Path) -> Result<Option<(Events, u64)>, String> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--collect-bus=yes", "--cache-sim=yes", "--quiet"]).args(CACHES);
    command.arg(format!("--toggle-collect={WINDOW}"));
    command.arg(format!("--callgrind-out-file={}", out.display()));
    again(&mut command);
    command.args(["--once", &row.scenario, row.subject]);
    let output = command.output().map_err(|error| format!("valgrind can't be run: {error}"))?;
    let text = std::fs::read_to_string(out);
    let _ = std::fs::remove_file(out);
    let Ok(counted) = serde_json::from_slice::<Counted>(&output.stdout) else {
        return match output.status.code() {
            Some(2) => Ok(None),
            _ => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        };
    };
    let text = text.map_err(|error| format!("callgrind's output: {error}"))?;
    let events = totals(&text).ok_or("callgrind's output has no totals of all events wanted")?;
    Ok(Some((events, counted.operations)))
}

/// The totals of the whole run, from callgrind's output.
fn totals(text: &str) -> Option<Events> {
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let events: Vec<&str> = line("events:")?.split_whitespace().collect();
    let totals: Vec<u64> =
        line("totals:")?.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    // Trailing zeros are left out.
    let of = |event: &str| {
        events.iter().position(|one| *one == event).map(|at| totals.get(at).copied().unwrap_or(0))
    };
    Some(Events {
        instructions: of("Ir")?,
        locked: of("Ge")?,
        first_level_misses: of("D1mr")? + of("D1mw")?,
        second_level_misses: of("DLmr")? + of("DLmw")?,
    })
}

/// A table: one line for each scenario and subject.
pub fn table(profiled: &[Profiled]) -> String {
    let mut text = format!(
        "{:<28} {:<24} {:>12} {:>8} {:>9} {:>9} {:>9} {:>9}\n",
        "per operation, callgrind",
        "subject",
        "instructions",
        "locked",
        "L1 misses",
        "L2 misses",
        "locked ns",
        "median ns"
    );
    let mut before = "";
    for one in profiled {
        let scenario = if one.scenario == before { "" } else { &one.scenario };
        let locked_ns = one.locked_ns_per_op.map_or_else(String::new, ns);
        text += &format!(
            "{scenario:<28} {:<24} {:>12.1} {:>8.2} {:>9.2} {:>9.2} {locked_ns:>9} {:>9}\n",
            one.subject,
            one.instructions_per_op,
            one.locked_per_op,
            one.first_level_misses_per_op,
            one.second_level_misses_per_op,
            ns(one.ns_per_op_median)
        );
        before = &one.scenario;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Events, count, totals};

    #[test]
    fn totals_are_found_by_the_names_of_their_events() {
        let text = "version: 1\nevents: Ir D1mr D1mw DLmr DLmw Ge\nfn=(1)\n1 2 3\ntotals: 1200 5 6 1 2 40\n";
        let events = |instructions, locked| Events {
            instructions,
            locked,
            first_level_misses: 11,
            second_level_misses: 3,
        };
        assert_eq!(totals(text), Some(events(1200, 40)));
        let turned = text.replace("Ir D1mr", "Ge D1mr").replace("DLmw Ge", "DLmw Ir");
        assert_eq!(totals(&turned), Some(events(40, 1200)));
        assert_eq!(totals(&text.replace(" 40\n", "\n")), Some(events(1200, 0)));
        assert_eq!(totals(&text.replace("Ge", "Dr")), None);
        assert_eq!(totals("totals: 1"), None);
    }

    #[test]
    fn only_the_subject_asked_for_is_counted() {
        assert_eq!(count("pair-o0-fresh", "tailpin").as_deref(), Some("{\"operations\":20000}"));
        assert_eq!(count("merge-2m", "bare-cas-511").as_deref(), Some("{\"operations\":20000}"));
        assert_eq!(count("merge-2m", "tailpin").as_deref(), Some("{\"operations\":128}"));
        assert_eq!(count("pair-o0-fresh", "nobody"), None);
        assert_eq!(count("no such scenario", "tailpin"), None);
    }
}
