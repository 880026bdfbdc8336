//! The report: what was alive, what the kernel held for it, and how that goes on as records grow.

use super::keeper::BUFFER;
use super::picture::{self, cell_bytes};
use super::row::{Backend, Ending};
use super::run::Outcome;
use super::table::{details, doubts, findings, measured, percent, source, title};
use crate::page::{Below, Chart, Curve, Page, Scale, Shape, Unit};
use crate::units::{bytes, grouped};

/// Sizes of records on the curve: 64 B to 64 KiB.
const LEAST: f64 = 64.0;
const MOST: f64 = 65_536.0;

/// The whole file.
pub(crate) fn render(outcome: &Outcome) -> String {
    let mut page = Page::new("tailpin retain");
    let alive = outcome.rows.iter().map(|row| row.kept_bytes).max().unwrap_or(0);
    let held: Vec<_> = outcome
        .rows
        .iter()
        .map(|row| match row.outcome {
            Ending::Finished => format!("{} {}", row.backend.name(), measured(row.kernel_bytes)),
            Ending::OutOfMemory | Ending::Failed => format!("{} dead", row.backend.name()),
        })
        .collect();
    page.headline(&format!("{} alive; the kernel holds: {}", bytes(alive), held.join(", ")));
    page.explain(&format!("{}.", title(outcome)));
    if let (Some(limit), Some(by)) = (outcome.limit_bytes, outcome.limit_by) {
        page.say(&format!("Each under a limit of {} ({}).", bytes(limit), by.name()));
    }
    page.raw(picture::draw(outcome, outcome.rows.len(), "tp wide"));
    page.raw(picture::draw(outcome, 2, "tp narrow"));
    page.explain(&format!(
        "Each frame is the log, a square is {} of it. Filled is what the kernel still holds, by {}; blue is alive. \
         What stands above a frame is held beside the log: the program itself.",
        bytes(cell_bytes(outcome)),
        outcome.rows.first().map_or_else(|| "its own count".to_owned(), |row| source(row.kernel_bytes_source))
    ));
    page.heading("Numbers");
    page.raw(details(outcome).html());
    for finding in findings(outcome) {
        page.say(&format!("{finding}."));
    }
    doubts(outcome).iter().for_each(|doubt| page.verdict(false, doubt));
    if let Some(warning) = outcome.busy {
        page.explain(&warning.to_string());
    }
    page.explain(
        "alive: bytes in the surviving records. retained: what they keep from reuse, by their own library's account. \
         RSS: how far the resident set grew. given back: to the kernel, on the way.",
    );
    page.heading(&format!("As records grow, {} surviving", percent(outcome.keep)));
    page.raw(growth(outcome).html());
    page.explain(&format!("{} records in {}.", grouped(outcome.records), bytes(outcome.log_bytes)));
    page.finish()
}

/// The share of units that hold a survivor, where each holds `unit` bytes of records of `record`
/// bytes.
fn share(keep: f64, unit: f64, record: f64) -> f64 {
    1.0 - (1.0 - keep).powf((unit / record).max(1.0))
}

const fn colour(backend: Backend) -> &'static str {
    match backend {
        Backend::Bytes => "red",
        Backend::Copy => "green",
        Backend::Pins => "blue",
        Backend::Hybrid => "violet",
    }
}

fn growth(outcome: &Outcome) -> Chart {
    let law = |(name, backend, unit): (&str, Backend, f64)| Curve {
        name: name.to_owned(),
        colour: colour(backend),
        shape: Shape::Line,
        points: (0..=40)
            .map(|step| LEAST * (MOST / LEAST).powf(f64::from(step) / 40.0))
            .map(|record| (record, share(outcome.keep, unit, record)))
            .filter(|(_, share)| *share > 0.0)
            .collect(),
    };
    let laws = [
        ("bytes, a buffer each", Backend::Bytes, BUFFER as f64),
        ("pins, a page each", Backend::Pins, 4096.0),
        ("copy, a record each", Backend::Copy, 0.0),
    ];
    let mut curves: Vec<Curve> = laws.into_iter().map(law).collect();
    let record = f64::from(outcome.record_bytes);
    for row in &outcome.rows {
        let held = row.kernel_bytes.filter(|held| *held > 0 && row.outcome == Ending::Finished);
        if let Some(held) = held.filter(|_| (LEAST..=MOST).contains(&record)) {
            curves.push(Curve {
                name: format!("{}, measured here", row.backend.name()),
                colour: colour(row.backend),
                shape: Shape::Dots,
                points: vec![(record, (held as f64 / outcome.log_bytes as f64).min(1.0))],
            });
        }
    }
    Chart {
        title: "Share of the log that stays".to_owned(),
        about: "Lines: what must stay if survivors are spread evenly and nothing is paid on top, by the unit that a \
                survivor keeps. Dots: this run, by the kernel's count."
            .to_owned(),
        below: Below::Logarithmic(Unit::Bytes, LEAST, MOST),
        unit: Unit::Share,
        scale: Scale::Logarithmic,
        curves,
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::{Backend, Ending, Row};
    use super::super::run::Outcome;
    use super::{render, share};
    use crate::page::assert_readable;

    #[test]
    fn the_law_is_that_of_independent_survivors() {
        assert!((share(0.01, 4096.0, 1024.0) - 0.0394).abs() < 1e-4);
        assert!((share(0.01, 4096.0, 64.0) - 0.4744).abs() < 1e-3);
        assert_eq!(share(0.25, 4096.0, 65536.0), 0.25);
        assert_eq!(share(0.0, 4096.0, 64.0), 0.0);
    }

    #[test]
    fn every_outcome_is_readable() {
        for keep in [0.0, 1e-6, 0.01, 1.0] {
            for record_bytes in [16, 1024, 1 << 20] {
                for dies in [false, true] {
                    let row = |backend, held| Row {
                        outcome: if dies { Ending::OutOfMemory } else { Ending::Finished },
                        kernel_bytes: (!dies).then_some(held),
                        read_bytes: 255 << 20,
                        kept_bytes: 10 << 20,
                        ..Row::of(backend)
                    };
                    let outcome = Outcome {
                        record_bytes,
                        keep,
                        limit_bytes: dies.then_some(256 << 20),
                        rows: vec![
                            row(Backend::Bytes, 1030 << 20),
                            row(Backend::Copy, 10 << 20),
                            row(Backend::Pins, 0),
                            row(Backend::Hybrid, 1),
                        ],
                        ..Outcome::of_a_gibibyte()
                    };
                    assert_readable(&render(&outcome));
                }
            }
        }
    }
}
