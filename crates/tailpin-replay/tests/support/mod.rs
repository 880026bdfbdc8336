//! A small writer of traces, for tests. Not every test uses all of it.
#![allow(dead_code, missing_docs, unreachable_pub)]

/// FNV-1a 64, written out once more so that the reader's is not checked against itself.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 14_695_981_039_346_656_037_u64;
    for &byte in bytes {
        hash ^= u64::from(byte);
        hash = hash.wrapping_mul(1_099_511_628_211);
    }
    hash
}

/// A trace in the making.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Encoded records.
    pub records: Vec<u8>,
    /// Highest frame plus one, for the header.
    pub frames: u64,
    /// Lines of facts.
    pub text: String,
}

impl Writer {
    /// An empty trace of frames below `frames`.
    pub fn new(frames: u64) -> Self {
        Self { records: Vec::new(), frames, text: "seconds 1\nlost 0\n".to_owned() }
    }

    /// Any record at all, 1 µs after the one before.
    pub fn record(&mut self, op: u8, pfn: u32, aux: u32, order: u8, mt: u8) -> &mut Self {
        for word in [1000, pfn, aux] {
            self.records.extend_from_slice(&word.to_le_bytes());
        }
        self.records.extend_from_slice(&[op, 0, order, mt]);
        self
    }

    /// ALLOC, movable.
    pub fn alloc(&mut self, pfn: u32, order: u8) -> &mut Self {
        self.record(1, pfn, 0xcc0, order, 1)
    }

    /// FREE, as seen.
    pub fn free(&mut self, pfn: u32, order: u8) -> &mut Self {
        self.record(2, pfn, 0, order, 0)
    }

    /// FREE of each of these frames as a page.
    pub fn free_pages(&mut self, frames: std::ops::Range<u32>) -> &mut Self {
        for frame in frames {
            self.free(frame, 0);
        }
        self
    }

    /// SPLIT from `order` to `to`.
    pub fn split(&mut self, pfn: u32, order: u8, to: u8) -> &mut Self {
        self.record(3, pfn, 1, order, to)
    }

    /// PIN of `refs` references.
    pub fn pin(&mut self, pfn: u32, refs: u32) -> &mut Self {
        self.record(4, pfn, refs, 0, 0)
    }

    /// UNPIN of `refs` references.
    pub fn unpin(&mut self, pfn: u32, refs: u32) -> &mut Self {
        self.record(5, pfn, refs, 0, 0)
    }

    /// COLLAPSE, successful.
    pub fn collapse(&mut self, pfn: u32) -> &mut Self {
        self.record(6, pfn, 1, 9, 0)
    }

    /// TIME.
    pub fn time(&mut self) -> &mut Self {
        self.record(7, 0, 0, 0, 0)
    }

    /// SPLITFAIL with EAGAIN.
    pub fn split_fail(&mut self, pfn: u32, order: u8) -> &mut Self {
        self.record(8, pfn, 11, order, 0)
    }

    /// The whole file before compression.
    pub fn raw(&self) -> Vec<u8> {
        let count = self.records.len() as u64 / 16;
        let mut file = b"PFTRACE1".to_vec();
        file.extend_from_slice(&1_u32.to_le_bytes());
        file.extend_from_slice(&16_u32.to_le_bytes());
        for long in [count, self.frames, 1_000_000_000, fnv1a(&self.records), self.text.len() as u64, 0] {
            file.extend_from_slice(&long.to_le_bytes());
        }
        file.extend_from_slice(self.text.as_bytes());
        file.extend_from_slice(&self.records);
        file
    }

    /// The file.
    pub fn file(&self) -> Vec<u8> {
        compress(&self.raw())
    }
}

/// zstd.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("memory to memory")
}

/// A small deterministic generator (xorshift64*).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }
}

/// Whether the block of `order` at `pfn` has this frame.
pub fn covers(pfn: u32, order: u8, frame: u32) -> bool {
    (pfn..pfn + (1 << order)).contains(&frame)
}

/// A few hundred possible events in eight pageblocks.
pub fn random_trace(dice: &mut Dice) -> Writer {
    const FRAMES: u64 = 4096;
    let mut writer = Writer::new(FRAMES);
    let mut live: Vec<(u32, u8)> = Vec::new();
    let mut pins: Vec<u32> = Vec::new();
    for _ in 0..dice.below(400) {
        let nth = dice.below(live.len().max(1) as u64) as usize;
        let chosen = live.get(nth).copied();
        match (dice.below(12), chosen) {
            (0..=2, _) => {
                let order = [9, 9, 10, 3, 0][dice.below(5) as usize];
                let pfn = (dice.below(FRAMES) as u32) >> order << order;
                if !live.iter().any(|&(block, size)| covers(pfn, order, block) || covers(block, size, pfn)) {
                    live.push((pfn, order));
                    writer.alloc(pfn, order);
                }
            }
            (3, Some((pfn, order))) if !pins.iter().any(|&frame| covers(pfn, order, frame)) => {
                live.swap_remove(nth);
                writer.free(pfn, order);
            }
            (4 | 5, Some((pfn, order))) if order > 0 => {
                let to = order - 1 - dice.below(u64::from(order).min(4)) as u8;
                live.swap_remove(nth);
                live.extend((0..1 << (order - to)).map(|piece| (pfn + (piece << to), to)));
                writer.split(pfn, order, to);
            }
            (6 | 7, Some((pfn, order))) => {
                let frame = pfn + dice.below(1 << order.min(2)) as u32;
                let refs = 1 + dice.below(3) as u32;
                pins.extend((0..refs).map(|_| frame));
                writer.pin(frame, refs);
            }
            (8 | 9, _) if !pins.is_empty() => {
                let frame = pins.swap_remove(dice.below(pins.len() as u64) as usize);
                writer.unpin(frame, 1);
            }
            (10, Some((pfn, order))) if order > 0 => {
                writer.split_fail(pfn, order);
            }
            (11, Some((pfn, _))) => {
                writer.collapse(pfn);
            }
            _ => {
                writer.time();
            }
        }
    }
    writer
}
