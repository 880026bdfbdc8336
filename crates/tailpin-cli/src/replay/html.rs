//! The report: what was replayed, drawn.

use tailpin::PAGE_BYTES;
use tailpin_replay::{Outcome, Sample, Timeline};

use super::table::{BOOKKEEPING, compared, facts, story, title, verdict};
use crate::busy::Warning;
use crate::grid::Grid;
use crate::page::{Below, Chart, Curve, Page, Scale, Shape, Unit};

/// Adds the section of one replay.
pub(crate) fn add(
    page: &mut Page,
    outcome: &Outcome,
    busy: Option<Warning>,
    timeline: &Timeline,
    course: &[Sample],
) {
    page.heading(&title(outcome));
    story(outcome).iter().for_each(|paragraph| page.say(paragraph));
    page.verdict(outcome.is_clean(), &verdict(outcome));
    outcome.findings.iter().for_each(|finding| page.verdict(false, finding));
    page.raw(compared(outcome).html());
    page.explain(BOOKKEEPING);
    charts(timeline, course).iter().for_each(|chart| page.raw(chart.html()));
    page.raw("<h3>What was done</h3>");
    let mut done = Grid::new(["", ""]).with_words(1);
    facts(outcome).into_iter().for_each(|(name, value)| done.row([name.to_owned(), value]));
    page.raw(done.html());
    if let Some(warning) = busy {
        page.explain(&warning.to_string());
    }
}

/// A chart over the time of the trace.
fn over_time(timeline: &Timeline, title: &str, about: &str, unit: Unit, curves: Vec<Curve>) -> Chart {
    Chart {
        title: title.to_owned(),
        about: about.to_owned(),
        below: Below::Linear(Unit::Nanoseconds, timeline.duration_ns as f64),
        unit,
        scale: Scale::Linear,
        curves,
    }
}

fn charts(timeline: &Timeline, course: &[Sample]) -> Vec<Chart> {
    let points = &timeline.points;
    let at = |interval: usize| timeline.duration_ns as f64 * interval as f64 / points.len().max(1) as f64;
    let curve = |name: &str, colour, shape, values: &mut dyn Iterator<Item = u64>| Curve {
        name: name.to_owned(),
        colour,
        shape,
        points: values.enumerate().map(|(interval, value)| (at(interval), value as f64)).collect(),
    };
    let mut charts = vec![over_time(
        timeline,
        "Memory in use",
        "What the recorded program had, the highest of each interval, and what tailpin had in use at the end of \
         each.",
        Unit::Bytes,
        vec![
            curve(
                "the trace",
                "pale",
                Shape::Area,
                &mut points.iter().map(|point| point.frames * PAGE_BYTES),
            ),
            curve(
                "of it in blocks of 2 MiB and more",
                "blue",
                Shape::Area,
                &mut points.iter().map(|point| point.huge_frames * PAGE_BYTES),
            ),
            curve(
                "tailpin",
                "orange",
                Shape::Steps,
                &mut course.iter().map(|sample| sample.used_frames * PAGE_BYTES),
            ),
        ],
    )];
    if !course.is_empty() {
        charts.push(over_time(
            timeline,
            "Pageblocks of 2 MiB that are whole and free in tailpin",
            "Each could be handed out as one block. Where memory is in use as single pages all over, there are few.",
            Unit::Count,
            vec![curve("tailpin", "green", Shape::Area, &mut course.iter().map(|sample| sample.free_pageblocks))],
        ));
    }
    if points.iter().any(|point| point.pinned_frames > 0) {
        charts.push(over_time(
            timeline,
            "Pinned pages",
            "Pages that a transfer under way read into or wrote from. The same ones in Linux and in tailpin.",
            Unit::Count,
            vec![curve(
                "pages with a pin",
                "orange",
                Shape::Area,
                &mut points.iter().map(|point| point.pinned_frames),
            )],
        ));
        charts.push(over_time(
            timeline,
            "Blocks that could not have been split",
            "Blocks of more than one page in which a page is pinned. Linux splits none of them; tailpin splits any.",
            Unit::Count,
            vec![
                curve("Linux", "orange", Shape::Area, &mut points.iter().map(|point| point.pinned_blocks)),
                curve("tailpin", "blue", Shape::Steps, &mut points.iter().map(|_| 0)),
            ],
        ));
    }
    charts
}

#[cfg(test)]
mod tests {
    use tailpin_replay::{Protocol, Reading, Setup, compile, trace};

    use super::charts;
    use crate::page::assert_readable;

    #[test]
    fn the_pictures_of_the_built_in_traces_are_readable() {
        for builtin in trace::builtins() {
            let reading = Reading { as_recorded: false, merges: true };
            let plan = compile(&builtin.open().unwrap(), reading).unwrap();
            let setup = Setup { protocol: Protocol::OneWord, threads: 1, zone_frames: None };
            let charts = charts(&plan.timeline, &setup.course(&plan).unwrap());
            assert!(charts.len() >= 2);
            charts.iter().for_each(|chart| assert_readable(&chart.html()));
        }
    }
}
