//! From a file to a [`Trace`], in bounded memory.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::format::{HEADER_BYTES, MAGIC, RECORD_BYTES};
use super::header::Header;
use super::zstd_frames::{Frames, is_zstd};
use super::{Trace, TraceError};

/// Most bytes a trace may have once decompressed, unless the user says otherwise.
pub const DEFAULT_LIMIT: u64 = 1 << 30;

/// Reads the trace at `path`, of at most `limit` bytes once decompressed.
///
/// # Errors
/// [`TraceError::Io`] if it can't be read; else as [`read`].
pub fn open(path: &Path, limit: u64) -> Result<Trace, TraceError> {
    let file = File::open(path).map_err(TraceError::Io)?;
    read(path.display().to_string(), BufReader::new(file), limit)
}

/// Reads a trace of at most `limit` bytes once decompressed. It may be any number of zstd frames,
/// some of them empty or to be skipped, or not be compressed at all.
///
/// # Errors
/// Every way in which these bytes are no sound trace, with the place; records are checked by
/// [`Trace::records`].
pub fn read(name: String, mut file: impl Read, limit: u64) -> Result<Trace, TraceError> {
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start).map_err(TraceError::Io)?;
    let file = start.as_slice().chain(file);
    if !is_zstd(&start) {
        return match start.as_slice() {
            [] => Err(TraceError::Empty),
            start if MAGIC.starts_with(start) => decode(name, file, limit),
            start => Err(packed_otherwise(start)),
        };
    }
    decode(name, Frames::new(file), limit)
}

/// What a file is that begins like this and is neither a trace nor zstd's.
fn packed_otherwise(start: &[u8]) -> TraceError {
    const KNOWN: [(&[u8], &str); 10] = [
        (b"\x1f\x8b", "compressed with gzip"),
        (b"\xfd7zX", "compressed with xz"),
        (b"BZh", "compressed with bzip2"),
        (b"\x04\x22\x4d\x18", "compressed with lz4"),
        (b"\x5d\0\0", "compressed with lzma"),
        (b"LZIP", "compressed with lzip"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x37\xa4\x30\xec", "a dictionary of zstd, not what was compressed with it"),
        (b"\xef\xbb\xbf", "text"),
        (b"\xff\xfe", "text"),
    ];
    let known = KNOWN.iter().find(|(begin, _)| start.starts_with(begin));
    known.map_or(TraceError::NotZstd, |(_, by)| TraceError::PackedOtherwise { by })
}

/// Reads a trace from its decompressed bytes.
fn decode(name: String, mut bytes: impl Read, limit: u64) -> Result<Trace, TraceError> {
    let (raw, ended) = read_up_to(&mut bytes, HEADER_BYTES as u64);
    let Ok(raw) = <[u8; HEADER_BYTES]>::try_from(raw.as_slice()) else {
        return Err(ended
            .map_or(TraceError::ShortHeader { bytes: raw.len() }, |source| damaged("the header", source)));
    };
    let header = Header::decode(&raw, limit)?;

    let (text, ended) = read_up_to(&mut bytes, header.text_bytes);
    if (text.len() as u64) < header.text_bytes {
        return Err(ended
            .map_or(TraceError::ShortText { bytes: text.len(), claimed: header.text_bytes }, |source| {
                damaged("the text", source)
            }));
    }

    let (records, ended) = read_up_to(&mut bytes, header.records * RECORD_BYTES as u64);
    let (whole, odd) = (records.len() / RECORD_BYTES, records.len() % RECORD_BYTES);
    if (whole as u64) < header.records {
        let (index, of) = (whole as u64, header.records);
        return Err(match ended {
            Some(source) if !is_of_the_file(&source) => TraceError::Io(source),
            Some(source) => TraceError::DamagedRecord { index, of, source },
            None => TraceError::Truncated { index, of, odd },
        });
    }
    // The decoder looks at the end of its stream only when it is asked for more than there is.
    match read_up_to(&mut bytes, 1) {
        (_, Some(source)) => {
            return Err(damaged("the end, after the last record", source));
        }
        (more, None) if !more.is_empty() => return Err(TraceError::TooLong { records: header.records }),
        _ => {}
    }
    match fnv1a(&records) {
        found if found != header.checksum => {
            Err(TraceError::Checksum { records: header.records, claimed: header.checksum, found })
        }
        _ => Ok(Trace { name, header, text: String::from_utf8_lossy(&text).into_owned(), bytes: records }),
    }
}

fn damaged(place: &'static str, source: io::Error) -> TraceError {
    if is_of_the_file(&source) { TraceError::Damaged { place, source } } else { TraceError::Io(source) }
}

/// Whether an error is the file's, not for want of memory.
fn is_of_the_file(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::OutOfMemory
}

/// Up to `want` bytes, growing with what really comes; and the error that ended them early, if one
/// did.
fn read_up_to(source: &mut impl Read, want: u64) -> (Vec<u8>, Option<io::Error>) {
    let mut bytes = Vec::new();
    let error = source.take(want).read_to_end(&mut bytes).err();
    (bytes, error)
}

/// The 64-bit FNV-1a hash.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
