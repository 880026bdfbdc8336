//! Reading and writing page-frame traces: files of the format `PFTRACE1`, as they are or compressed
//! with zstd.
//!
//! What a file says about itself is checked, never believed: nothing is allocated because a header
//! claims a size, and every record is decoded into an [`Op`] or refused with its number and the
//! reason.

mod builtin;
mod error;
mod format;
mod header;
mod read;
mod record;
mod write;
mod zstd_frames;

#[cfg(test)]
mod tests;

pub use builtin::{Builtin, STANDARD_INPUT, builtins, find};
pub use error::{RecordFault, TraceError};
pub use format::{MAX_REFS, RECORD_BYTES};
pub use header::Header;
pub use read::{DEFAULT_LIMIT, open, read};
pub use record::{FreeKind, Op, Record};
pub use write::{Circumstance, LONGEST_SILENCE_NS, Writer};

/// One trace in memory: checked header, text and checksum, records still encoded.
pub struct Trace {
    /// Name for people: a built-in's, or the path.
    pub name: String,
    /// The fixed part.
    pub header: Header,
    /// Facts of the capture, one `key value` a line.
    pub text: String,
    /// The records as they lie in the file.
    bytes: Vec<u8>,
}

impl Trace {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / RECORD_BYTES
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Every record in turn, decoded and checked alone; an error has its number.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, TraceError>> {
        let (chunks, _) = self.bytes.as_chunks::<RECORD_BYTES>();
        chunks.iter().enumerate().map(|(index, raw)| {
            Record::decode(raw).map_err(|fault| TraceError::Record {
                index: index as u64,
                of: self.len() as u64,
                fault,
            })
        })
    }

    /// Nanoseconds from the first record to the last.
    pub fn duration_ns(&self) -> u64 {
        let (chunks, _) = self.bytes.as_chunks::<RECORD_BYTES>();
        chunks.iter().map(|raw| u64::from(Record::decode_dt(raw))).sum()
    }

    /// What the kernel's own counter `key` gained while the trace was recorded, if the text says.
    pub fn vmstat(&self, key: &str) -> Option<u64> {
        self.text.lines().find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("vmstat") && words.next() == Some(key))
                .then(|| words.next()?.parse().ok())?
        })
    }
}
