//! The report as one HTML file with everything in it, readable in light and dark.

use std::fmt::Write;

use crate::judge::{best_peer, judge};
use crate::plot::{Curve, bars, curves};
use crate::report::Report;
use crate::table::amount;

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
.mid { stroke: var(--ink); stroke-width: 2; } .curve { fill: none; stroke-width: 2; }
.ours-line { stroke: var(--ours); } .peer-line { stroke: var(--peer); }
.goal { stroke: var(--bare); stroke-dasharray: 6 4; }
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
    goals(&mut body, report);
    growth(&mut body, report);
    threads(&mut body, report);
    for (scenario, threads) in report.scenarios() {
        let plural = if threads == 1 { "" } else { "s" };
        let title = format!("{scenario}, {threads} thread{plural}");
        let _ = writeln!(body, "<h2>{title}</h2>\n{}", bars(&report.of(scenario, threads), &title));
    }
    body.push_str("</body>\n</html>\n");
    body
}

fn goals(body: &mut String, report: &Report) {
    body.push_str("<h2>Goals</h2>\n<table><tr><th>goal</th><th>threads</th><th>wanted</th><th>measured</th><th></th></tr>\n");
    for one in judge(report) {
        let (class, word) = if one.met { ("good", "met") } else { ("bad", "lost") };
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{:.2}</td><td class=\"{class}\">{word}</td></tr>",
            one.goal, one.threads, one.wanted, one.measured
        );
    }
    body.push_str("</table>\n");
    if !report.facts.is_empty() {
        body.push_str("<h2>Metadata, start, and memory kept</h2>\n<table>\n");
    }
    for fact in &report.facts {
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{} {}</td></tr>",
            fact.fact,
            fact.subject,
            amount(fact.value),
            fact.unit
        );
    }
    if !report.facts.is_empty() {
        body.push_str("</table>\n");
    }
}

fn growth(body: &mut String, report: &Report) {
    for (ending, what) in [
        ("o0", "order-0 pair, zone half full"),
        ("o0-batch", "page, 4,096 taken and freed at random, zone half full"),
        ("o9", "order-9 pair, zone half full"),
        ("mm-pin", "pin of a page, so much mapped"),
        ("mm-fault", "fault on a huge page, so much mapped"),
    ] {
        let points = report.growth(ending, "tailpin");
        let labels: Vec<String> = points.iter().map(|(gib, _)| format!("{gib} GiB")).collect();
        let values: Vec<f64> = points.iter().map(|(_, row)| row.ns_per_op_median).collect();
        let limit = values.first().map(|first| first * 1.3);
        let ours = Curve { name: "tailpin", points: values.into_iter().enumerate().collect() };
        draw(body, &labels, &[ours], limit, &format!("Growth: {what}"));
    }
}

/// Every scenario that ran on several numbers of threads: tailpin, classic, and the peer best on
/// one.
fn threads(body: &mut String, report: &Report) {
    let mut names: Vec<&str> = report.scenarios().into_iter().map(|(name, _)| name).collect();
    names.dedup();
    for scenario in names {
        let counts: Vec<usize> =
            report.scenarios().into_iter().filter(|(name, _)| *name == scenario).map(|(_, n)| n).collect();
        let Some(&least) = counts.first() else { continue };
        let peer = best_peer(report, scenario, least).map(|row| row.subject);
        let curves: Vec<Curve<'_>> = ["tailpin", "tailpin-classic"]
            .into_iter()
            .chain(peer)
            .map(|name| {
                let at = |(place, n): (usize, &usize)| {
                    report.row(scenario, name, *n).map(|row| (place, row.ns_per_op_median))
                };
                Curve { name, points: counts.iter().enumerate().filter_map(at).collect() }
            })
            .filter(|curve| !curve.points.is_empty())
            .collect();
        let labels: Vec<String> =
            counts.iter().map(|n| format!("{n} thread{}", if *n == 1 { "" } else { "s" })).collect();
        draw(body, &labels, &curves, None, &format!("Threads: {scenario}"));
    }
}

fn draw(body: &mut String, labels: &[String], lines: &[Curve<'_>], limit: Option<f64>, title: &str) {
    if labels.len() > 1 {
        let _ = writeln!(body, "<h2>{title}</h2>\n{}", curves(labels, lines, limit, title));
    }
}
