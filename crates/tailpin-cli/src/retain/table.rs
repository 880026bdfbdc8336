//! The outcome for people.

use std::fmt::Write;

use super::measure::Source;
use super::row::{Backend, Ending, Row};
use super::run::Outcome;
use crate::style::Style;
use crate::units::{bytes, grouped};

/// One line that says what was done.
pub(crate) fn title(outcome: &Outcome) -> String {
    format!(
        "{} of records of {} B, read {} at a time, {} survive",
        bytes(outcome.log_bytes),
        grouped(u64::from(outcome.record_bytes)),
        bytes(outcome.buffer_bytes as u64),
        percent(outcome.keep)
    )
}

/// `0.01` as `1 %`.
pub(crate) fn percent(keep: f64) -> String {
    format!("{} %", (keep * 1e6).round() / 1e4)
}

/// A measured number, or a dash where it died before.
pub(crate) fn measured(value: Option<u64>) -> String {
    value.map_or_else(|| "–".to_owned(), bytes)
}

/// How it ended, in words.
pub(crate) fn ending(row: &Row) -> String {
    let reason = row.reason.as_deref().unwrap_or("");
    match row.outcome {
        Ending::Finished => "finished".to_owned(),
        Ending::OutOfMemory => format!("dead after {}: {reason}", bytes(row.read_bytes)),
        Ending::Failed => format!("FAILED after {}: {reason}", bytes(row.read_bytes)),
    }
}

/// What the numbers say, the copy's among them.
pub(crate) fn findings(outcome: &Outcome) -> Vec<String> {
    let of = |backend| {
        let row = outcome.rows.iter().find(|row| row.backend == backend)?;
        // Machine-wide, other processes are in it: no ground for a ratio.
        if row.kernel_bytes_source == Source::MemAvailable {
            return None;
        }
        (row.outcome == Ending::Finished).then_some(row.kernel_bytes?).filter(|&held| held > 0)
    };
    let mut lines = Vec::new();
    let mut compare = |one: Backend, other: Backend| {
        if let (Some(a), Some(b)) = (of(one), of(other)) {
            let ratio = a as f64 / b as f64;
            lines.push(format!(
                "{} keeps {ratio:.*} × what {} keeps",
                one.name(),
                if ratio < 10.0 { 2 } else { 1 },
                other.name()
            ));
        }
    };
    compare(Backend::Bytes, Backend::Pins);
    compare(Backend::Pins, Backend::Copy);
    compare(Backend::Hybrid, Backend::Copy);
    compare(Backend::Hybrid, Backend::Pins);
    lines
}

/// The whole table.
pub(crate) fn render(outcome: &Outcome, style: Style) -> String {
    let mut text = format!("{}\n", style.bold(&title(outcome)));
    if let (Some(limit), Some(by)) = (outcome.limit_bytes, outcome.limit_by) {
        let _ = writeln!(text, "each under a limit of {} ({})", bytes(limit), by.name());
    }
    let head = format!(
        "  {:<8}{:>12}{:>12}{:>12}{:>14}{:>11}  ",
        "", "alive", "retained", "RSS", "kernel holds", "time"
    );
    let _ = writeln!(text, "\n{}", style.dim(head.trim_end()));
    for row in &outcome.rows {
        let end = match row.outcome {
            Ending::Finished => style.good("finished"),
            Ending::OutOfMemory | Ending::Failed => style.bad(&ending(row)),
        };
        let _ = writeln!(
            text,
            "  {:<8}{:>12}{:>12}{:>12}{:>14}{:>8.0} ms  {end}",
            row.backend.name(),
            bytes(row.kept_bytes),
            measured(row.retained_bytes),
            measured(row.rss_bytes),
            measured(row.kernel_bytes),
            row.elapsed_ms
        );
    }
    let findings = findings(outcome);
    if !findings.is_empty() {
        let _ = writeln!(text, "\n  by the kernel's count: {}", findings.join("; "));
    }
    if let Some(row) = outcome.rows.first() {
        let _ = writeln!(
            text,
            "  {}",
            style.dim(&format!(
                "kernel holds: {}; RSS and kernel: growth since before the first read",
                source(row.kernel_bytes_source)
            ))
        );
    }
    let _ =
        writeln!(text, "  {}", style.dim(&format!("log: {}, used again next time", outcome.log.display())));
    text
}

/// Where the kernel's count comes from, in words.
pub(crate) fn source(source: Source) -> String {
    match source {
        Source::MemAvailable => {
            "how far MemAvailable fell, machine-wide and noisy (no cgroup can be made here)".to_owned()
        }
        group => format!("charge of a {} of its own, less page cache", group.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn a_share_reads_as_it_was_given() {
        assert_eq!([0.01, 0.3, 0.0001, 1.0].map(percent), ["1 %", "30 %", "0.01 %", "100 %"]);
    }
}
