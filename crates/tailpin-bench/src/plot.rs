//! Pictures in plain SVG.

use std::fmt::Write;

use crate::report::Row;
use crate::table::ns;

const WIDTH: f64 = 860.0;
const LABEL: f64 = 210.0;
const LINE: f64 = 22.0;

/// One bar per subject from its fastest to its slowest repetition, a mark at the median, on a logarithmic scale.
pub(crate) fn bars(rows: &[&Row], title: &str) -> String {
    let least = rows.iter().map(|row| row.ns_per_op_min).fold(f64::MAX, f64::min).max(0.01) / 1.15;
    let most = rows.iter().map(|row| row.ns_per_op_max).fold(least * 2.0, f64::max) * 1.15;
    let room = WIDTH - LABEL - 90.0;
    let x = |value: f64| LABEL + room * (value.max(least) / least).ln() / (most / least).ln();
    let height = LINE * rows.len() as f64;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n");
    for (i, row) in rows.iter().enumerate() {
        let y = LINE * i as f64;
        let class = match row.subject {
            "tailpin" => "ours",
            subject if subject.starts_with("bare-") => "bare",
            _ => "peer",
        };
        let (from, to, mid) = (x(row.ns_per_op_min), x(row.ns_per_op_max), x(row.ns_per_op_median));
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{:.1}\">{}</text><rect class=\"{class}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"12\"/>\
             <line class=\"mid\" x1=\"{mid:.1}\" x2=\"{mid:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text x=\"{WIDTH}\" y=\"{:.1}\" text-anchor=\"end\">{} ns</text>",
            y + 15.0,
            row.subject,
            y + 5.0,
            (to - from).max(2.0),
            y + 2.0,
            y + 20.0,
            y + 15.0,
            ns(row.ns_per_op_median),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A curve through `points`, evenly spaced, from zero up.
pub(crate) fn curve(points: &[(String, f64)], title: &str) -> String {
    let height = 160.0;
    let top = points.iter().map(|point| point.1).fold(0.0, f64::max) * 1.25;
    let step = WIDTH / points.len().max(1) as f64;
    let at = |i: usize, value: f64| (step * (i as f64 + 0.5), height - height * value / top);
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{title}\">\n", height + 22.0);
    let line: Vec<String> = points
        .iter()
        .enumerate()
        .map(|(i, point)| {
            let (x, y) = at(i, point.1);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    let _ = writeln!(svg, "<polyline class=\"curve\" points=\"{}\"/>", line.join(" "));
    for (i, (label, value)) in points.iter().enumerate() {
        let (x, y) = at(i, *value);
        let _ = writeln!(
            svg,
            "<circle class=\"ours\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} ns</text>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            y - 9.0,
            ns(*value),
            height + 18.0,
        );
    }
    svg.push_str("</svg>\n");
    svg
}
