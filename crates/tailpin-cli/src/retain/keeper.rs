//! Back ends: what holds the read buffer, and what a survivor is kept as.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, Range};

use bytes::Bytes;

/// Bytes of a read.
pub(crate) const BUFFER: usize = 2 << 20;

/// A back end. One buffer is filled, looked through, kept from and let go; then the next.
pub(crate) trait Keeper {
    /// A survivor.
    type Kept: Deref<Target = [u8]>;

    /// Reads up to `want` bytes from where `log` stands into a buffer; tells how many there are.
    fn fill(&mut self, log: &mut File, want: usize) -> Result<usize, KeepError>;

    /// The buffer.
    fn buffer(&self) -> &[u8];

    /// Keeps a part of the buffer.
    fn keep(&mut self, range: Range<usize>) -> Self::Kept;

    /// Lets the buffer go.
    fn done(&mut self);

    /// Bytes kept from reuse by what is alive.
    fn retained(&self) -> u64;

    /// Gives what is free back to the kernel, but for the room of the next buffer; tells how many
    /// bytes went.
    fn give_back(&mut self) -> Result<u64, KeepError> {
        Ok(0)
    }

    /// No buffer comes any more: lets go of everything but the survivors; tells how many bytes went
    /// back on the way.
    fn finish(&mut self) -> Result<u64, KeepError>;
}

/// Why a back end can't go on.
#[derive(Debug)]
pub(crate) enum KeepError {
    /// No memory for a buffer.
    NoMemory { bytes: usize },
    /// The log can't be read.
    Log(io::Error),
    /// The arena refused.
    Arena(String),
}

impl fmt::Display for KeepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory { bytes } => write!(f, "no memory for a buffer of {bytes} bytes"),
            Self::Log(error) => write!(f, "log: {error}"),
            Self::Arena(error) => write!(f, "arena: {error}"),
        }
    }
}

impl std::error::Error for KeepError {}

/// Reads into the spare room of `buffer`, which is not zeroed first.
fn read_into(buffer: &mut Vec<u8>, log: &mut File, want: usize) -> Result<usize, KeepError> {
    buffer.clear();
    buffer.try_reserve_exact(want).map_err(|_| KeepError::NoMemory { bytes: want })?;
    log.take(want as u64).read_to_end(buffer).map_err(KeepError::Log)
}

/// A survivor is a slice of the buffer and keeps the whole of it.
#[derive(Debug, Default)]
pub(crate) struct Sliced {
    buffer: Bytes,
    any_kept: bool,
    retained: u64,
}

impl Keeper for Sliced {
    type Kept = Bytes;

    fn fill(&mut self, log: &mut File, want: usize) -> Result<usize, KeepError> {
        let mut buffer = Vec::new();
        let got = read_into(&mut buffer, log, want)?;
        self.buffer = Bytes::from(buffer);
        Ok(got)
    }

    fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    fn keep(&mut self, range: Range<usize>) -> Bytes {
        self.any_kept = true;
        self.buffer.slice(range)
    }

    fn done(&mut self) {
        if std::mem::take(&mut self.any_kept) {
            self.retained += self.buffer.len() as u64;
        }
        self.buffer = Bytes::new();
    }

    fn retained(&self) -> u64 {
        self.retained
    }

    fn finish(&mut self) -> Result<u64, KeepError> {
        // Let go already.
        Ok(0)
    }
}

/// A survivor is copied; the buffer is used again.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    buffer: Vec<u8>,
    retained: u64,
}

impl Keeper for Copied {
    type Kept = Box<[u8]>;

    fn fill(&mut self, log: &mut File, want: usize) -> Result<usize, KeepError> {
        read_into(&mut self.buffer, log, want)
    }

    fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    fn keep(&mut self, range: Range<usize>) -> Box<[u8]> {
        self.retained += range.len() as u64;
        self.buffer[range].into()
    }

    fn done(&mut self) {}

    fn retained(&self) -> u64 {
        self.retained
    }

    fn finish(&mut self) -> Result<u64, KeepError> {
        self.buffer = Vec::new();
        Ok(0)
    }
}
