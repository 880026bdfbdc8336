//! An outcome for people: what was replayed, what it cost, and what Linux pays for the same.

use std::fmt::Write;

use tailpin_replay::Outcome;

use crate::style::Style;
use crate::units::{bytes, grouped, time};

/// One line of the comparison: what, here, Linux.
pub(crate) type Compared = (&'static str, String, String);

/// What the replay did, by name.
pub(crate) fn facts(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let count = |number: u64| grouped(number);
    let mut facts = vec![
        ("events", format!("{} in {}", count(outcome.events), time(outcome.elapsed_ns))),
        ("speed", speed(outcome)),
        ("allocations", count(outcome.tally.allocs)),
        ("frees", count(outcome.tally.frees)),
        (
            "splits",
            match outcome.tally.splits_under_pins {
                0 => count(outcome.tally.splits),
                pinned => {
                    format!(
                        "{}, {} of them while pages were pinned",
                        count(outcome.tally.splits),
                        count(pinned)
                    )
                }
            },
        ),
        ("pins, unpins", format!("{}, {}", count(outcome.tally.pins), count(outcome.tally.unpins))),
        (
            "merges",
            format!("{} in {} looks at an area", count(outcome.tally.merges), count(outcome.tally.collapses)),
        ),
        (
            "most in use",
            format!(
                "{} frames ({}); {} of {} areas of 2 MiB whole and free then",
                count(outcome.peak_used_frames),
                bytes(outcome.peak_used_frames * 4096),
                count(outcome.huge_free_at_peak),
                count(outcome.zone_frames / tailpin::AREA_FRAMES as u64)
            ),
        ),
        (
            "left at the end",
            format!("{} frames, as the trace leaves them", count(outcome.live_frames_at_end)),
        ),
    ];
    if outcome.live_frames_at_end != outcome.trace_live_frames_at_end
        && let Some(last) = facts.last_mut()
    {
        let trace = count(outcome.trace_live_frames_at_end);
        last.1 = format!("{} frames, where the trace has {trace}", count(outcome.live_frames_at_end));
    }
    facts
}

fn speed(outcome: &Outcome) -> String {
    let speed = format!("{:.2} million events/s", outcome.events_per_s as f64 / 1e6);
    if outcome.rounds == 1 { speed } else { format!("{speed}, the fastest of {} rounds", outcome.rounds) }
}

/// What it costs here and in Linux.
pub(crate) fn compared(outcome: &Outcome) -> Vec<Compared> {
    let linux_bytes = outcome.linux_metadata_bytes_per_frame * outcome.zone_frames;
    let our_bytes = (outcome.metadata_bytes_per_frame * outcome.zone_frames as f64) as u64;
    let mut lines = vec![
        (
            "metadata for each 4 KiB page",
            format!("{:.2} B", outcome.metadata_bytes_per_frame),
            format!("{} B", outcome.linux_metadata_bytes_per_frame),
        ),
        ("metadata of this zone", bytes(our_bytes), bytes(linux_bytes)),
        (
            "splits refused",
            "0".to_owned(),
            outcome.linux_thp_split_page_failed.map_or("none recorded".to_owned(), grouped),
        ),
    ];
    if outcome.tally.refused_by_linux > 0 {
        lines.push((
            "of those replayed, frames freed at once",
            grouped(outcome.tally.freed_at_once_frames),
            "0".into(),
        ));
    }
    if outcome.linux_split_later_ns > 0 {
        lines.push((
            "splits came later, in all, at most by",
            "0 s".into(),
            time(outcome.linux_split_later_ns),
        ));
    }
    lines
}

/// `clean`, or everything that is wrong.
pub(crate) fn verdict(outcome: &Outcome) -> String {
    if outcome.is_clean() {
        return "clean: 0 violations, 0 frames leaked, 0 events skipped".to_owned();
    }
    format!(
        "NOT CLEAN: {} violations, {} frames leaked, {} events skipped, {} failed allocations",
        grouped(outcome.violations),
        grouped(outcome.leaked_frames),
        grouped(outcome.tally.skipped),
        grouped(outcome.tally.failed_allocs)
    )
}

/// The whole table.
pub(crate) fn render(outcome: &Outcome, style: Style) -> String {
    let mut text = String::new();
    let threads =
        if outcome.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", outcome.threads) };
    let title = format!("{}, {} protocol, {threads}", outcome.trace, outcome.protocol.name());
    let _ = writeln!(text, "{}\n", style.bold(&title));
    for (name, value) in facts(outcome) {
        let _ = writeln!(text, "  {} {value}", style.dim(&format!("{name:<16}")));
    }
    let _ = writeln!(
        text,
        "\n  {:<40}{:>16}{:>16}",
        "",
        style.bold(&right("tailpin")),
        style.bold(&right("Linux"))
    );
    for (name, ours, linux) in compared(outcome) {
        let _ = writeln!(text, "  {}{ours:>16}{linux:>16}", style.dim(&format!("{name:<40}")));
    }
    let verdict = verdict(outcome);
    let verdict = if outcome.is_clean() { style.good(&verdict) } else { style.bad(&verdict) };
    let _ = writeln!(text, "\n  {verdict}");
    for finding in &outcome.findings {
        let _ = writeln!(text, "    {finding}");
    }
    text
}

/// Padded before it is coloured: escape codes have no width.
fn right(text: &str) -> String {
    format!("{text:>16}")
}
