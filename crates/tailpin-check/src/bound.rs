//! One bound of preemptions, and how far it was explored.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How far one bound of preemptions was explored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Most preemptions per execution, or null for any number.
    pub preemption_bound: Option<usize>,
    /// Executions explored.
    pub executions: u64,
    /// Whether there are no others within this bound.
    pub complete: bool,
    /// Time it took, in all runs that went on from one another.
    pub elapsed_ms: u64,
}

impl Bound {
    pub(crate) fn new(
        preemption_bound: Option<usize>,
        executions: u64,
        complete: bool,
        elapsed: Duration,
    ) -> Self {
        Self { preemption_bound, executions, complete, elapsed_ms: elapsed.as_millis() as u64 }
    }
}
