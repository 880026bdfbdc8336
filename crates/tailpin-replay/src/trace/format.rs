//! Sizes and marks of the format `PFTRACE1`.

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 64;

/// First eight bytes of every trace.
pub(crate) const MAGIC: [u8; 8] = *b"PFTRACE1";

/// Bytes of one record.
pub const RECORD_BYTES: usize = 16;

/// References one PIN or UNPIN may carry: more is no plausible recording.
pub const MAX_REFS: u32 = u16::MAX as u32;
