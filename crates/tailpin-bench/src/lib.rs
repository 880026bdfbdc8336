//! Measures tailpin beside its peers: other frame allocators, other reference counts, and bare
//! atomics as the limit. Recorded kernel traces are replayed beside the rate at which they were
//! recorded, and what is wanted of each row is a goal with a name and a verdict.
//!
//! Everything is measured in one process and one run. The subjects of a scenario take turns,
//! repetition by repetition, so that a busy moment of the machine hits all of them; the first
//! repetition is thrown away; the median stands for the rest, with the fastest and slowest beside
//! it. On request callgrind counts instructions instead.
//!
//! Rows are added in `src/scenarios/`: its `mod.rs` says how.
//!
//! ```
//! use tailpin_bench::{Effort, measure};
//!
//! let report = measure(&Effort::tiny(), Some("pair-o0-fresh"), &mut |_, _| {});
//! let ours = report.row("pair-o0-fresh", "tailpin", 1).expect("it was measured");
//! assert!(ours.ns_per_op_min <= ours.ns_per_op_median && ours.ns_per_op_median <= ours.ns_per_op_max);
//! ```
#![warn(missing_docs)]

mod clock;
mod cores;
mod counted_word;
mod counting;
mod effort;
mod goals;
mod json;
mod judge;
mod lazy;
#[cfg(target_os = "linux")]
mod linux;
mod markdown;
mod measure;
mod profile;
mod recorder;
mod report;
mod rng;
mod scenarios;
mod stats;
mod subjects;
mod table;

pub use counting::Counting;
pub use effort::Effort;
pub use json::json;
pub use judge::{Judged, best_peer, judge, unjudged};
pub use markdown::{markdown, replace};
pub use measure::measure;
pub use profile::{Profiled, count, profile, table as profile_table};
pub use recorder::{Run, Sample};
pub use report::{Fact, Report, Row};
pub use stats::Summary;
pub use subjects::{Frames, Group, with_subjects};
pub use table::{amount, ns, table, verdicts};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
