//! The outcome as a picture: for each back end the whole log as a tank of cells, those filled that
//! the kernel still holds.

use std::fmt::Write;

use super::row::{Ending, Row};
use super::run::Outcome;
use super::table::title;
use crate::units::bytes;

/// Cells of a tank on one side; all of them are the log.
const SIDE: u64 = 32;
const CELL: u64 = 6;
const TANK: u64 = SIDE * CELL;
const GAP: u64 = 28;
/// Around everything, on the page's own ground, so that it can be read wherever it is shown.
const MARGIN: u64 = 12;
/// Room for names above and figures below.
const ABOVE: u64 = 34;
const BELOW: u64 = 52;

const STYLE: &str = "<style>
.tp { font-family: system-ui, sans-serif; } .tp .paper { fill: #ffffff; } .tp text { fill: #1b1f24; } .tp .soft { fill: #5b6571; }
.tp .empty { fill: #e9edf1; } .tp .held { fill: #e29a3a; } .tp .alive { fill: #1f5fae; } .tp .dead { stroke: #b3261e; }
.tp .edge { fill: none; stroke: #c3cad2; } .tp .limit { stroke: #b3261e; stroke-dasharray: 5 4; } .tp .name { font-weight: 600; }
@media (prefers-color-scheme: dark) { .tp .paper { fill: #14171b; } .tp text { fill: #e6e9ed; } .tp .soft { fill: #9aa4b0; } .tp .empty { fill: #262c33; }
.tp .held { fill: #c47f26; } .tp .alive { fill: #7db6f5; } .tp .dead { stroke: #ff8a80; } .tp .edge { stroke: #39414b; } .tp .limit { stroke: #ff8a80; } }
</style>
";

/// A whole SVG file, all tanks beside each other.
pub(crate) fn render(outcome: &Outcome) -> String {
    draw(outcome, outcome.rows.len(), "tp")
}

/// Bytes that a cell stands for.
pub(crate) fn cell_bytes(outcome: &Outcome) -> u64 {
    (outcome.log_bytes / (SIDE * SIDE)).max(1)
}

/// An SVG file with so many tanks in a row; `class` is that of the page, and names its patterns.
pub(crate) fn draw(outcome: &Outcome, columns: usize, class: &str) -> String {
    let cell = cell_bytes(outcome);
    let cells = |bytes: u64| bytes.div_ceil(cell);
    // What is held may be a little more than was ever read.
    let most = outcome.rows.iter().filter_map(|row| row.kernel_bytes).map(cells).max().unwrap_or(0);
    let over = most.div_ceil(SIDE).saturating_sub(SIDE) * CELL;
    let columns = columns.clamp(1, outcome.rows.len().max(1)) as u64;
    let lines = (outcome.rows.len() as u64).div_ceil(columns).max(1);
    let (width, floor) = (columns * (TANK + GAP) - GAP + 2 * MARGIN, ABOVE + over + TANK);
    let height = floor + BELOW;
    let all = lines * height;
    let names = class.replace(' ', "-");
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"{class}\" style=\"max-width: {width}px\" viewBox=\"-{MARGIN} 0 {width} {all}\" role=\"img\" aria-label=\"{}\">\n{STYLE}<defs>\n",
        described(outcome)
    );
    for kind in ["empty", "held", "alive"] {
        let _ = writeln!(
            svg,
            "<pattern id=\"{names}-{kind}\" width=\"{CELL}\" height=\"{CELL}\" y=\"{}\" patternUnits=\"userSpaceOnUse\"><rect class=\"{kind}\" width=\"{1}\" height=\"{1}\" rx=\"1\"/></pattern>",
            floor % CELL,
            CELL - 1
        );
    }
    let _ =
        writeln!(svg, "</defs>\n<rect class=\"paper\" x=\"-{MARGIN}\" width=\"{width}\" height=\"{all}\"/>");
    for (i, row) in (0..).zip(&outcome.rows) {
        let (x, y) = (i % columns * (TANK + GAP), i / columns * height);
        // The pattern begins with the tank, wherever that stands.
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        tank(&mut svg, &names, outcome, row, floor, cells);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn tank(svg: &mut String, names: &str, outcome: &Outcome, row: &Row, floor: u64, cells: impl Fn(u64) -> u64) {
    fill(svg, names, "empty", 0, SIDE * SIDE, floor);
    let alive = cells(row.kept_bytes);
    let limit = outcome.limit_bytes.filter(|_| row.outcome == Ending::OutOfMemory);
    // What died of the limit held that much.
    if let Some(held) = row.kernel_bytes.or(limit) {
        fill(svg, names, "held", alive, cells(held).max(alive), floor);
        fill(svg, names, "alive", 0, alive, floor);
    }
    let _ = writeln!(
        svg,
        "<rect class=\"edge\" x=\"-1\" y=\"{0}\" width=\"{1}\" height=\"{1}\"/><text class=\"name\" font-size=\"16\" x=\"0\" y=\"{2}\">{3}</text>",
        floor - TANK - 1,
        TANK + 1,
        ABOVE - 14,
        row.backend.name()
    );
    if let Some(limit) = outcome.limit_bytes {
        let y = floor.saturating_sub(cells(limit) * TANK / (SIDE * SIDE));
        let _ = writeln!(svg, "<line class=\"limit\" x1=\"-1\" x2=\"{TANK}\" y1=\"{y}\" y2=\"{y}\"/>");
    }
    let held = row.kernel_bytes.map(bytes);
    if row.outcome == Ending::Finished {
        let _ = writeln!(
            svg,
            "<text font-size=\"14\" x=\"0\" y=\"{}\">{}</text><text class=\"soft\" font-size=\"12\" x=\"0\" y=\"{}\">{} alive</text>",
            floor + 22,
            held.unwrap_or_default(),
            floor + 42,
            bytes(row.kept_bytes)
        );
    } else {
        let (near, far) = (TANK / 3, TANK * 2 / 3);
        let _ = writeln!(
            svg,
            "<path class=\"dead\" stroke-width=\"10\" d=\"M{near} {0}L{far} {1}M{far} {0}L{near} {1}\"/><text font-size=\"14\" x=\"0\" y=\"{2}\">† {3} of {4}</text>",
            floor - far,
            floor - near,
            floor + 22,
            bytes(row.read_bytes),
            bytes(outcome.log_bytes)
        );
    }
}

/// Fills cells `from..to`, counted from the bottom left, row by row.
fn fill(svg: &mut String, names: &str, kind: &str, from: u64, to: u64, floor: u64) {
    let mut at = from;
    while at < to {
        let (row, column) = (at / SIDE, at % SIDE);
        // A row begun, or as many whole rows as there are.
        let (wide, high) = if column > 0 || to - at < SIDE {
            ((SIDE - column).min(to - at), 1)
        } else {
            (SIDE, (to - at) / SIDE)
        };
        let _ = writeln!(
            svg,
            "<rect fill=\"url(#{names}-{kind})\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            column * CELL,
            floor - (row + high) * CELL,
            wide * CELL,
            high * CELL
        );
        at += wide * high;
    }
}

/// For readers that hear the picture read.
fn described(outcome: &Outcome) -> String {
    let mut text = format!("{}. Held by the kernel:", title(outcome));
    for row in &outcome.rows {
        let held = row.kernel_bytes.map_or_else(|| "dead".to_owned(), bytes);
        let _ = write!(text, " {} {held},", row.backend.name());
    }
    text.trim_end_matches(',').to_owned()
}

#[cfg(test)]
mod tests {
    use super::{CELL, fill};

    /// The area of all rectangles in `svg`, in cells.
    fn area(svg: &str) -> u64 {
        let number = |line: &str, key: &str| -> u64 {
            let rest = line.split(&format!("{key}=\"")).nth(1).unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        };
        svg.lines().map(|line| number(line, "width") * number(line, "height") / (CELL * CELL)).sum()
    }

    #[test]
    fn as_many_cells_are_filled_as_are_meant() {
        for (from, to) in
            [(0, 0), (0, 1), (0, 32), (5, 9), (5, 40), (31, 1024), (0, 1024), (64, 97), (10, 1030)]
        {
            let mut svg = String::new();
            fill(&mut svg, "tp", "held", from, to, 1000);
            assert_eq!(area(&svg), to - from, "{from}..{to}: {svg}");
        }
    }
}
