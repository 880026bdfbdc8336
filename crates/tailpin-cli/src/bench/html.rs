//! The report: won and lost first, then every row, drawn.

use tailpin_bench::{Report, amount, judge};

use super::standing::{sentence, standing, tables};
use crate::busy::Warning;
use crate::grid::Grid;
use crate::page::{Bar, Below, Chart, Curve, Page, Scale, Shape, Unit, bars, nth_colour};

/// The whole file.
pub(super) fn html(report: &Report, busy: Option<Warning>, goals: bool) -> String {
    let mut page = Page::new("tailpin bench");
    page.headline("tailpin beside other allocators, counts and the kernel");
    let all = standing(report);
    match busy {
        Some(warning) => page.verdict(false, &warning.to_string()),
        None if all.is_empty() => {}
        None => page.say(&sentence(&all)),
    }
    page.explain(
        "Nanoseconds per operation on each thread, the median of the repetitions, in which all subjects take turns. \
         Names that begin with bare- are the least that the same work could cost, with nothing else done.",
    );
    for (title, grid) in tables(&all, usize::MAX) {
        page.heading(title);
        page.raw(grid.html());
    }
    if goals && busy.is_none() {
        page.heading("The project's goals");
        page.raw(judged(report).html());
    }
    if !report.facts.is_empty() {
        page.heading("Metadata, start, and memory kept");
        let mut facts = Grid::new(["", "whose", "how much"]).with_words(0);
        for fact in &report.facts {
            facts.row([
                fact.fact.to_owned(),
                fact.subject.to_owned(),
                format!("{} {}", amount(fact.value), fact.unit),
            ]);
        }
        page.raw(facts.html());
    }
    charts(report).iter().for_each(|chart| page.raw(chart.html()));
    page.heading("Every row");
    page.explain(
        "Bars reach from the fastest to the slowest repetition, the mark is the median. Each picture has a logarithmic \
         scale of its own.",
    );
    for (scenario, threads) in report.scenarios() {
        page.raw(bars(&counted(scenario, threads), Unit::Nanoseconds, &rows(report, scenario, threads)));
    }
    for note in &report.notes {
        page.explain(&format!("Not measured: {note}"));
    }
    page.finish()
}

fn counted(scenario: &str, threads: usize) -> String {
    format!("{scenario}, {threads} thread{}", if threads == 1 { "" } else { "s" })
}

fn judged(report: &Report) -> Grid {
    let mut grid = Grid::new(["", "threads", "measured", "", "wanted"]).with_words(2);
    for one in judge(report) {
        grid.row([
            one.goal.to_owned(),
            one.threads.to_string(),
            format!("{:.2}", one.measured),
            if one.met { "met" } else { "lost" }.to_owned(),
            one.wanted,
        ]);
    }
    grid
}

fn rows(report: &Report, scenario: &str, threads: usize) -> Vec<Bar> {
    let colour = |subject: &str| match subject {
        "tailpin" => "blue",
        subject if subject.starts_with("tailpin") => "pale",
        subject if subject.starts_with("bare-") => "orange",
        _ => "grey",
    };
    let bar = |row: &tailpin_bench::Row| Bar {
        name: row.subject.to_owned(),
        colour: colour(row.subject),
        least: row.ns_per_op_min,
        middle: row.ns_per_op_median,
        most: row.ns_per_op_max,
    };
    report.of(scenario, threads).into_iter().map(bar).collect()
}

/// How time grows with memory, and how it changes with threads.
fn charts(report: &Report) -> Vec<Chart> {
    let mut charts = Vec::new();
    for (ending, what) in [
        ("o0", "a page taken and given back, zone half full"),
        ("o0-batch", "a page, 4,096 taken and given back at random, zone half full"),
        ("o9", "2 MiB taken and given back, zone half full"),
        ("mm-pin", "a pin of a page, so much mapped"),
        ("mm-fault", "a fault on a huge page, so much mapped"),
    ] {
        let points = report.growth(ending, "tailpin");
        if points.len() < 2 {
            continue;
        }
        let values = points.iter().enumerate().map(|(at, (_, row))| (at as f64, row.ns_per_op_median));
        charts.push(Chart {
            title: format!("As memory grows: {what}"),
            about: "Nanoseconds per operation. Flat is best: the work doesn't grow with the memory."
                .to_owned(),
            below: Below::Names(points.iter().map(|(gib, _)| format!("{gib} GiB")).collect()),
            unit: Unit::Nanoseconds,
            scale: Scale::Linear,
            curves: vec![line(0, "tailpin", values.collect())],
        });
    }
    let mut names: Vec<&str> = report.scenarios().into_iter().map(|(name, _)| name).collect();
    names.dedup();
    for scenario in names {
        let counts: Vec<usize> =
            report.scenarios().into_iter().filter(|(name, _)| *name == scenario).map(|(_, n)| n).collect();
        if counts.len() < 2 {
            continue;
        }
        // Every subject there is at any number of threads, the library first.
        let mut subjects: Vec<&str> = Vec::new();
        let all = counts.iter().flat_map(|&threads| report.of(scenario, threads)).map(|row| row.subject);
        for subject in std::iter::once("tailpin").chain(all) {
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
        let course = |subject: &str| -> Vec<(f64, f64)> {
            let at = |(place, &threads): (usize, &usize)| {
                report.row(scenario, subject, threads).map(|row| (place as f64, row.ns_per_op_median))
            };
            counts.iter().enumerate().filter_map(at).collect()
        };
        charts.push(Chart {
            title: format!("As threads are added: {scenario}"),
            about: "Nanoseconds per operation on each thread. Flat is best: threads don't hinder each other."
                .to_owned(),
            below: Below::Names(
                counts.iter().map(|n| format!("{n} thread{}", if *n == 1 { "" } else { "s" })).collect(),
            ),
            unit: Unit::Nanoseconds,
            scale: Scale::Logarithmic,
            curves: subjects
                .iter()
                .enumerate()
                .map(|(at, subject)| line(at, subject, course(subject)))
                .filter(|curve| !curve.points.is_empty())
                .collect(),
        });
    }
    charts
}

fn line(at: usize, name: &str, points: Vec<(f64, f64)>) -> Curve {
    Curve { name: name.to_owned(), colour: nth_colour(at), shape: Shape::Line, points }
}

#[cfg(test)]
mod tests {
    use tailpin_bench::{Effort, judge, measure};

    use super::{charts, html};
    use crate::page::assert_readable;

    #[test]
    fn the_report_of_a_run_is_readable_and_shows_every_subject() {
        let report = measure(&Effort::tiny(), Some("o0"), &mut |_, _| {});
        let page = html(&report, None, true);
        assert_readable(&page);
        for goal in judge(&report) {
            assert!(page.contains(goal.goal));
        }
        assert_eq!(report.cores > 1, page.contains("As threads are added: pair-o0-fresh"));
        let charts = charts(&report);
        let growth = charts.iter().filter(|chart| chart.title.starts_with("As memory grows")).count();
        assert!(growth > 0);
        for chart in charts.iter().filter(|chart| chart.title.starts_with("As threads")) {
            let scenario = chart.title.rsplit(' ').next().unwrap();
            for row in report.rows.iter().filter(|row| row.scenario == scenario) {
                assert!(
                    chart.curves.iter().any(|curve| curve.name == row.subject),
                    "{scenario}: {}",
                    row.subject
                );
            }
        }
    }

    #[test]
    fn a_busy_machine_gets_a_warning_and_no_verdict() {
        let report = measure(&Effort::tiny(), Some("pageref"), &mut |_, _| {});
        let busy = html(&report, crate::busy::Busy::for_tests(), true);
        assert!(busy.contains("This machine was busy") && !busy.contains("is faster in"));
        assert!(!busy.contains("The project's goals"));
        let quiet = html(&report, None, false);
        assert!(quiet.contains("is faster in") && !quiet.contains("The project's goals"));
        assert!(html(&report, None, true).contains("The project's goals"));
    }
}
