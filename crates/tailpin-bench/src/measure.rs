//! A run: every scenario after the other.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use crate::cores::Hindered;
use crate::effort::Effort;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::scenarios::GROUPS;

/// Measures every scenario whose name contains `filter`. `progress` hears of each group of
/// scenarios: how many of how many are done.
pub fn measure(effort: &Effort, filter: Option<&str>, progress: &mut dyn FnMut(usize, usize)) -> Report {
    let start = Instant::now();
    let mut recorder = Recorder::new(effort, filter);
    for (done, group) in GROUPS.iter().enumerate() {
        progress(done, GROUPS.len());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| group(&mut recorder))) {
            // What was measured before stays.
            match panic.downcast::<Hindered>() {
                Ok(hindered) => recorder.notes.push(hindered.0),
                Err(panic) => resume_unwind(panic),
            }
        }
    }
    progress(GROUPS.len(), GROUPS.len());
    recorder.report(start.elapsed().as_millis() as u64)
}
