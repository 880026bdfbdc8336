//! The fixed 64 bytes at the start of a trace.

use super::error::TraceError;
use super::format::{HEADER_BYTES, MAGIC, RECORD_BYTES};

/// The only version there is.
pub(crate) const VERSION: u32 = 1;

/// Longest text a trace may carry.
pub(crate) const MAX_TEXT_BYTES: u64 = 1 << 20;

/// What the header says, after those checks that need nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of records.
    pub records: u64,
    /// Highest frame number plus one, as a hint: some recorders count first frames of blocks alone.
    /// What the records say counts.
    pub frames: u64,
    /// How long the recording took.
    pub duration_ns: u64,
    /// FNV-1a 64 of the record bytes.
    pub checksum: u64,
    /// Bytes of text between header and records.
    pub text_bytes: u64,
}

impl Header {
    /// Decodes the header and refuses claims that can't be true or exceed `limit` bytes in all.
    pub(crate) fn decode(raw: &[u8; HEADER_BYTES], limit: u64) -> Result<Self, TraceError> {
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| raw[at + i]));
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| raw[at + i]));

        let magic: [u8; 8] = std::array::from_fn(|i| raw[i]);
        if magic != MAGIC {
            return Err(TraceError::BadMagic { magic });
        }
        match word(8) {
            VERSION => {}
            version => return Err(TraceError::BadVersion { version }),
        }
        match word(12) {
            size if size as usize == RECORD_BYTES => {}
            size => return Err(TraceError::BadRecordSize { size }),
        }
        let header = Self {
            records: long(16),
            frames: long(24),
            duration_ns: long(32),
            checksum: long(40),
            text_bytes: long(48),
        };
        if long(56) != 0 {
            return Err(TraceError::BadHeader { what: "its last 8 bytes are not zero" });
        }
        if header.frames > 1 << 32 {
            return Err(TraceError::BadHeader { what: "its highest frame number does not fit 32 bits" });
        }
        if header.text_bytes > MAX_TEXT_BYTES {
            return Err(TraceError::BadHeader { what: "its text is longer than 1 MiB" });
        }
        let total = header
            .records
            .checked_mul(RECORD_BYTES as u64)
            .and_then(|bytes| bytes.checked_add(header.text_bytes + HEADER_BYTES as u64));
        match total {
            Some(total) if total <= limit => Ok(header),
            _ => Err(TraceError::TooLarge { records: header.records, limit }),
        }
    }
}
