//! Measures tailpin beside its peers: other frame allocators, other reference counts, and bare atomics as the limit.
//!
//! Everything is measured in one process and one run. The subjects of a scenario take turns, repetition by
//! repetition, so that a busy moment of the machine hits all of them; the first repetition is thrown away; the
//! median stands for the rest, with the fastest and slowest beside it.
//!
//! ```
//! use tailpin_bench::{Effort, measure};
//!
//! let report = measure(&Effort::tiny(), Some("pair-o0-fresh"), &mut |_, _| {});
//! let ours = report.row("pair-o0-fresh", "tailpin", 1).expect("it was measured");
//! assert!(ours.ns_per_op_min <= ours.ns_per_op_median && ours.ns_per_op_median <= ours.ns_per_op_max);
//! ```
#![warn(missing_docs)]

pub mod cli;
mod clock;
mod cores;
mod effort;
mod goals;
mod html;
mod lazy;
mod plot;
mod recorder;
mod report;
mod rng;
mod scenarios;
mod stats;
mod subjects;
mod table;

pub use effort::Effort;
pub use goals::{Judged, judge};
pub use html::html;
pub use recorder::{Run, Sample, measure};
pub use report::{Report, Row, Space};
pub use stats::Summary;
pub use subjects::{Frames, Group, with_subjects};
pub use table::table;
