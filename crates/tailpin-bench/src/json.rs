//! The report for programs.

use serde::Serialize;

use crate::judge::{Judged, judge, unjudged};
use crate::profile::Profiled;
use crate::report::Report;

#[derive(Serialize)]
struct Json<'r> {
    #[serde(flatten)]
    report: &'r Report,
    goals: Vec<Judged>,
    goals_not_judged: Vec<&'static str>,
    profile: &'r [Profiled],
    quick: bool,
}

/// The report as one JSON object.
///
/// # Panics
/// Never: everything in a report can be written.
pub fn json(report: &Report, profile: &[Profiled], quick: bool) -> String {
    let (goals, goals_not_judged) = (judge(report), unjudged(report));
    serde_json::to_string(&Json { report, goals, goals_not_judged, profile, quick })
        .expect("a report is plain data")
}
