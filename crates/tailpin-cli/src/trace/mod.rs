//! Reading page-frame traces: files of the format `PFTRACE1`, compressed with zstd.
//!
//! What a file says about itself is checked, never believed: nothing is allocated because a header claims a size,
//! and every record is decoded into an [`Op`] or refused with its number and the reason.

mod builtin;
mod error;
mod header;
mod read;
mod record;

#[cfg(test)]
mod tests;

pub(crate) use builtin::{Builtin, builtins};
pub(crate) use error::{RecordFault, TraceError};
pub(crate) use header::Header;
pub(crate) use read::{DEFAULT_LIMIT, open, read};
pub(crate) use record::{FreeKind, Op, RECORD_BYTES, Record};

/// One trace in memory: checked header, text and checksum, records still encoded.
pub(crate) struct Trace {
    /// Name for people: a built-in's, or the path.
    pub(crate) name: String,
    /// The fixed part.
    pub(crate) header: Header,
    /// Facts of the capture, one `key value` a line.
    pub(crate) text: String,
    /// The records as they lie in the file.
    bytes: Vec<u8>,
}

impl Trace {
    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / RECORD_BYTES
    }

    /// Every record in turn, decoded and checked by itself; errs with its number.
    pub(crate) fn records(&self) -> impl Iterator<Item = Result<Record, TraceError>> {
        let (chunks, _) = self.bytes.as_chunks::<RECORD_BYTES>();
        chunks.iter().enumerate().map(|(index, raw)| {
            Record::decode(raw, self.header.frames).map_err(|fault| TraceError::Record {
                index: index as u64,
                of: self.len() as u64,
                fault,
            })
        })
    }

    /// Nanoseconds from the first record to the last.
    pub(crate) fn duration_ns(&self) -> u64 {
        let (chunks, _) = self.bytes.as_chunks::<RECORD_BYTES>();
        chunks.iter().map(|raw| u64::from(Record::decode_dt(raw))).sum()
    }

    /// What the kernel's own counter `key` gained while the trace was recorded, if the text says.
    pub(crate) fn vmstat(&self, key: &str) -> Option<u64> {
        self.text.lines().find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("vmstat") && words.next() == Some(key))
                .then(|| words.next()?.parse().ok())?
        })
    }
}
