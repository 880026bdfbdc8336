//! Where the library stands beside the fastest of the others in each row.

use std::fmt::Write;

use tailpin_bench::{Report, Row, best_peer, ns};

use crate::grid::Grid;
use crate::style::{Style, wrapped};

/// As fast: the times differ by no more than this share.
const ALIKE: f64 = 0.1;
/// Rows that a terminal shows of each side.
const SHOWN: usize = 8;

/// One row of this library beside its fastest peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside<'r> {
    ours: &'r Row,
    peer: &'r Row,
}

impl Beside<'_> {
    /// How long this library takes, as a multiple of the peer's time.
    fn ratio(&self) -> f64 {
        self.ours.ns_per_op_median / self.peer.ns_per_op_median
    }
}

/// All rows in which another subject was measured too: the most ahead first.
pub(super) fn standing(report: &Report) -> Vec<Beside<'_>> {
    let beside = |(scenario, threads): (&str, usize)| {
        Some(Beside {
            ours: report.row(scenario, "tailpin", threads)?,
            peer: best_peer(report, scenario, threads)?,
        })
    };
    let mut all: Vec<_> = report.scenarios().into_iter().filter_map(beside).collect();
    all.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
    all
}

fn faster<'b, 'r>(all: &'b [Beside<'r>]) -> &'b [Beside<'r>] {
    &all[..all.partition_point(|one| one.ratio() < 1.0 - ALIKE)]
}

fn slower<'b, 'r>(all: &'b [Beside<'r>]) -> &'b [Beside<'r>] {
    &all[all.partition_point(|one| one.ratio() <= 1.0 + ALIKE)..]
}

/// In how many rows it is faster, as fast, and slower.
pub(super) fn sentence(all: &[Beside<'_>]) -> String {
    let (faster, slower) = (faster(all).len(), slower(all).len());
    format!(
        "Beside the fastest other subject of each row, tailpin is faster in {faster} of {} rows, as fast (within 10 %) in \
         {}, and slower in {slower}.",
        all.len(),
        all.len() - faster - slower
    )
}

/// Those rows, as a table.
fn grid<'r>(rows: impl IntoIterator<Item = Beside<'r>>) -> Grid {
    let mut grid = Grid::new(["", "threads", "tailpin", "fastest other", "ratio", "which"]).with_words(1);
    for one in rows {
        grid.row([
            one.ours.scenario.clone(),
            one.ours.threads.to_string(),
            format!("{} ns", ns(one.ours.ns_per_op_median)),
            format!("{} ns", ns(one.peer.ns_per_op_median)),
            format!("{:.2} ×", one.ratio()),
            one.peer.subject.to_owned(),
        ]);
    }
    grid
}

/// What it wins, most ahead first, and what it loses, furthest behind first: titles and tables.
pub(super) fn tables(all: &[Beside<'_>], most: usize) -> Vec<(&'static str, Grid)> {
    let sides = [
        ("Faster", grid(faster(all).iter().copied().take(most))),
        ("Slower", grid(slower(all).iter().rev().copied().take(most))),
    ];
    sides.into_iter().filter(|(_, grid)| !grid.is_empty()).collect()
}

/// For a terminal. On a busy machine times are no ground for a sentence about who is faster.
pub(super) fn text(report: &Report, is_busy: bool, width: usize, style: Style) -> String {
    let all = standing(report);
    let mut text = String::new();
    if all.is_empty() {
        return text;
    }
    if !is_busy {
        text += &wrapped(&sentence(&all), "", "", width);
    }
    for (title, grid) in tables(&all, SHOWN) {
        let _ = write!(text, "\n{}\n{}", style.bold(title), grid.text(width, style));
    }
    text + "\n"
}

/// How far apart the repetitions are in the usual row: how many times as long as the median the
/// slowest took.
pub(super) fn spread(report: &Report) -> Option<f64> {
    let mut spreads: Vec<f64> =
        report.rows.iter().map(|row| row.ns_per_op_max / row.ns_per_op_median.max(1e-9)).collect();
    spreads.sort_by(f64::total_cmp);
    spreads.get(spreads.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::{sentence, spread, standing, tables};
    use tailpin_bench::{Report, Row};

    fn row(scenario: &str, subject: &'static str, median: f64) -> Row {
        Row {
            scenario: scenario.to_owned(),
            subject,
            threads: 1,
            ns_per_op_median: median,
            ns_per_op_min: median / 2.0,
            ns_per_op_max: median * 3.0,
            repetitions: 3,
            operations: None,
            failed: None,
            huge_left: None,
            huge_ideal: None,
        }
    }

    #[test]
    fn wins_and_losses_are_told_apart() {
        let rows = vec![
            row("won", "tailpin", 10.0),
            row("won", "arc", 30.0),
            row("won", "bytes", 20.0),
            row("even", "tailpin", 10.5),
            row("even", "arc", 10.0),
            row("lost", "tailpin", 50.0),
            row("lost", "arc", 10.0),
            row("alone", "tailpin", 5.0),
            row("alone", "bare-cas", 1.0),
        ];
        let report = Report { rows, ..Report::default() };
        let all = standing(&report);
        assert!(
            sentence(&all).contains("faster in 1 of 3 rows, as fast (within 10 %) in 1, and slower in 1")
        );
        let tables = tables(&all, 9);
        assert!(tables[0].1.markdown().contains("| won | 1 | 10.0 ns | 20.0 ns | 0.50 × | bytes |"));
        assert!(tables[1].1.markdown().contains("| lost | 1 | 50.0 ns | 10.0 ns | 5.00 × | arc |"));
        assert_eq!(spread(&report), Some(3.0));
        assert_eq!(spread(&Report::default()), None);
    }
}
