//! The outcome for people.

use super::measure::Source;
use super::row::{Backend, Ending, Row};
use super::run::Outcome;
use crate::grid::Grid;
use crate::style::{Style, wrapped};
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
                "By the kernel's count {} keeps {ratio:.*} × what {} keeps",
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

/// What a figure of this run can't be.
pub(crate) fn doubts(outcome: &Outcome) -> Vec<String> {
    let less = outcome.rows.iter().filter(|row| row.kernel_bytes.is_some_and(|held| held < row.kept_bytes));
    let doubt = |row: &Row| {
        format!(
            "The kernel's count for {} is below what is alive: other processes disturbed it, or the log is too small \
             for it to show.",
            row.backend.name()
        )
    };
    less.map(doubt).collect()
}

/// All rows, and what fits beside them in a terminal.
fn grid(outcome: &Outcome) -> Grid {
    let mut grid = Grid::new(["", "alive", "retained", "RSS", "kernel holds", "time", ""]).with_words(1);
    for row in &outcome.rows {
        grid.row([
            row.backend.name().to_owned(),
            bytes(row.kept_bytes),
            measured(row.retained_bytes),
            measured(row.rss_bytes),
            measured(row.kernel_bytes),
            format!("{:.0} ms", row.elapsed_ms),
            if row.outcome == Ending::Finished { String::new() } else { ending(row) },
        ]);
    }
    grid
}

/// All rows with all that was measured.
pub(crate) fn details(outcome: &Outcome) -> Grid {
    let names =
        ["", "alive", "retained", "RSS", "kernel holds", "given back", "time", "of it giving back", ""];
    let mut grid = Grid::new(names).with_words(1);
    for row in &outcome.rows {
        grid.row([
            row.backend.name().to_owned(),
            bytes(row.kept_bytes),
            measured(row.retained_bytes),
            measured(row.rss_bytes),
            measured(row.kernel_bytes),
            bytes(row.given_back_bytes),
            format!("{:.0} ms", row.elapsed_ms),
            format!("{:.0} ms", row.give_back_ms),
            ending(row),
        ]);
    }
    grid
}

/// Everything, for a terminal of `width` columns.
pub(crate) fn render(outcome: &Outcome, width: usize, style: Style) -> String {
    let mut text = wrapped(&title(outcome), "", "", width);
    if let (Some(limit), Some(by)) = (outcome.limit_bytes, outcome.limit_by) {
        text += &wrapped(&format!("each under a limit of {} ({})", bytes(limit), by.name()), "", "", width);
    }
    text = format!("{}\n", style.bold(text.trim_end()));
    text += &format!("\n{}\n", grid(outcome).text(width, style));
    for finding in findings(outcome) {
        text += &wrapped(&finding, "  ", "  ", width);
    }
    for doubt in doubts(outcome) {
        text += &style.bad(&wrapped(&doubt, "  ", "  ", width));
    }
    if let Some(warning) = outcome.busy {
        text += &wrapped(&warning.to_string(), "  ", "  ", width);
    }
    let mut notes = String::new();
    if let Some(row) = outcome.rows.first() {
        let source = source(row.kernel_bytes_source);
        let note = format!("kernel holds: {source}; RSS and kernel: growth since before the first read");
        notes += &wrapped(&note, "  ", "  ", width);
    }
    text + &style.dim(&notes)
}

/// The table as Markdown, with what was done above it and what it says below.
pub(crate) fn markdown(outcome: &Outcome) -> String {
    let mut text = format!("### {}\n\n{}", title(outcome), details(outcome).markdown());
    let busy = outcome.busy.map(|warning| warning.to_string());
    for said in findings(outcome).into_iter().chain(doubts(outcome)).chain(busy) {
        text += &format!("\n* {said}");
    }
    text + "\n"
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
    use super::{Outcome, Style, markdown, percent, render};

    #[test]
    fn a_busy_machine_is_told() {
        let quiet = Outcome::of_a_gibibyte();
        let busy = Outcome { busy: crate::busy::Busy::for_tests(), ..Outcome::of_a_gibibyte() };
        for (outcome, told) in [(quiet, false), (busy, true)] {
            let texts = [render(&outcome, 80, Style::plain()), markdown(&outcome)];
            assert_eq!(texts.map(|text| text.contains("This machine was busy")), [told; 2]);
        }
    }

    #[test]
    fn a_share_reads_as_it_was_given() {
        assert_eq!([0.01, 0.3, 0.0001, 1.0].map(percent), ["1 %", "30 %", "0.01 %", "100 %"]);
    }
}
