//! One check: which scenario, on which protocol, with what left out, and what runs it.

use crate::protocol_kind::ProtocolKind;
use crate::safeguards::Safeguard;

/// What runs a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Everything that can happen, weak memory included.
    Loom,
    /// Random schedules of many threads.
    Shuttle,
    /// The machine's own threads.
    Threads,
}

impl Layer {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loom => "loom",
            Self::Shuttle => "shuttle",
            Self::Threads => "threads",
        }
    }
}

/// One check: a scenario with everything in place, or with one step left out.
#[derive(Clone, Debug)]
pub struct Check {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// On which protocol.
    pub protocol: ProtocolKind,
    /// What is left out.
    pub safeguard: Option<Safeguard>,
    /// Threads it has.
    pub threads: usize,
    /// What runs it.
    pub layer: Layer,
    /// Preemptions per execution that are explored by default.
    pub preemptions: usize,
}
