//! Words copied from another process or from a file, as far as they were ever written.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::error::LookError;
use super::process::Process;
use crate::memory::PAGE_BYTES;

/// Bytes copied at once.
const PART: u64 = 1 << 16;

/// Where the words are.
#[derive(Debug)]
pub(super) enum Source {
    /// Private memory of a process, from this address on.
    Memory(Process, u64),
    /// A memory file, from this offset on.
    File(File, u64),
}

impl Source {
    /// Calls `each` with all of `bytes` that may be other than zero, in order and in parts of whole
    /// pages, and with where each part begins. What was never written is not read: that would bring
    /// memory.
    pub(super) fn each_touched(
        &self,
        bytes: Range<u64>,
        mut each: impl FnMut(u64, &[u8]),
    ) -> Result<(), LookError> {
        let begin = bytes.start / PAGE_BYTES * PAGE_BYTES;
        let end = bytes.end.next_multiple_of(PAGE_BYTES);
        let mut buffer = vec![0; PART as usize];
        for run in self.touched(begin..end)? {
            let mut at = run.start;
            while at < run.end {
                let part = &mut buffer[..PART.min(run.end - at) as usize];
                match self {
                    Self::Memory(process, address) => process.read(address + at, part)?,
                    Self::File(file, offset) => {
                        file.read_exact_at(part, offset + at).map_err(|_| LookError::Gone)?;
                    }
                }
                each(at, part);
                at += part.len() as u64;
            }
        }
        Ok(())
    }

    /// Reads `bytes` word by word: `each` gets the number of a word, counted from where they begin,
    /// and the word. Zeros are left out.
    pub(super) fn each_word(
        &self,
        bytes: Range<u64>,
        mut each: impl FnMut(usize, u64),
    ) -> Result<(), LookError> {
        self.each_touched(bytes.clone(), |at, part| {
            for (i, word) in part.as_chunks::<8>().0.iter().enumerate() {
                let (at, word) = (at + i as u64 * 8, u64::from_ne_bytes(*word));
                if word != 0 && bytes.contains(&at) {
                    each(((at - bytes.start) / 8) as usize, word);
                }
            }
        })
    }

    /// Which parts of `bytes`, which are whole pages, were ever written.
    pub(super) fn touched(&self, bytes: Range<u64>) -> Result<Vec<Range<u64>>, LookError> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        match self {
            Self::Memory(process, address) => {
                let touched =
                    process.touched(address + bytes.start, (bytes.end - bytes.start) / PAGE_BYTES)?;
                for (i, _) in touched.iter().enumerate().filter(|(_, touched)| **touched) {
                    let page = bytes.start + i as u64 * PAGE_BYTES;
                    match runs.last_mut() {
                        Some(run) if run.end == page => run.end += PAGE_BYTES,
                        _ => runs.push(page..page + PAGE_BYTES),
                    }
                }
            }
            Self::File(file, offset) => {
                let mut at = bytes.start;
                while at < bytes.end {
                    let start = match seek(file, SeekFrom::Data(offset + at)) {
                        Ok(start) => (start - offset).max(at),
                        // No data from there on.
                        Err(Errno::NXIO) => break,
                        Err(errno) => {
                            let errno = errno.raw_os_error();
                            return Err(LookError::System { doing: "look for data in the file", errno });
                        }
                    };
                    // Where a file system doesn't know holes, all of it is data.
                    let end =
                        seek(file, SeekFrom::Hole(offset + start)).map_or(bytes.end, |end| end - offset);
                    let run =
                        start / PAGE_BYTES * PAGE_BYTES..end.next_multiple_of(PAGE_BYTES).min(bytes.end);
                    at = run.end;
                    if run.start < run.end {
                        runs.push(run);
                    } else {
                        break;
                    }
                }
            }
        }
        Ok(runs)
    }
}
