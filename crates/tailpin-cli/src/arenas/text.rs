//! Text in paints, which a page and a live screen each show in their own way.

use crate::style::{Style, harmless};

/// What a piece of text is, for the eye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    /// Names and heads.
    Bold,
    /// What is beside the point.
    Dim,
    /// Memory in use in whole blocks.
    Whole,
    /// Memory in use page by page.
    Kept,
    /// Something is wrong.
    Bad,
    /// Where the cursor of a live screen is.
    Cursor,
}

/// A line in pieces.
pub(crate) type Line = Vec<(Paint, String)>;
/// Lines of text.
pub(crate) type Lines = Vec<Line>;

/// The lines as text, in colours or without.
pub(crate) fn painted(lines: &[Line], style: Style) -> String {
    let mut text = String::new();
    for line in lines {
        for (paint, piece) in line {
            let piece = &*harmless(piece);
            text += &match paint {
                Paint::Plain | Paint::Kept => piece.to_owned(),
                Paint::Bold | Paint::Cursor => style.bold(piece),
                Paint::Dim => style.dim(piece),
                Paint::Whole => style.good(piece),
                Paint::Bad => style.bad(piece),
            };
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// At most `columns` letters of a text, the last of them an ellipsis where more would follow.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::{Paint, cut, painted};
    use crate::style::Style;

    #[test]
    fn lines_end_with_letters() {
        let line = vec![(Paint::Bold, "a ".to_owned()), (Paint::Dim, "b  ".to_owned())];
        assert_eq!(painted(&[line, Vec::new()], Style::plain()), "a b\n\n");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("äöüß", 3), "äö…");
        assert_eq!(cut("abc", 0), "…");
    }
}
