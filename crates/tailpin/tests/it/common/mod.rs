//! Memory for a test's zone, and a sink that remembers.
#![allow(dead_code, unreachable_pub)]

pub mod between;
pub mod hooked;
pub mod stop;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use tailpin::OneWord;
use tailpin::{FrameMask, FreeSink, Misuse, Order, Pfn, Sink};
pub use tailpin_classic::Classic;

/// Keeps every misuse it hears of.
#[derive(Default)]
pub struct Heard(pub Mutex<Vec<Misuse>>);

impl Sink for Heard {
    fn misuse(&self, misuse: &Misuse) {
        self.0.lock().unwrap().push(*misuse);
    }
}

impl Heard {
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Random numbers, the same ones for the same seed (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// A small number of the calling thread's own.
pub fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    MINE.with(|mine| *mine)
}

/// Runs a generic `fn(&Zone<P>, &Heard, ..)` on a fresh zone of `frames` frames, once with each
/// protocol.
#[macro_export]
macro_rules! on_both {
    ($frames:expr, $test:ident $(, $argument:expr)*) => {
        $crate::on_one!(OneWord, $frames, $test $(, $argument)*);
        $crate::on_one!(Classic, $frames, $test $(, $argument)*);
    };
}

/// The same with one protocol.
#[macro_export]
macro_rules! on_one {
    ($protocol:ident, $frames:expr, $test:ident $(, $argument:expr)*) => {{
        use tailpin::{FrameRange, Pfn, Zone, ZoneConfig, ZoneLayout, ZoneMemory};
        let ranges = [FrameRange::new(Pfn::new(0), $frames)];
        let layout = ZoneLayout::new(&ranges, 2).unwrap();
        let memory = ZoneMemory::for_protocol::<$crate::common::$protocol>(&layout);
        let heard = $crate::common::Heard::default();
        let config = ZoneConfig::default().sink(&heard).cpu($crate::common::thread_number);
        let zone: Zone<'_, $crate::common::$protocol> = memory.zone_with_protocol(layout, config).unwrap();
        $test(&zone, &heard $(, $argument)*)
    }};
}

/// Takes frames back without a zone; a misuse is a failure.
pub struct NoMisuse;

impl FreeSink for NoMisuse {
    fn freed_block(&self, _: Pfn, _: Order) {}
    fn freed_frames(&self, _: Pfn, _: &FrameMask) {}
    fn freed_offline(&self, _: Pfn) {}
    fn misuse(&self, misuse: &Misuse) {
        panic!("{misuse}");
    }
}
