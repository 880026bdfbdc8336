//! Another process: its mappings, its memory, its open files.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::error::LookError;
use crate::memory::PAGE_SIZE;

/// A mapping, as a line of `/proc/PID/maps` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MapsLine {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) is_shared: bool,
    /// Where it begins in its file.
    pub(super) offset: u64,
    pub(super) inode: u64,
    /// The file's path.
    pub(super) name: String,
}

impl MapsLine {
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut rest = line;
        let mut next = || {
            rest = rest.trim_start();
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = after;
            Some(word).filter(|word| !word.is_empty())
        };
        let (start, end) = next()?.split_once('-')?;
        let (access, offset, _device, inode) = (next()?, next()?, next()?, next()?);
        let hex = |text| u64::from_str_radix(text, 16).ok();
        Some(Self {
            start: hex(start)?,
            end: hex(end).filter(|end| *end > hex(start).unwrap_or(0))?,
            is_shared: access.ends_with('s'),
            offset: hex(offset)?,
            inode: inode.parse().ok()?,
            name: rest.trim().to_owned(),
        })
    }

    /// Whether it is of the memory file of this name.
    pub(super) fn is_of(&self, name: &str) -> bool {
        let rest = self.name.strip_prefix("/memfd:").and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.is_empty() || rest == " (deleted)")
    }
}

/// A process that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process(pub(super) u32);

impl Process {
    fn failed(self, doing: &'static str) -> impl Fn(io::Error) -> LookError {
        move |error| LookError::of(self.0, doing, &error)
    }

    pub(super) fn mappings(self) -> Result<Vec<MapsLine>, LookError> {
        let text = fs::read(format!("/proc/{}/maps", self.0)).map_err(self.failed("read its mappings"))?;
        Ok(String::from_utf8_lossy(&text).lines().filter_map(MapsLine::parse).collect())
    }

    /// What it is called.
    pub(super) fn name(self) -> String {
        fs::read_to_string(format!("/proc/{}/comm", self.0)).unwrap_or_default().trim().to_owned()
    }

    /// The open file of this inode, to be read.
    pub(super) fn open_file(self, inode: u64) -> Result<File, LookError> {
        let failed = self.failed("look at its open files");
        for entry in fs::read_dir(format!("/proc/{}/fd", self.0)).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            let is_it = |path| fs::metadata(path).is_ok_and(|file| file.ino() == inode && file.is_file());
            let is_memory = fs::read_link(&path).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:"));
            // The number may be another file's by now: looked at once more when it is open.
            if is_memory
                && is_it(&path)
                && let Ok(file) = File::open(&path)
                && file.metadata().is_ok_and(|file| file.ino() == inode)
            {
                return Ok(file);
            }
        }
        Err(LookError::Gone)
    }

    /// Reads memory at `address`, all of `buffer` or an error.
    pub(super) fn read(self, address: u64, buffer: &mut [u8]) -> Result<(), LookError> {
        let mut done = 0;
        while done < buffer.len() {
            let rest = &mut buffer[done..];
            let here = libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() };
            // An address of the other process, which the kernel checks.
            let at = std::ptr::without_provenance_mut((address + done as u64) as usize);
            let there = libc::iovec { iov_base: at, iov_len: rest.len() };
            // SAFETY: the kernel writes to `rest` alone, which is this thread's, and reads from the
            // other process; both vectors have one entry and live through the call.
            let read = unsafe { libc::process_vm_readv(self.0 as libc::pid_t, &here, 1, &there, 1, 0) };
            done += match usize::try_from(read) {
                Ok(0) => return Err(LookError::Gone),
                Ok(read) => read,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    return Err(match error.raw_os_error() {
                        Some(libc::EFAULT) => LookError::Gone,
                        _ => LookError::of(self.0, "read its memory", &error),
                    });
                }
            };
        }
        Ok(())
    }

    /// Which of `pages` pages from `address` on the process has ever touched: bit 0 of byte 0 is
    /// the first. To read one that it hasn't would bring memory.
    pub(super) fn touched(self, address: u64, pages: u64) -> Result<Vec<bool>, LookError> {
        /// In memory, or swapped out.
        const THERE: u64 = 1 << 63 | 1 << 62;
        let failed = self.failed("read which of its pages have memory");
        let file = File::open(format!("/proc/{}/pagemap", self.0)).map_err(&failed)?;
        let mut touched = Vec::new();
        let mut entries = vec![0; 1 << 16];
        let mut at = address / PAGE_SIZE as u64;
        let end = at + pages;
        while at < end {
            let n = ((end - at) as usize).min(entries.len() / 8);
            let part = &mut entries[..n * 8];
            file.read_exact_at(part, at * 8).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => LookError::Gone,
                _ => failed(error),
            })?;
            touched
                .extend(part.as_chunks::<8>().0.iter().map(|entry| u64::from_ne_bytes(*entry) & THERE != 0));
            at += n as u64;
        }
        Ok(touched)
    }

    /// Bytes of memory that the process has in a range, as the kernel counts them (`Rss`).
    pub(super) fn resident(self, start: u64, end: u64) -> Option<u64> {
        let text = fs::read(format!("/proc/{}/smaps", self.0)).ok()?;
        let mut inside = false;
        let mut kib = 0;
        for line in String::from_utf8_lossy(&text).lines() {
            if let Some(mapping) = MapsLine::parse(line) {
                inside = start <= mapping.start && mapping.end <= end;
            } else if inside && let Some(rss) = line.strip_prefix("Rss:") {
                kib += rss.trim().trim_end_matches(" kB").parse::<u64>().ok()?;
            }
        }
        Some(kib << 10)
    }
}

/// Processes of this machine, those that can't be looked at among them.
pub(super) fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut all: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    all.sort_unstable();
    all.into_iter().map(Process).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mappings() {
        let line = "7f0000000000-7f0000010000 rw-p 00001000 00:01 2051                       /memfd:tailpin-description (deleted)";
        let parsed = MapsLine::parse(line).unwrap();
        let expected = MapsLine {
            start: 0x7f00_0000_0000,
            end: 0x7f00_0001_0000,
            is_shared: false,
            offset: 0x1000,
            inode: 2051,
            name: "/memfd:tailpin-description (deleted)".into(),
        };
        assert_eq!(parsed, expected);
        assert!(parsed.is_of("tailpin-description") && !parsed.is_of("tailpin-desc"));
        assert!(MapsLine::parse("7f00-7f10 rw-s 00000000 00:01 1 /memfd:a b (deleted)").unwrap().is_shared);
        let anonymous = MapsLine::parse("7f00-7f10 rw-p 00000000 00:00 0 ").unwrap();
        assert_eq!((anonymous.name.as_str(), anonymous.inode), ("", 0));
        for odd in
            ["", "Rss:   12 kB", "VmFlags: rd wr", "7f10-7f00 rw-p 0 0 0", "x-y rw-p 0 0 0", "1-2 rw-p"]
        {
            assert_eq!(MapsLine::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn memory_of_a_process_is_read_or_the_reason_is_told() {
        let me = Process(std::process::id());
        let bytes = *b"some bytes of this process";
        let mut copy = [0; 26];
        me.read(bytes.as_ptr() as u64, &mut copy).unwrap();
        assert_eq!(copy, bytes);
        assert_eq!(me.read(16, &mut copy), Err(LookError::Gone));
        // Numbers end below 2^22.
        let none = Process(1 << 30);
        assert_eq!(none.mappings().err(), Some(LookError::NoProcess { pid: 1 << 30 }));
        assert_eq!(none.read(0, &mut copy), Err(LookError::NoProcess { pid: 1 << 30 }));
        assert!(processes().contains(&me));
    }
}
