//! How much work a run is.

use std::sync::Arc;
use std::time::Duration;

use crate::counting::Counting;

/// Sizes and durations of a run.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Repetitions that count, of most scenarios.
    pub repetitions: usize,
    /// Repetitions of the churn scenarios, each of which lasts long.
    pub churn_repetitions: usize,
    /// How long one repetition of a scenario without an end of its own lasts.
    pub slice: Duration,
    /// Frames of the zone most scenarios run in.
    pub frames: u64,
    /// Allocations and frees of one churn.
    pub churn_operations: u64,
    /// A churn that lasts longer than this ends early; its row says how far it got.
    pub churn_limit: Duration,
    /// Bursts of 4,096 frees and 4,096 allocations of one burst churn.
    pub bursts: u64,
    /// Zone sizes of the growth scenarios, in GiB.
    pub growth_gib: &'static [u64],
    /// Size of the zone whose start-up is timed, in GiB.
    pub start_gib: u64,
    /// Memory of the address space that is forked, in MiB.
    pub fork_mib: u64,
    /// Repetitions of each replay.
    pub replay_repetitions: usize,
    /// Operations are counted, not timed: see [`Effort::counting`].
    pub counting: Option<Arc<Counting>>,
}

impl Effort {
    /// The full run: about a quarter of an hour.
    pub fn full() -> Self {
        Self {
            repetitions: 11,
            churn_repetitions: 7,
            slice: Duration::from_millis(25),
            frames: 1 << 20,
            churn_operations: 1_000_000,
            churn_limit: Duration::from_secs(1),
            bursts: 250,
            growth_gib: &[1, 4, 16, 64, 256],
            start_gib: 1024,
            fork_mib: 1024,
            replay_repetitions: 7,
            counting: None,
        }
    }

    /// All scenarios in less than two minutes, with fewer repetitions.
    pub fn quick() -> Self {
        Self {
            repetitions: 5,
            churn_repetitions: 2,
            slice: Duration::from_millis(4),
            churn_operations: 600_000,
            churn_limit: Duration::from_millis(250),
            bursts: 60,
            fork_mib: 256,
            replay_repetitions: 3,
            ..Self::full()
        }
    }

    /// For tests: too little to say anything about speed.
    pub fn tiny() -> Self {
        Self {
            repetitions: 2,
            churn_repetitions: 1,
            slice: Duration::from_micros(300),
            frames: 1 << 14,
            churn_operations: 4_000,
            churn_limit: Duration::from_millis(50),
            bursts: 2,
            growth_gib: &[1, 4],
            start_gib: 16,
            fork_mib: 8,
            replay_repetitions: 1,
            counting: None,
        }
    }

    /// Just enough operations of one subject in one scenario to count the instructions of each, on
    /// one thread.
    pub fn counting(counting: Counting) -> Self {
        Self {
            repetitions: 1,
            churn_repetitions: 1,
            frames: 1 << 17,
            churn_operations: 100_000,
            churn_limit: Duration::MAX,
            bursts: 8,
            growth_gib: &[],
            counting: Some(Arc::new(counting)),
            ..Self::full()
        }
    }
}
