//! Tables: for a terminal however narrow, as Markdown, and for a page.

use std::fmt::Write;

use crate::page::escaped;
use crate::style::{Style, wrapped};

/// Columns of a terminal that a column of words needs at least.
const LEAST_WORDS: usize = 14;

/// A table whose first column names its rows. Numbers stand at the right.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grid {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    /// How many of the last columns are words, which stand at the left.
    words: usize,
}

impl Grid {
    /// With these names over the columns; the first one may be empty.
    pub(crate) fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new(), words: 0 }
    }

    /// The last `columns` are words.
    pub(crate) fn with_words(mut self, columns: usize) -> Self {
        self.words = columns;
        self
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(cells.len(), self.head.len(), "a cell for each column");
        self.rows.push(cells);
    }

    #[cfg(feature = "bench")]
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn is_number(&self, column: usize) -> bool {
        column > 0 && column + self.words < self.head.len()
    }

    /// For a terminal of `width` columns: side by side where there is room, words in the last
    /// column wrapped if need be; else each row as a few lines.
    pub(crate) fn text(&self, width: usize, style: Style) -> String {
        let wide = |column: usize| {
            let cells = self.rows.iter().map(|row| &row[column]).chain([&self.head[column]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(wide).collect();
        let all = widths.iter().sum::<usize>() + 2 * widths.len();
        let last = widths.last().copied().unwrap_or(0);
        let (before, room) = (all - last, (width + last).saturating_sub(all));
        if all > width && (self.words == 0 || room < self.longest_word().max(LEAST_WORDS)) {
            return self.stacked(width, style);
        }
        let line = |cells: &[String]| {
            let mut line = String::new();
            for (column, (cell, wide)) in cells.iter().zip(&widths).enumerate() {
                let _ = match self.is_number(column) {
                    true => write!(line, "  {cell:>wide$}"),
                    false if all > width && column + 1 == widths.len() => {
                        let indent = " ".repeat(before);
                        write!(line, "  {}", wrapped(cell, &indent, &indent, width).trim())
                    }
                    false => write!(line, "  {cell:<wide$}"),
                };
            }
            line.trim_end().to_owned()
        };
        let mut text = String::new();
        if self.head.iter().any(|name| !name.is_empty()) {
            text = style.bold(&line(&self.head)) + "\n";
        }
        for row in &self.rows {
            text += &line(row);
            text.push('\n');
        }
        text
    }

    /// Letters of the longest word in the last column.
    fn longest_word(&self) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.last());
        cells.flat_map(|cell| cell.split_whitespace()).map(|word| word.chars().count()).max().unwrap_or(0)
    }

    fn stacked(&self, width: usize, style: Style) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let _ = writeln!(text, "{}", style.bold(wrapped(&row[0], "  ", "  ", width).trim_end()));
            for (name, cell) in self.head.iter().zip(row).skip(1).filter(|(_, cell)| !cell.is_empty()) {
                let gap = if name.is_empty() { "" } else { ": " };
                text += &wrapped(&format!("{name}{gap}{cell}"), "    ", "      ", width);
            }
        }
        text
    }

    /// As HTML, in a frame of its own that scrolls where it is wider than the page.
    pub(crate) fn html(&self) -> String {
        let line = |cells: &[String], tag: &str| {
            let mut line = "<tr>".to_owned();
            for (column, cell) in cells.iter().enumerate() {
                let class = if self.is_number(column) { " class=\"n\"" } else { "" };
                let _ = write!(line, "<{tag}{class}>{}</{tag}>", escaped(cell));
            }
            line + "</tr>\n"
        };
        let mut text = "<div class=\"scroll\"><table>\n".to_owned();
        if self.head.iter().any(|name| !name.is_empty()) {
            text += &line(&self.head, "th");
        }
        self.rows.iter().for_each(|row| text += &line(row, "td"));
        text + "</table></div>"
    }

    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = line(&self.head);
        let rule = |column| if self.is_number(column) { "---:" } else { "---" };
        text += &line(&(0..self.head.len()).map(|column| rule(column).to_owned()).collect::<Vec<_>>());
        self.rows.iter().for_each(|row| text += &line(row));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Grid;
    use crate::style::Style;

    fn sample() -> Grid {
        let mut grid = Grid::new(["", "tailpin", "Linux", ""]).with_words(1);
        grid.row(["splits refused", "0", "113", "of 193"]);
        grid.row(["bytes | page", "8.3", "64", ""]);
        grid
    }

    #[test]
    fn columns_stand_under_their_names() {
        let text = sample().text(80, Style::plain());
        assert_eq!(
            text,
            "                  tailpin  Linux\n  splits refused        0    113  of 193\n  bytes | page        8.3     64\n"
        );
    }

    #[test]
    fn where_there_is_no_room_a_row_is_a_few_lines() {
        let text = sample().text(30, Style::plain());
        assert!(text.starts_with("  splits refused\n    tailpin: 0\n    Linux: 113\n    of 193\n"), "{text}");
        let mut grid = Grid::new(["", "value", "remedy"]).with_words(1);
        grid.row(["memlock", "8 MiB", "ulimit -l unlimited, or LimitMEMLOCK=infinity in the service"]);
        for width in 27..80 {
            let text = grid.text(width, Style::plain());
            assert!(text.lines().all(|line| line.len() <= width), "{width}: {text}");
        }
        let text = grid.text(50, Style::plain());
        assert!(text.contains("\n  memlock  8 MiB  ulimit -l unlimited, or"), "{text}");
        assert!(text.contains("\n                  LimitMEMLOCK"), "{text}");
    }

    #[test]
    fn markdown_keeps_its_columns() {
        let text = sample().markdown();
        assert_eq!(text.lines().nth(1), Some("| --- | ---: | ---: | --- |"));
        assert_eq!(text.lines().last(), Some("| bytes \\| page | 8.3 | 64 |  |"));
    }
}
