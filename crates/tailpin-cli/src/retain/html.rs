//! The report: one HTML file with everything in it, readable in light and dark.

use std::fmt::Write;

use super::keeper::BUFFER;
use super::picture;
use super::row::Ending;
use super::run::Outcome;
use super::table::{ending, findings, measured, percent, source, title};
use crate::units::{bytes, grouped};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 220.0;
/// Sizes of records on the curve, as powers of two: 64 B to 64 KiB.
const LEAST: i32 = 6;
const MOST: i32 = 16;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>tailpin retain</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6571; --line: #d5dae0; --paper: #ffffff;
  --bytes: #b3261e; --copy: #1f7a3f; --pins: #2f6db5; --hybrid: #8a4fbf; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #9aa4b0; --line: #39414b; --paper: #14171b;
    --bytes: #ff8a80; --copy: #6fce92; --pins: #6ea8ea; --hybrid: #c39af0; }
}
body { margin: 2rem auto; max-width: 56rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 2rem 0 0.5rem; }
table { border-collapse: collapse; width: 100%; } td, th { border-bottom: 1px solid var(--line);
  padding: 0.2rem 0.6rem 0.2rem 0; text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; } td:last-child { white-space: normal; }
td:first-child, th:first-child, td:last-child, th:last-child { text-align: left; }
svg { width: 100%; height: auto; display: block; } .curve text { font-size: 12px; fill: var(--soft); }
.curve path { fill: none; stroke-width: 2; } .axis { stroke: var(--line); } .key { color: var(--soft); }
.s-bytes { stroke: var(--bytes); } .s-copy { stroke: var(--copy); } .s-pins { stroke: var(--pins); }
.curve .f-bytes { fill: var(--bytes); } .curve .f-copy { fill: var(--copy); }
.curve .f-pins { fill: var(--pins); } .curve .f-hybrid { fill: var(--hybrid); }
</style>
</head>
<body>
"#;

/// The whole file.
pub(crate) fn render(outcome: &Outcome) -> String {
    let mut body = String::from(HEAD);
    let alive = outcome.rows.iter().map(|row| row.kept_bytes).max().unwrap_or(0);
    let held: Vec<_> = outcome
        .rows
        .iter()
        .map(|row| match row.outcome {
            Ending::Finished => format!("{} {}", row.backend.name(), measured(row.kernel_bytes)),
            Ending::OutOfMemory | Ending::Failed => format!("{} dead", row.backend.name()),
        })
        .collect();
    let _ = writeln!(
        body,
        "<h1>{} alive; the kernel holds: {}</h1>\n<p class=\"key\">{}.</p>",
        bytes(alive),
        held.join(", "),
        title(outcome)
    );
    if let (Some(limit), Some(by)) = (outcome.limit_bytes, outcome.limit_by) {
        let _ = writeln!(body, "<p>Each under a limit of {} ({}).</p>", bytes(limit), by.name());
    }
    body.push_str(&picture::render(outcome));
    body.push_str("<h2>Numbers</h2>\n<table><tr><th></th><th>alive</th><th>retained</th><th>RSS</th><th>kernel holds</th><th>given back</th><th>time</th><th>of it giving back</th><th></th></tr>\n");
    for row in &outcome.rows {
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.0} ms</td><td>{:.0} ms</td><td>{}</td></tr>",
            row.backend.name(),
            bytes(row.kept_bytes),
            measured(row.retained_bytes),
            measured(row.rss_bytes),
            measured(row.kernel_bytes),
            bytes(row.given_back_bytes),
            row.elapsed_ms,
            row.give_back_ms,
            escaped(&ending(row))
        );
    }
    body.push_str("</table>\n<ul>\n");
    for finding in findings(outcome) {
        let _ = writeln!(body, "<li>By the kernel's count, {finding}.</li>");
    }
    body.push_str("</ul>\n");
    let _ = writeln!(
        body,
        "<h2>What is kept as records grow, {} surviving</h2>\n<p class=\"key\">Lines: share of the log that must stay if \
         survivors are spread evenly and no overhead is paid, 1 − (1 − k)<sup>records in a unit</sup> with a unit of one \
         buffer, one page, or one record. Dots: this run, by the kernel's count.</p>",
        percent(outcome.keep)
    );
    curve(&mut body, outcome);
    let _ = writeln!(
        body,
        "<h2>Measured on</h2>\n<p>Linux {}, {} records in {}, {} CPUs. Kernel holds: {}.</p>",
        escaped(&outcome.kernel),
        grouped(outcome.records),
        bytes(outcome.log_bytes),
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        outcome.rows.first().map_or_else(String::new, |row| source(row.kernel_bytes_source))
    );
    body.push_str("</body>\n</html>\n");
    body
}

/// The share of units that hold a survivor, where each holds `unit` bytes of records of `record`
/// bytes.
fn share(keep: f64, unit: f64, record: f64) -> f64 {
    1.0 - (1.0 - keep).powf((unit / record).max(1.0))
}

fn curve(body: &mut String, outcome: &Outcome) {
    let (left, right, floor) = (44.0, 90.0, HEIGHT - 26.0);
    let room = WIDTH - left - right;
    let x = |record: f64| left + room * (record.log2() - f64::from(LEAST)) / f64::from(MOST - LEAST);
    let y = |share: f64| floor - (floor - 10.0) * share.min(1.0);
    let _ = writeln!(
        body,
        "<svg class=\"curve\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"share kept against size of records\">"
    );
    for tenth in [0, 5, 10] {
        let at = y(f64::from(tenth) / 10.0);
        let _ = writeln!(
            body,
            "<line class=\"axis\" x1=\"{left}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"0\" y=\"{:.1}\">{} %</text>",
            WIDTH - right,
            at + 4.0,
            tenth * 10
        );
    }
    for power in (LEAST..=MOST).step_by(2) {
        let _ = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{HEIGHT}\" text-anchor=\"middle\">{}</text>",
            x(f64::from(power).exp2()),
            bytes(1 << power)
        );
    }
    for (name, unit) in [("bytes", BUFFER as f64), ("pins", 4096.0), ("copy", 0.0)] {
        let mut line = String::new();
        for quarter in 0..=(MOST - LEAST) * 4 {
            let record = (f64::from(LEAST) + f64::from(quarter) / 4.0).exp2();
            let _ = write!(
                line,
                "{}{:.1} {:.1}",
                if quarter == 0 { "M" } else { "L" },
                x(record),
                y(share(outcome.keep, unit, record))
            );
        }
        let _ = writeln!(body, "<path class=\"s-{name}\" d=\"{line}\"><title>{name}</title></path>");
    }
    let record = f64::from(outcome.record_bytes);
    let mut labels: Vec<f64> = Vec::new();
    for row in &outcome.rows {
        let Some(held) = row.kernel_bytes.filter(|_| row.outcome == Ending::Finished) else { continue };
        if !(64.0..=65536.0).contains(&record) {
            continue;
        }
        let at = y(held as f64 / outcome.log_bytes as f64);
        // Names beside each other where the dots are on top of each other.
        let mut beside = (at - 8.0).max(24.0);
        while labels.iter().any(|label| (label - beside).abs() < 13.0) {
            beside -= 13.0;
        }
        labels.push(beside);
        let name = row.backend.name();
        let _ = writeln!(
            body,
            "<circle class=\"f-{name}\" cx=\"{0:.1}\" cy=\"{at:.1}\" r=\"4\"/><text class=\"f-{name}\" x=\"{1:.1}\" y=\"{beside:.1}\">{name}</text>",
            x(record),
            x(record) + 8.0
        );
    }
    body.push_str("</svg>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn the_law_is_that_of_independent_survivors() {
        assert!((share(0.01, 4096.0, 1024.0) - 0.0394).abs() < 1e-4);
        assert!((share(0.01, 4096.0, 64.0) - 0.4744).abs() < 1e-3);
        assert_eq!(share(0.25, 4096.0, 65536.0), 0.25);
        assert_eq!(share(0.0, 4096.0, 64.0), 0.0);
    }
}
