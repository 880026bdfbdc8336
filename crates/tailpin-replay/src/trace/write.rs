//! Writing a trace, record by record.

use super::format::{HEADER_BYTES, MAGIC, RECORD_BYTES};
use super::header::{MAX_TEXT_BYTES, VERSION};
use super::read::fnv1a;
use super::record::{FreeKind, Op};

/// When and where something happened, and what the kernel said of it beside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstance {
    /// Nanoseconds on a clock that never goes back.
    pub ns: u64,
    /// The CPU.
    pub cpu: u8,
    /// Of an allocation: its flags.
    pub flags: u32,
    /// Of an allocation: 0 unmovable, 1 movable, 2 reclaimable.
    pub migratetype: u8,
}

/// The longest time between two records, 13 days: longer ones are told as this. The time of a
/// record has 32 bits, and what is longer takes records of its own.
pub const LONGEST_SILENCE_NS: u64 = (u32::MAX as u64) << 18;

/// A trace that is being written.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    records: Vec<u8>,
    /// Highest frame number plus one.
    frames: u64,
    first_ns: Option<u64>,
    last_ns: u64,
    /// Of all records together.
    duration_ns: u64,
}

impl Writer {
    /// Adds a record. One that is earlier than the last counts as at the same moment, one that is
    /// later than [`LONGEST_SILENCE_NS`] after it as so much later.
    pub fn add(&mut self, when: Circumstance, op: Op) {
        let first = *self.first_ns.get_or_insert(when.ns);
        // A clock that leaps would fill the memory with records of time alone.
        let mut dt = when.ns.saturating_sub(self.last_ns.max(first)).min(LONGEST_SILENCE_NS);
        self.last_ns = self.last_ns.max(when.ns);
        self.duration_ns = self.duration_ns.saturating_add(dt);
        while let Err(_beyond) = u32::try_from(dt) {
            self.push(u32::MAX, when, Op::Time);
            dt -= u64::from(u32::MAX);
        }
        self.push(dt as u32, when, op);
    }

    fn push(&mut self, dt: u32, when: Circumstance, op: Op) {
        let block = |pfn: u32, order: tailpin::Order| u64::from(pfn) + order.frames();
        let (number, pfn, aux, order, mt, end) = match op {
            Op::Alloc { pfn, order } => {
                (1, pfn, when.flags, order.get(), when.migratetype, block(pfn, order))
            }
            Op::Free { pfn, order, kind } => {
                let aux = match kind {
                    FreeKind::Seen => 0,
                    FreeKind::Implied => 1,
                    FreeKind::Larger => 2,
                };
                (2, pfn, aux, order.get(), 0, block(pfn, order))
            }
            // Recorders that see no splits infer them.
            Op::Split { pfn, order, to } => (3, pfn, 1, order.get(), to.get(), block(pfn, order)),
            Op::Pin { pfn, refs } => (4, pfn, refs.into(), 0, 0, u64::from(pfn) + 1),
            Op::Unpin { pfn, refs } => (5, pfn, refs.into(), 0, 0, u64::from(pfn) + 1),
            Op::Collapse { pfn } => (6, pfn.unwrap_or(u32::MAX), 0, 9, 0, 0),
            Op::Time => (7, 0, 0, 0, 0, 0),
            Op::SplitFail { pfn, order } => (8, pfn, 0, order.get(), 0, block(pfn, order)),
        };
        self.frames = self.frames.max(end);
        let mut raw = [0; RECORD_BYTES];
        raw[..4].copy_from_slice(&dt.to_le_bytes());
        raw[4..8].copy_from_slice(&pfn.to_le_bytes());
        raw[8..12].copy_from_slice(&aux.to_le_bytes());
        raw[12..].copy_from_slice(&[number, when.cpu, order, mt]);
        self.records.extend_from_slice(&raw);
    }

    /// Records so far.
    pub fn len(&self) -> usize {
        self.records.len() / RECORD_BYTES
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The trace as a file, with facts of the recording, one `key value` a line; of a longer text
    /// than a trace may have, the lines that fit.
    pub fn finish(self, text: &str) -> Vec<u8> {
        let mut text = text;
        while text.len() as u64 > MAX_TEXT_BYTES {
            let lines = text.trim_end_matches('\n');
            text = &text[..lines.rfind('\n').map_or(0, |at| at + 1)];
        }
        let mut file = Vec::with_capacity(HEADER_BYTES + text.len() + self.records.len());
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&VERSION.to_le_bytes());
        file.extend_from_slice(&(RECORD_BYTES as u32).to_le_bytes());
        let numbers =
            [self.len() as u64, self.frames, self.duration_ns, fnv1a(&self.records), text.len() as u64, 0];
        numbers.iter().for_each(|number| file.extend_from_slice(&number.to_le_bytes()));
        file.extend_from_slice(text.as_bytes());
        file.extend_from_slice(&self.records);
        file
    }
}

#[cfg(test)]
mod tests {
    use tailpin::Order;

    use super::*;
    use crate::trace::{DEFAULT_LIMIT, Record, read};

    #[test]
    fn what_is_written_is_read() {
        let order = |order| Order::new(order).unwrap();
        let ops = [
            Op::Alloc { pfn: 512, order: order(9) },
            Op::Pin { pfn: 700, refs: 3 },
            Op::Unpin { pfn: 700, refs: 3 },
            Op::Split { pfn: 512, order: order(9), to: order(0) },
            Op::Free { pfn: 513, order: order(0), kind: FreeKind::Seen },
            Op::Free { pfn: 512, order: order(0), kind: FreeKind::Implied },
            Op::Free { pfn: 520, order: order(3), kind: FreeKind::Larger },
            Op::Collapse { pfn: Some(9) },
            Op::Collapse { pfn: None },
            Op::SplitFail { pfn: 1024, order: order(2) },
        ];
        let mut writer = Writer::default();
        assert!(writer.is_empty());
        let start = 77_000_000_000;
        for (i, op) in ops.iter().enumerate() {
            writer.add(Circumstance { ns: start + i as u64 * 10, cpu: 3, ..Circumstance::default() }, *op);
        }
        // A clock of another CPU that is behind, then a long silence.
        writer.add(Circumstance { ns: start, ..Circumstance::default() }, Op::Time);
        writer.add(Circumstance { ns: start + 10_000_000_000, ..Circumstance::default() }, Op::Time);
        let text = "seconds 10\nlost 0\n".to_owned() + &"stat a 1\n".repeat(200_000);
        let trace = read("written".into(), &writer.finish(&text)[..], DEFAULT_LIMIT).unwrap();
        let records: Vec<Record> = trace.records().map(Result::unwrap).collect();
        assert!(records.iter().map(|record| record.op).zip(ops).all(|(read, op)| read == op));
        assert_eq!(records.len(), ops.len() + 1 + 3, "two records of time alone before the last");
        assert_eq!((records[0].dt, records[1].dt, records[10].dt), (0, 10, 0));
        assert_eq!((trace.header.frames, trace.header.duration_ns), (1028, 10_000_000_000));
        assert_eq!(trace.duration_ns(), 10_000_000_000);
        assert!(trace.text.starts_with("seconds 10\n") && trace.text.ends_with("stat a 1\n"));
        assert!(read("empty".into(), &Writer::default().finish("")[..], DEFAULT_LIMIT).unwrap().is_empty());
    }
}
