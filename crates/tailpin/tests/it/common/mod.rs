//! Memory for a test's zone, and a sink that remembers.
#![allow(dead_code, unreachable_pub)]

pub mod between;
pub mod hooked;
pub mod stop;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use tailpin::OneWord;
use tailpin::{FrameMask, FreeSink, Misuse, Order, Pfn, SetAside, Sink, Zone};
pub use tailpin_classic::Classic;

/// Keeps every misuse it hears of, and the frames that are to be set aside once more.
#[derive(Default)]
pub struct Heard(pub Mutex<Vec<Misuse>>, pub Mutex<Vec<Pfn>>);

impl Sink for Heard {
    fn misuse(&self, misuse: &Misuse) {
        self.0.lock().unwrap().push(*misuse);
    }

    fn ask_again(&self, frame: Pfn) {
        self.1.lock().unwrap().push(frame);
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

/// An order as storms ask for it: all that a CPU cache has its own way for.
pub fn any_cached_order(random: &mut Random) -> Order {
    Order::new([0, 1, 1, 2, 3, 3, 5, 6, 8, 9][random.below(10) as usize]).unwrap()
}

/// Sets any of the first `frames` frames aside, and has it back if it was in service.
pub fn set_aside_and_restore(zone: &Zone<'_, OneWord<'_>>, random: &mut Random, frames: u64) {
    let frame = Pfn::new(random.below(frames));
    if let SetAside::Done | SetAside::WhenFreed = zone.set_aside(frame) {
        // Some come back at once, others when they are found to have left.
        zone.restore(frame);
    }
}

/// Four threads play, four times over, and each time all of so many frames are free afterwards, or
/// set aside.
pub fn nothing_is_lost(zone: &Zone<'_, OneWord<'_>>, frames: u64, play: impl Fn(u64) + Sync) {
    for round in 0..4 {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let play = &play;
                scope.spawn(move || play(round * 10 + thread));
            }
        });
        let audit = zone.audit();
        audit.findings().for_each(|finding| println!("{finding}"));
        assert_eq!((audit.violations(), zone.used_frames()), (0, 0), "{audit}");
        assert_eq!(zone.free_frames() + zone.set_aside_frames(), frames);
    }
}
