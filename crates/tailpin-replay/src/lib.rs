//! Recorded kernel allocation traces, carried out by the `tailpin` library.
//!
//! A trace is read and checked ([`trace`]), worked out into a [`Plan`] of calls before any clock
//! starts ([`compile`]), and replayed ([`Setup::round`]) on as many threads as wanted, on one
//! shared zone, under either protocol. At the end the zone is audited with the trace's last state
//! in it and once more with everything dropped.
//!
//! ```
//! use tailpin_replay::{NoWatch, Protocol, Reading, Setup, compile, trace};
//!
//! let trace = trace::builtins()[0].open()?;
//! let protocol = Protocol::OneWord;
//! let plan = compile(&trace, Reading { as_recorded: false, merges: protocol.merges() })?;
//! let measured = Setup { protocol, threads: 1, zone_frames: None }.round(&plan, &NoWatch)?;
//! assert_eq!((measured.violations, measured.leaked_frames), (0, 0));
//! assert_eq!(measured.tally.pins, 22_228);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod compile;
mod error;
mod gate;
mod model;
mod outcome;
mod plan;
mod run;
mod setup;
mod timeline;
pub mod trace;
mod watch;

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
#[cfg(test)]
mod tests;

pub use compile::compile;
pub use error::{MOST_FRAMES, MOST_THREADS, ReplayError};
pub use outcome::{LINUX_BYTES_PER_FRAME, Outcome};
pub use plan::{Plan, Reading};
pub use run::{Measured, Tally};
pub use setup::{Protocol, Setup};
pub use timeline::{INTERVALS, Point, Sample, Timeline};
pub use watch::{NoWatch, Watch};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
