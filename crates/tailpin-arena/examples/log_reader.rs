//! A log of any length read 2 MiB at a time, and the last thousand interesting lines kept where
//! they were read, all of it in 32 MiB.
//!
//! `cargo run --release -p tailpin-arena --example log_reader [MiB of log]`

use std::collections::VecDeque;
use std::io::Read;

use tailpin_arena::{Arena, ReadBuffer, Slice};

const READ: usize = 2 << 20;
const KEPT: usize = 1000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mib: u64 = std::env::args().nth(1).map_or(Ok(64), |text| text.parse())?;
    let mut log = Log::default().take(mib << 20);
    let arena = Arena::builder().limit(32 << 20).build()?;
    let mut kept: VecDeque<Slice> = VecDeque::new();
    let (mut rest, mut lines, mut most) = (Vec::new(), 0_u64, 0);
    loop {
        let mut buffer = ReadBuffer::new(arena.alloc(READ)?);
        // The line that the last buffer ended in.
        buffer.fill_from(&mut rest.as_slice())?;
        if buffer.fill_from(&mut log)? == 0 {
            break;
        }
        let whole = buffer.freeze();
        let end = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut at = 0;
        for line in whole[..end].split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b"ERROR") {
                kept.push_back(whole.slice(at..at + line.len()));
            }
            at += line.len();
            lines += 1;
        }
        rest = whole[end..].to_vec();
        kept.drain(..kept.len().saturating_sub(KEPT));
        most = most.max(arena.in_use());
    }
    assert!(kept.iter().all(|line| line.starts_with(b"ERROR") && line.ends_with(b"\n")));
    println!(
        "{lines} lines of {mib} MiB; {} kept, {:.1} MiB of the arena in use, {:.1} at most",
        kept.len(),
        arena.in_use() as f64 / (1 << 20) as f64,
        most as f64 / (1 << 20) as f64
    );
    Ok(())
}

/// Lines of 100 to 3,000 bytes, one in a hundred of which is an error.
#[derive(Default)]
struct Log {
    number: u64,
    line: Vec<u8>,
    at: usize,
}

impl Read for Log {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.line.len() {
            self.number += 1;
            let level = if self.number.is_multiple_of(100) { "ERROR" } else { "INFO" };
            let len = 100 + (self.number * 2_654_435_761 % 2901) as usize;
            self.line = format!("{level} {:<len$}\n", self.number).into_bytes();
            self.at = 0;
        }
        let n = to.len().min(self.line.len() - self.at);
        to[..n].copy_from_slice(&self.line[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
