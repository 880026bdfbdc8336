//! A look as a picture: the page as a terminal shows it, for those who see no terminal.

use std::fmt::Write;

use super::text::{Line, Lines, Paint};
use crate::page::escaped;

/// A letter's place.
const COLUMN: f64 = 7.8;
const ROW: f64 = 18.0;
/// Around everything.
const MARGIN: f64 = 14.0;

const STYLE: &str = "<style>
text { font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-size: 13px; fill: #1b1f24; white-space: pre; } .paper { fill: #ffffff; stroke: #c3cad2; }
.bold { font-weight: 700; } .dim { fill: #6b7580; } text.whole, rect.whole { fill: #1f5fae; } text.kept, rect.kept { fill: #b56a00; } .bad { fill: #b3261e; font-weight: 700; } rect.plain { fill: #8a949e; }
@media (prefers-color-scheme: dark) { text { fill: #e6e9ed; } .paper { fill: #14171b; stroke: #39414b; } .dim { fill: #9aa4b0; } text.whole, rect.whole { fill: #7db6f5; }
text.kept, rect.kept { fill: #e2a24a; } .bad { fill: #ff8a80; } }
</style>
";

fn class(paint: Paint) -> &'static str {
    match paint {
        Paint::Plain => "plain",
        Paint::Bold | Paint::Cursor => "bold",
        Paint::Dim => "dim",
        Paint::Whole => "whole",
        Paint::Kept => "kept",
        Paint::Bad => "bad",
    }
}

/// A whole SVG file of these pages, below each other; `described` is for those who don't see it.
pub(crate) fn drawn(pages: &[Lines], described: &str) -> String {
    let lines: Vec<Line> = pages.join(&Line::new());
    let columns = |line: &Line| line.iter().map(|(_, piece)| piece.chars().count()).sum::<usize>();
    let widest = lines.iter().map(columns).max().unwrap_or(0);
    let (width, height) = (widest as f64 * COLUMN + 2.0 * MARGIN, lines.len() as f64 * ROW + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{}\">\n\
         {STYLE}<rect class=\"paper\" x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"6\"/>\n",
        escaped(described),
        width - 1.0,
        height - 1.0
    );
    for (row, line) in lines.iter().enumerate() {
        let (mut column, top) = (0, MARGIN + row as f64 * ROW);
        for (paint, piece) in line {
            draw(&mut svg, class(*paint), piece, column, top);
            column += piece.chars().count();
        }
    }
    svg + "</svg>\n"
}

/// A piece of a line. Full blocks are drawn, as fonts leave gaps between them; letters are spaced
/// so that they stand below each other in any font.
fn draw(svg: &mut String, class: &str, piece: &str, mut column: usize, top: f64) {
    let mut rest = piece;
    while let Some(first) = rest.chars().next() {
        let is_block = |letter: char| letter == '█';
        let end = rest.find(|letter| is_block(letter) != is_block(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        let (n, x) = (run.chars().count(), MARGIN + column as f64 * COLUMN);
        let (wide, shown) = (n as f64 * COLUMN, run.trim_end());
        let _ = match is_block(first) {
            true => writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{:.1}\"/>",
                top + 1.5,
                ROW - 3.0
            ),
            false if shown.is_empty() => Ok(()),
            false => {
                let indent = shown.chars().take_while(|letter| *letter == ' ').count();
                let letters = shown.trim_start();
                writeln!(
                    svg,
                    "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" textLength=\"{:.1}\">{}</text>",
                    x + indent as f64 * COLUMN,
                    top + 13.5,
                    letters.chars().count() as f64 * COLUMN,
                    escaped(letters)
                )
            }
        };
        (rest, column) = (after, column + n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stand_where_a_terminal_shows_them() {
        let page = vec![
            vec![(Paint::Bold, "a <name>".to_owned())],
            vec![(Paint::Dim, "  1 MiB  ".to_owned()), (Paint::Whole, "███·".to_owned())],
        ];
        let svg = drawn(&[page.clone(), page], "what it is");
        assert!(
            svg.contains("viewBox=\"0 0 129 118\"") && svg.contains("aria-label=\"what it is\""),
            "{svg}"
        );
        assert!(svg.contains(
            "<text class=\"bold\" x=\"14.0\" y=\"27.5\" textLength=\"62.4\">a &lt;name&gt;</text>"
        ));
        assert!(svg.contains("<text class=\"dim\" x=\"29.6\" y=\"45.5\" textLength=\"39.0\">1 MiB</text>"));
        assert!(svg.contains("<rect class=\"whole\" x=\"84.2\" y=\"33.5\" width=\"23.4\" height=\"15.0\"/>"));
        assert!(svg.contains("<text class=\"whole\" x=\"107.6\""));
        assert_eq!(svg.matches("<text").count(), 6);
    }
}
