//! The report as one HTML file with everything in it, readable in light and dark.

use std::fmt::Write;

use crate::goals::judge;
use crate::plot::{bars, curve};
use crate::report::Report;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>tailpin bench</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6571; --line: #d5dae0; --paper: #ffffff;
  --ours: #2f6db5; --peer: #b9c3cf; --bare: #c2571a; --good: #1f7a3f; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #9aa4b0; --line: #39414b; --paper: #14171b;
    --ours: #6ea8ea; --peer: #56616e; --bare: #f0985c; --good: #6fce92; --bad: #ff8a80; }
}
body { margin: 2rem auto; max-width: 56rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.05rem; margin: 2rem 0 0.25rem; }
table { border-collapse: collapse; width: 100%; } td, th { border-bottom: 1px solid var(--line);
  padding: 0.2rem 0.6rem 0.2rem 0; text-align: left; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 12px; fill: var(--ink); }
.ours { fill: var(--ours); } .peer { fill: var(--peer); } .bare { fill: var(--bare); }
.mid { stroke: var(--ink); stroke-width: 2; } .curve { fill: none; stroke: var(--ours); stroke-width: 2; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; } .key { color: var(--soft); }
</style>
</head>
<body>
<h1>tailpin bench</h1>
<p class="key">Nanoseconds per operation on each thread. Bars reach from the fastest to the slowest repetition, the mark is the
median; each picture has a logarithmic scale of its own.</p>
"#;

/// The whole file.
pub fn html(report: &Report) -> String {
    let mut body = String::from(HEAD);
    body.push_str("<h2>Goals</h2>\n<table><tr><th>scenario</th><th>threads</th><th>goal</th><th>reached</th><th></th></tr>\n");
    for one in judge(report) {
        let (class, word) = if one.won { ("good", "won") } else { ("bad", "lost") };
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{:.2}</td><td class=\"{class}\">{word}</td></tr>",
            one.scenario, one.threads, one.goal, one.reached
        );
    }
    body.push_str("</table>\n");
    for (part, unit) in [("-o0", "growth-"), ("-o9", "growth-")] {
        let points: Vec<(String, f64)> = report
            .rows
            .iter()
            .filter(|row| {
                row.subject == "tailpin" && row.scenario.starts_with(unit) && row.scenario.ends_with(part)
            })
            .map(|row| {
                let label =
                    row.scenario.trim_start_matches(unit).trim_end_matches(part).trim_start_matches('0');
                (label.replace("gib", " GiB"), row.ns_per_op_median)
            })
            .collect();
        draw(&mut body, &points, &format!("Cost of a pair as the zone grows, order {}", &part[2..]));
    }
    for scenario in ["pair-o0-fresh", "pair-o9"] {
        let points: Vec<(String, f64)> = report
            .rows
            .iter()
            .filter(|row| row.subject == "tailpin" && row.scenario == scenario)
            .map(|row| (format!("{} threads", row.threads), row.ns_per_op_median))
            .collect();
        draw(&mut body, &points, &format!("{scenario} as threads are added"));
    }
    for (scenario, threads) in report.scenarios() {
        let plural = if threads == 1 { "" } else { "s" };
        let title = format!("{scenario}, {threads} thread{plural}");
        let _ = writeln!(body, "<h2>{title}</h2>\n{}", bars(&report.of(scenario, threads), &title));
    }
    body.push_str("</body>\n</html>\n");
    body
}

fn draw(body: &mut String, points: &[(String, f64)], title: &str) {
    if points.len() > 1 {
        let _ = writeln!(body, "<h2>{title}</h2>\n{}", curve(points, title));
    }
}
