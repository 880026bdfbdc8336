//! Colours on a terminal, plain text elsewhere.

use std::io::IsTerminal;

/// Columns of a terminal that doesn't say how many it has.
const USUAL_COLUMNS: usize = 80;

/// How wide the terminal is that this process runs in.
pub(crate) fn columns() -> usize {
    terminal_size::terminal_size().map_or(USUAL_COLUMNS, |(width, _)| usize::from(width.0))
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
    #[cfg(test)]
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
