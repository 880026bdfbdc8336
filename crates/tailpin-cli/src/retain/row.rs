//! What came of one back end.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::measure::{HugePages, Source};

/// How survivors are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// A slice of the read buffer, by the crate `bytes`
    Bytes,
    /// A copy of its own
    Copy,
    /// Pins on the pages it lies on, by this library
    Pins,
    /// A copy where small, pins where large
    Hybrid,
}

impl Backend {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 4] = [Self::Bytes, Self::Copy, Self::Pins, Self::Hybrid];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Copy => "copy",
            Self::Pins => "pins",
            Self::Hybrid => "hybrid",
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    /// All was read, and every survivor is intact.
    Finished,
    /// It went past the limit it was given.
    OutOfMemory,
    /// Anything else.
    Failed,
}

/// What one back end did, kept and cost. What was not measured because it died is absent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) backend: Backend,
    pub(crate) outcome: Ending,
    /// What ended it, where it did not finish.
    pub(crate) reason: Option<String>,
    /// Bytes of the log that were read.
    pub(crate) read_bytes: u64,
    /// How many records survived.
    pub(crate) kept_records: u64,
    /// Bytes in them: what is alive.
    pub(crate) kept_bytes: u64,
    /// Bytes that are kept from reuse by what is alive, as the back end's own library counts.
    pub(crate) retained_bytes: Option<u64>,
    /// Growth of the resident set since just before the first read.
    pub(crate) rss_bytes: Option<u64>,
    /// Growth of what the kernel really holds, page cache not counted.
    pub(crate) kernel_bytes: Option<u64>,
    /// Where that was read.
    pub(crate) kernel_bytes_source: Source,
    /// Bytes given back to the kernel on the way.
    pub(crate) given_back_bytes: u64,
    /// Survivors that were not what the log says, byte for byte.
    pub(crate) damaged_records: u64,
    pub(crate) huge_pages: HugePages,
    /// Reading, keeping and giving back.
    pub(crate) elapsed_ms: f64,
    /// Of that, giving back.
    pub(crate) give_back_ms: f64,
}

#[cfg(test)]
impl Row {
    /// Of a back end that did nothing, for tests.
    pub(crate) fn of(backend: Backend) -> Self {
        Self {
            backend,
            outcome: Ending::Finished,
            reason: None,
            read_bytes: 0,
            kept_records: 0,
            kept_bytes: 0,
            retained_bytes: None,
            rss_bytes: None,
            kernel_bytes: None,
            kernel_bytes_source: Source::CgroupV2,
            given_back_bytes: 0,
            damaged_records: 0,
            huge_pages: HugePages::default(),
            elapsed_ms: 0.0,
            give_back_ms: 0.0,
        }
    }
}
