//! Colours on a terminal, plain text elsewhere.

use std::borrow::Cow;
use std::io::IsTerminal;

/// Columns of a terminal that doesn't say how many it has.
const USUAL_COLUMNS: usize = 80;

/// How wide the terminal is that this process runs in.
pub(crate) fn columns() -> usize {
    terminal_size::terminal_size().map_or(USUAL_COLUMNS, |(width, _)| usize::from(width.0))
}

/// Widest text that is read with ease; wider terminals leave the rest empty.
const MOST_COLUMNS: usize = 100;

/// How wide text on standard output may be: as the terminal, or where there is none, as is read
/// with ease.
pub(crate) fn width() -> usize {
    if std::io::stdout().is_terminal() { columns().min(MOST_COLUMNS) } else { MOST_COLUMNS }
}

/// `text` in lines of at most `width` columns, the first one after `first` and the others after
/// `rest`. A word that is longer has a line of its own.
pub(crate) fn wrapped(text: &str, first: &str, rest: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > width {
            lines += line.trim_end();
            lines.push('\n');
            line = rest.to_owned();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    lines + line.trim_end() + "\n"
}

/// Text of another program's, a name above all, in which nothing is an order to the terminal.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let is_order = |letter: char| letter.is_control() && !['\n', '\t'].contains(&letter);
    if text.contains(is_order) { text.replace(is_order, "\u{fffd}").into() } else { text.into() }
}

/// Whether text for standard output is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    coloured: bool,
}

impl Style {
    /// Coloured on a terminal that wants it.
    pub(crate) fn for_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let able = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self { coloured: wanted && able && std::io::stdout().is_terminal() }
    }

    /// Without colours.
    pub(crate) const fn plain() -> Self {
        Self { coloured: false }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Titles.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Labels.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// All is well.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Something is wrong.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }
}

#[cfg(test)]
mod tests {
    use super::{harmless, wrapped};

    #[test]
    fn names_give_the_terminal_no_orders() {
        assert_eq!(harmless("\x1b[2Ja\rb\u{9b}c\x7f"), "\u{fffd}[2Ja\u{fffd}b\u{fffd}c\u{fffd}");
        assert_eq!(harmless("two\nlines, ü"), "two\nlines, ü");
    }

    #[test]
    fn lines_are_no_wider_than_they_may_be() {
        assert_eq!(wrapped("one two three", "- ", "  ", 9), "- one two\n  three\n");
        assert_eq!(wrapped("incomprehensible words", "", "", 5), "incomprehensible\nwords\n");
        assert_eq!(wrapped("", "x ", "", 5), "x\n");
    }
}
