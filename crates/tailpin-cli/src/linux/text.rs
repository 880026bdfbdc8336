//! The kernel's small text files.

use std::fs;
use std::path::Path;

/// A file's text without surrounding blanks; `None` where it isn't there or may not be read.
pub(crate) fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// A file that holds one number.
pub(crate) fn number(path: impl AsRef<Path>) -> Option<u64> {
    read(path)?.parse().ok()
}

/// The choice in brackets: `madvise` of `always [madvise] never`.
pub(crate) fn chosen(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0)
}

/// The number after `key` in lines of `key number`, `key: number kB` and the like. Units are the
/// file's.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?;
        let rest = rest.strip_prefix(':').unwrap_or(rest);
        if !rest.starts_with([' ', '\t']) {
            return None;
        }
        rest.split_whitespace().next()?.parse().ok()
    })
}

/// Bytes of a field that a file of `/proc` gives in kB.
pub(crate) fn kilobytes(text: &str, key: &str) -> Option<u64> {
    keyed(text, key).map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::{chosen, keyed, kilobytes};

    #[test]
    fn a_choice_is_what_stands_in_brackets() {
        assert_eq!(chosen("always [madvise] never"), Some("madvise"));
        assert_eq!(chosen("always madvise"), None);
        assert_eq!(chosen("[never"), None);
    }

    #[test]
    fn a_key_is_a_whole_word() {
        let text = "rss_huge 5\nrss 7\nVmRSS:\t  12 kB\nbroken x\n";
        assert_eq!(keyed(text, "rss"), Some(7));
        assert_eq!(keyed(text, "rss_huge"), Some(5));
        assert_eq!(kilobytes(text, "VmRSS"), Some(12 * 1024));
        assert_eq!(keyed(text, "broken"), None);
        assert_eq!(keyed(text, "absent"), None);
    }
}
