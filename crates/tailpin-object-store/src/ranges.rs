//! Which ranges are one request.

use std::ops::Range;

/// One request, and the ranges that are answered by it: their numbers, in the order in which they
/// begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) range: Range<u64>,
    pub(crate) members: Vec<usize>,
}

/// Ranges with at most `gap` bytes between them are one request.
pub(crate) fn coalesce(ranges: &[Range<u64>], gap: u64) -> Vec<Fetch> {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|i| ranges[*i].start);
    let mut fetches: Vec<Fetch> = Vec::new();
    for i in order {
        let range = &ranges[i];
        match fetches.last_mut() {
            Some(fetch) if range.start <= fetch.range.end.saturating_add(gap) => {
                fetch.range.end = fetch.range.end.max(range.end);
                fetch.members.push(i);
            }
            _ => fetches.push(Fetch { range: range.clone(), members: vec![i] }),
        }
    }
    fetches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(ranges: &[Range<u64>], gap: u64) -> Vec<(Range<u64>, Vec<usize>)> {
        coalesce(ranges, gap).into_iter().map(|fetch| (fetch.range, fetch.members)).collect()
    }

    #[test]
    fn what_lies_close_together_is_one_request() {
        assert_eq!(requests(&[], 9), []);
        assert_eq!(requests(&[20..30, 0..10], 10), [(0..30, vec![1, 0])]);
        assert_eq!(requests(&[20..30, 0..10], 9), [(0..10, vec![1]), (20..30, vec![0])]);
        // One within another, two that are the same, and the end of what a request may be.
        assert_eq!(
            requests(&[0..100, 5..6, 5..6, 101..102], 0),
            [(0..100, vec![0, 1, 2]), (101..102, vec![3])]
        );
        assert_eq!(requests(&[0..u64::MAX, 7..8], u64::MAX), [(0..u64::MAX, vec![0, 1])]);
    }
}
