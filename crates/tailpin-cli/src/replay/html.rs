//! The report: one HTML file with everything in it, readable in light and dark.

use std::fmt::Write;

use tailpin_replay::{INTERVALS, Outcome, Point, Timeline};

use super::table::{compared, facts, verdict};
use crate::page::escaped;
use crate::units::{bytes, grouped, time};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 180.0;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>tailpin replay</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6571; --line: #d5dae0; --paper: #ffffff;
  --all: #9db8d9; --huge: #2f6db5; --pins: #c2571a; --good: #1f7a3f; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #9aa4b0; --line: #39414b; --paper: #14171b;
    --all: #3d5878; --huge: #6ea8ea; --pins: #f0985c; --good: #6fce92; --bad: #ff8a80; }
}
body { margin: 2rem auto; max-width: 56rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; overflow-wrap: anywhere; }
h3 { font-size: 0.95rem; margin: 1.5rem 0 0.25rem; font-weight: 600; }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0; }
td, th { border-bottom: 1px solid var(--line); padding: 0.3rem 0.6rem 0.3rem 0; text-align: left; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td:first-child, figcaption, .key { color: var(--soft); }
figure { margin: 0; } svg { width: 100%; height: auto; display: block; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
.swatch { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 2px; margin: 0 0.3em 0 0.8em; }
</style>
</head>
<body>
<h1>tailpin replay</h1>
"#;

/// A page in the making.
#[derive(Default)]
pub(crate) struct Page {
    body: String,
}

impl Page {
    /// Adds the section of one replay.
    pub(crate) fn add(&mut self, outcome: &Outcome, timeline: &Timeline) {
        let body = &mut self.body;
        let copies =
            if outcome.threads == 1 { "1 thread".into() } else { format!("{} threads", outcome.threads) };
        let title = format!("{}, {} protocol, {copies}", outcome.trace, outcome.protocol.name());
        let class = if outcome.is_clean() { "good" } else { "bad" };
        let _ = writeln!(body, "<h2>{}</h2>\n<p class=\"{class}\">{}</p>", escaped(&title), verdict(outcome));
        for finding in &outcome.findings {
            let _ = writeln!(body, "<p class=\"bad\">{}</p>", escaped(finding));
        }
        charts(body, timeline);
        let _ = writeln!(body, "<h3>What was done</h3>\n<table>");
        for (name, value) in facts(outcome) {
            let _ = writeln!(body, "<tr><td>{name}</td><td class=\"n\">{}</td></tr>", escaped(&value));
        }
        let _ = writeln!(body, "</table>\n<h3>What it costs</h3>\n{}", compared(outcome).html());
    }

    /// The whole file.
    pub(crate) fn finish(self) -> String {
        format!("{HEAD}{}</body>\n</html>\n", self.body)
    }
}

fn charts(body: &mut String, timeline: &Timeline) {
    let all = |point: &Point| point.frames;
    let huge = |point: &Point| point.huge_frames;
    chart(
        body,
        timeline,
        "Live memory of the trace",
        &[("all", "all frames", &all), ("huge", "in blocks of 2 MiB and more", &huge)],
        &|frames| bytes(frames * 4096),
    );
    if timeline.points.iter().any(|point| point.pinned_frames > 0) {
        let pages = |point: &Point| point.pinned_frames;
        let blocks = |point: &Point| point.pinned_blocks;
        chart(body, timeline, "Pinned pages", &[("pins", "pages with a pin", &pages)], &grouped);
        chart(
            body,
            timeline,
            "Blocks that Linux could not have split, because a page in them was pinned",
            &[("pins", "blocks of more than one page with a pinned page", &blocks)],
            &grouped,
        );
    }
}

/// Colour, meaning and value of one curve.
type Curve<'c> = (&'static str, &'static str, &'c dyn Fn(&Point) -> u64);

fn chart(
    body: &mut String,
    timeline: &Timeline,
    title: &str,
    curves: &[Curve<'_>],
    label: &dyn Fn(u64) -> String,
) {
    let values = |curve: &Curve<'_>| timeline.points.iter().map(curve.2).collect::<Vec<u64>>();
    let top = curves.iter().flat_map(values).max().unwrap_or(0).max(1);
    let _ = writeln!(body, "<h3>{title}</h3>\n<figure>");
    let _ = writeln!(
        body,
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{title}, at most {}\">",
        HEIGHT + 26.0,
        label(top)
    );
    let heights = (0..=2_u32).map(|part| (part, HEIGHT - HEIGHT * 0.9 * f64::from(part) / 2.0));
    for (_, y) in heights.clone() {
        let _ = writeln!(
            body,
            "<line x1=\"0\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"var(--line)\"/>"
        );
    }
    for curve in curves {
        let points = values(curve);
        let step = WIDTH / INTERVALS as f64;
        let mut path = format!("M0 {HEIGHT:.1}");
        let mut x = 0.0;
        for value in points {
            let y = HEIGHT - HEIGHT * 0.9 * value as f64 / top as f64;
            let _ = write!(path, "L{x:.1} {y:.1}H{:.1}", x + step);
            x += step;
        }
        let _ = write!(path, "V{HEIGHT:.1}Z");
        let colour = curve.0;
        let _ = writeln!(
            body,
            "<path d=\"{path}\" fill=\"var(--{colour})\" fill-opacity=\"0.55\" stroke=\"var(--{colour})\"/>"
        );
    }
    for (part, y) in heights {
        let value = label(top * u64::from(part) / 2);
        let _ = writeln!(
            body,
            "<text x=\"4\" y=\"{:.1}\" font-size=\"12\" fill=\"var(--ink)\">{value}</text>",
            y - 4.0
        );
    }
    for part in 0..=4_u32 {
        let x = WIDTH * f64::from(part) / 4.0;
        let anchor = ["start", "middle", "middle", "middle", "end"][part as usize];
        let at = time(timeline.duration_ns / 4 * u64::from(part));
        let _ = writeln!(
            body,
            "<text x=\"{x}\" y=\"{:.1}\" font-size=\"12\" text-anchor=\"{anchor}\" fill=\"var(--soft)\">{at}</text>",
            HEIGHT + 18.0
        );
    }
    body.push_str("</svg>\n<figcaption class=\"key\">");
    for (colour, meaning, _) in curves {
        let _ = write!(body, "<span class=\"swatch\" style=\"background:var(--{colour})\"></span>{meaning}");
    }
    body.push_str("; the highest in each of 400 intervals</figcaption>\n</figure>\n");
}
