//! Reports: one HTML file each with everything in it, readable in light and dark, on a phone and on
//! paper.

mod axis;
mod chart;
#[cfg(test)]
mod frames;
mod machine;

use std::fmt::Display;

pub(crate) use axis::{Scale, Unit};
#[cfg(feature = "bench")]
pub(crate) use chart::{Bar, bars, nth_colour};
pub(crate) use chart::{Below, Chart, Curve, Shape};
#[cfg(test)]
pub(crate) use frames::assert_readable;
pub(crate) use machine::machine;

const STYLE: &str = include_str!("page.css");

/// A page in the making.
pub(crate) struct Page {
    title: &'static str,
    body: String,
}

impl Page {
    /// With this name in the browser's tab.
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, body: String::new() }
    }

    /// Adds what is HTML already.
    pub(crate) fn raw(&mut self, html: impl Display) {
        self.body += &format!("{html}\n");
    }

    /// Adds a heading of the first level, which says what was found.
    pub(crate) fn headline(&mut self, text: &str) {
        self.raw(format_args!("<h1>{}</h1>", escaped(text)));
    }

    /// Adds a heading.
    pub(crate) fn heading(&mut self, text: &str) {
        self.raw(format_args!("<h2>{}</h2>", escaped(text)));
    }

    /// Adds a paragraph.
    pub(crate) fn say(&mut self, text: &str) {
        self.raw(format_args!("<p>{}</p>", escaped(text)));
    }

    /// Adds a paragraph of explanation.
    pub(crate) fn explain(&mut self, text: &str) {
        self.raw(format_args!("<p class=\"key\">{}</p>", escaped(text)));
    }

    /// Adds a paragraph that says that something is right, or is wrong.
    pub(crate) fn verdict(&mut self, is_good: bool, text: &str) {
        let class = if is_good { "good" } else { "bad" };
        self.raw(format_args!("<p class=\"{class}\">{}</p>", escaped(text)));
    }

    /// The whole file.
    pub(crate) fn finish(self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{}\
             <footer>{}</footer>\n</body>\n</html>\n",
            self.title,
            self.body,
            escaped(&machine()),
        )
    }
}

/// Text that may come from a file name or a trace, safe inside HTML.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_are_only_text() {
        assert_eq!(escaped("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
