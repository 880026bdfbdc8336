//! What can be wrong with a trace, and where.

use std::{fmt, io};

use tailpin::Order;

/// Why a trace can't be replayed.
#[derive(Debug)]
pub enum TraceError {
    /// The file can't be opened or read.
    Io(io::Error),
    /// Neither a file nor a built-in.
    NoSuchTrace {
        /// Names of those there are.
        builtins: Vec<&'static str>,
    },
    /// There is nothing in it.
    Empty,
    /// Neither a zstd stream nor a trace that is not compressed.
    NotZstd,
    /// What another program packs: it may be a trace within.
    PackedOtherwise {
        /// By which program, or how.
        by: &'static str,
    },
    /// The stream breaks off or is damaged before the records.
    Damaged {
        /// Which part of the file.
        place: &'static str,
        /// What the system or the decoder says.
        source: io::Error,
    },
    /// The stream breaks off or is damaged within this record.
    DamagedRecord {
        /// Number of the record, from 0.
        index: u64,
        /// How many the header claims.
        of: u64,
        /// What the system or the decoder says.
        source: io::Error,
    },
    /// Too short for a header.
    ShortHeader {
        /// Bytes there are.
        bytes: usize,
    },
    /// Compressed, but no trace.
    BadMagic {
        /// What it begins with.
        magic: [u8; 8],
    },
    /// A version this program doesn't know.
    BadVersion {
        /// What it says.
        version: u32,
    },
    /// Records of another size.
    BadRecordSize {
        /// What it says.
        size: u32,
    },
    /// A header that can't be true.
    BadHeader {
        /// What, in words.
        what: &'static str,
    },
    /// More than this program is willing to hold.
    TooLarge {
        /// How many records there are, by the header.
        records: u64,
        /// The most there may be.
        limit: u64,
    },
    /// Ends within the text.
    ShortText {
        /// Bytes there are.
        bytes: usize,
        /// What the header says.
        claimed: u64,
    },
    /// Ends before its last record.
    Truncated {
        /// Number of the record, from 0.
        index: u64,
        /// How many the header claims.
        of: u64,
        /// Bytes of the record that are there.
        odd: usize,
    },
    /// Goes on after its last record.
    TooLong {
        /// How many records there are, by the header.
        records: u64,
    },
    /// Some record byte is not what was recorded.
    Checksum {
        /// How many records there are, by the header.
        records: u64,
        /// What the header says.
        claimed: u64,
        /// What it is.
        found: u64,
    },
    /// One record is wrong, alone or after those before it.
    Record {
        /// Number of the record, from 0.
        index: u64,
        /// How many the header claims.
        of: u64,
        /// What is wrong with it.
        fault: RecordFault,
    },
}

/// What is wrong with one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// No such operation.
    UnknownOp {
        /// The operation.
        op: u8,
    },
    /// No block is that large.
    BadOrder {
        /// The order it names.
        order: u8,
    },
    /// A block starts only at a multiple of its size.
    Unaligned {
        /// The frame it names.
        pfn: u32,
        /// The order it names.
        order: Order,
    },
    /// The pieces would be no smaller.
    SplitNotSmaller {
        /// The order it names.
        order: Order,
        /// Order of the pieces.
        to: Order,
    },
    /// A detail with no meaning.
    BadAux {
        /// The operation.
        op: &'static str,
        /// The detail.
        aux: u32,
    },
    /// A pin of nothing.
    NoReferences,
    /// More references than can be.
    TooManyReferences {
        /// How many references.
        refs: u32,
    },
    /// An allocation over a live block.
    OverLive {
        /// The frame it names.
        pfn: u32,
        /// The order it names.
        order: Order,
        /// First frame of the live block.
        live: u32,
        /// Its order.
        live_order: Order,
    },
    /// The operation needs a live block that begins here.
    NotLive {
        /// The operation.
        op: &'static str,
        /// The frame it names.
        pfn: u32,
    },
    /// The live block has another order.
    WrongOrder {
        /// The operation.
        op: &'static str,
        /// The frame it names.
        pfn: u32,
        /// The order it names.
        order: Order,
        /// Its order.
        live_order: Order,
    },
    /// A block was freed whose frame is pinned.
    FreedWhilePinned {
        /// The frame it names.
        pfn: u32,
        /// How many references.
        refs: u64,
    },
    /// An unpin of more references than are held.
    NotPinned {
        /// The frame it names.
        pfn: u32,
        /// How many references.
        refs: u16,
        /// How many are held.
        held: u64,
    },
    /// A bound of this program, not of the format.
    Beyond {
        /// What, in words.
        what: &'static str,
        /// The most there may be.
        limit: u64,
    },
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::NoSuchTrace { builtins } => {
                write!(f, "no such file, nor a built-in trace (those are {})", builtins.join(", "))
            }
            Self::Empty => write!(f, "the file is empty"),
            Self::NotZstd => {
                write!(f, "not a trace: not compressed with zstd, nor does it begin with \"PFTRACE1\"")
            }
            Self::PackedOtherwise { by } => {
                write!(f, "this is {by}; a trace is read as it is, or compressed with zstd")
            }
            Self::Damaged { place, source } => {
                write!(f, "the compressed data is damaged at {place}: {source}")
            }
            Self::DamagedRecord { index, of, source } => {
                write!(f, "record {index} of {of}: the compressed data is cut off or damaged here: {source}")
            }
            Self::ShortHeader { bytes } => {
                write!(
                    f,
                    "not a trace: {bytes} bytes, where a header alone has {}",
                    super::format::HEADER_BYTES
                )
            }
            Self::BadMagic { magic } => {
                write!(f, "not a trace: begins with \"{}\", not with \"PFTRACE1\"", magic.escape_ascii())
            }
            Self::BadVersion { version } => {
                write!(f, "format version {version}; this program reads version 1")
            }
            Self::BadRecordSize { size } => write!(f, "records of {size} bytes; version 1 has records of 16"),
            Self::BadHeader { what } => write!(f, "impossible header: {what}"),
            Self::TooLarge { records, limit } => write!(
                f,
                "the header claims {records} records, which is more than the limit of {} MiB (--limit-mib)",
                limit >> 20
            ),
            Self::ShortText { bytes, claimed } => {
                write!(f, "truncated: ends after {bytes} of {claimed} bytes of its text, before record 0")
            }
            Self::Truncated { index, of, odd: 0 } => {
                write!(f, "truncated: ends before record {index} of {of}")
            }
            Self::Truncated { index, of, odd } => {
                write!(f, "truncated: ends {odd} bytes into record {index} of {of}")
            }
            Self::TooLong { records } => {
                write!(f, "goes on after record {}, its last", records.saturating_sub(1))
            }
            Self::Checksum { records, claimed, found } => write!(
                f,
                "checksum mismatch: records 0 to {} hash to {found:#018x}, the header says {claimed:#018x}",
                records.saturating_sub(1)
            ),
            Self::Record { index, of, fault } => write!(f, "record {index} of {of}: {fault}"),
        }
    }
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownOp { op } => write!(f, "unknown operation {op}"),
            Self::BadOrder { order } => write!(f, "order {order}; the largest is {}", Order::MAX),
            Self::Unaligned { pfn, order } => {
                write!(f, "frame {pfn:#x} can't start a block of order {order}: not a multiple of its size")
            }
            Self::SplitNotSmaller { order, to } => {
                write!(f, "SPLIT of order {order} into pieces of order {to}, which are no smaller")
            }
            Self::BadAux { op, aux } => write!(f, "{op} with the unknown detail {aux}"),
            Self::NoReferences => write!(f, "PIN or UNPIN of 0 references"),
            Self::TooManyReferences { refs } => {
                write!(
                    f,
                    "PIN or UNPIN of {refs} references; more than {} is implausible",
                    super::format::MAX_REFS
                )
            }
            Self::OverLive { pfn, order, live, live_order } => write!(
                f,
                "ALLOC of frame {pfn:#x} (order {order}) over the live block {live:#x} (order {live_order})"
            ),
            Self::NotLive { op, pfn } => {
                write!(f, "{op} of frame {pfn:#x}, where no live block is or begins")
            }
            Self::WrongOrder { op, pfn, order, live_order } => {
                write!(
                    f,
                    "{op} of frame {pfn:#x} as order {order}, but the live block has order {live_order}"
                )
            }
            Self::FreedWhilePinned { pfn, refs } => {
                write!(f, "FREE of a block whose frame {pfn:#x} still has {refs} pins")
            }
            Self::NotPinned { pfn, refs, held } => {
                write!(f, "UNPIN of {refs} references on frame {pfn:#x}, which has {held}")
            }
            Self::Beyond { what, limit } => {
                write!(f, "more than {limit} {what}, the most this program takes")
            }
        }
    }
}

impl std::error::Error for TraceError {}
