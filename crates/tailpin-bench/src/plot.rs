//! Pictures in plain SVG.

use std::fmt::Write;

use crate::report::Row;
use crate::table::ns;

const WIDTH: f64 = 860.0;
const LABEL: f64 = 210.0;
const LINE: f64 = 22.0;

/// One bar per subject from its fastest to its slowest repetition, a mark at the median, on a
/// logarithmic scale.
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

/// One line of a picture of several.
pub(crate) struct Curve<'c> {
    pub(crate) name: &'c str,
    /// Where it has a value: number of the place, and how much.
    pub(crate) points: Vec<(usize, f64)>,
}

/// Moves labels up, from the lowest on, until none lies over another.
fn apart(mut labels: Vec<(&str, f64)>) -> Vec<(&str, f64)> {
    labels.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut free = f64::MAX;
    for (_, y) in &mut labels {
        *y = y.min(free);
        free = *y - 14.0;
    }
    labels
}

/// Curves over evenly spaced places with these labels, from zero up; the first is ours, and its
/// values are written out. `limit`: a dashed line at that height.
pub(crate) fn curves(labels: &[String], curves: &[Curve<'_>], limit: Option<f64>, title: &str) -> String {
    let (height, room) = (180.0, WIDTH - LABEL);
    let values = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1)).chain(limit);
    let top = values.fold(f64::MIN_POSITIVE, f64::max) * 1.15;
    let step = room / labels.len().max(1) as f64;
    let x = |place: usize| step * (place as f64 + 0.5);
    let y = |value: f64| height - height * value / top;
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{title}\">\n", height + 22.0);
    if let Some(limit) = limit {
        let y = y(limit);
        let _ = writeln!(svg, "<line class=\"goal\" x1=\"0\" x2=\"{room}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
    }
    for (i, curve) in curves.iter().enumerate().rev() {
        let class = if i == 0 { "ours" } else { "peer" };
        let line: Vec<String> =
            curve.points.iter().map(|&(place, value)| format!("{:.1},{:.1}", x(place), y(value))).collect();
        let _ = writeln!(svg, "<polyline class=\"curve {class}-line\" points=\"{}\"/>", line.join(" "));
        for &(place, value) in &curve.points {
            let (x, y) = (x(place), y(value));
            let _ = writeln!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
            if i == 0 {
                let _ = writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} ns</text>",
                    y - 9.0,
                    ns(value)
                );
            }
        }
    }
    let ends = curves.iter().filter_map(|curve| Some((curve.name, y(curve.points.last()?.1))));
    let ends = ends.chain(limit.map(|limit| ("limit", y(limit))));
    for (name, y) in apart(ends.collect()) {
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{name}</text>", room + 8.0, y + 4.0);
    }
    for (place, label) in labels.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            x(place),
            height + 18.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::apart;

    #[test]
    fn labels_never_lie_over_each_other() {
        let placed = apart(vec![("a", 100.0), ("b", 101.0), ("c", 20.0), ("d", 99.0)]);
        assert_eq!(placed, [("b", 101.0), ("a", 87.0), ("d", 73.0), ("c", 20.0)]);
    }
}
