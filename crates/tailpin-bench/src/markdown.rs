//! The part of docs/performance-run.md that a run writes.

use std::fmt::Write;

use crate::profile::{self, Profiled};
use crate::report::Report;
use crate::table::{table, verdicts};

/// Between these lines a file is rewritten, the rest is left as it is.
const BEGIN: &str = "<!-- from here: tailpin bench --markdown -->";
const END: &str = "<!-- to here: tailpin bench --markdown -->";

/// Rows, verdicts and profile under headings.
pub fn markdown(report: &Report, profiled: &[Profiled]) -> String {
    let mut text = format!("{BEGIN}\n");
    let _ = writeln!(
        text,
        "\n{}; the run took {} s.\n\n```text\n{}```\n\n### Met and lost\n\n```text\n{}```",
        machine(report.cores),
        report.elapsed_ms / 1000,
        without_trailing_blanks(&table(report)),
        verdicts(report, true),
    );
    if !profiled.is_empty() {
        let _ = writeln!(text, "\n### Instructions\n\n```text\n{}```", profile::table(profiled));
    }
    let _ = writeln!(text, "\n{END}");
    text
}

/// `old` with the part between the two marks replaced by `part`; `part` alone if `old` has no such
/// marks.
pub fn replace(old: &str, part: &str) -> String {
    match (old.find(BEGIN), old.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            let rest = old[end + END.len()..].trim_start_matches('\n');
            let gap = if rest.is_empty() { "" } else { "\n" };
            format!("{}{part}{gap}{rest}", &old[..begin])
        }
        _ => part.to_owned(),
    }
}

fn without_trailing_blanks(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// What it ran on, as far as Linux tells.
fn machine(cores: usize) -> String {
    let value = |path: &str, key: &str| -> Option<String> {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':').map_or(line, |(_, value)| value).trim().to_owned())
    };
    let gib = |kib: String| Some(kib.split_whitespace().next()?.parse::<u64>().ok()? >> 20);
    let mut text = format!("{cores} cores");
    text.extend(value("/proc/cpuinfo", "model name").map(|cpu| format!(" of {cpu}")));
    text.extend(value("/proc/meminfo", "MemTotal").and_then(gib).map(|gib| format!(", {gib} GiB")));
    let release = value("/proc/sys/kernel/osrelease", "");
    let version = release.as_deref().and_then(|release| release.split('-').next());
    text.extend(version.map(|version| format!(", Linux {version}")));
    text
}

#[cfg(test)]
mod tests {
    use super::{markdown, replace};
    use crate::report::Report;

    #[test]
    fn only_the_marked_part_is_rewritten() {
        let part = markdown(&Report::default(), &[]);
        let old = format!("# Title\n\ntext\n\n{part}\n## After\n");
        let new = replace(&old, &part.replace("cores of", "CORES OF"));
        assert!(new.starts_with("# Title\n\ntext\n\n<!--") && new.ends_with("-->\n\n## After\n"), "{new}");
        assert!(new.contains("CORES OF") && !new.contains("cores of"));
        assert_eq!(replace(&old, &part), old, "what is the same stays the same");
        assert_eq!(replace("# no marks", &part), part);
    }
}
