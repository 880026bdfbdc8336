//! A caller's code panics: nothing is lost.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tailpin::{
    FrameRange, Hooks, Misuse, OneWord, Order, Pfn, Protocol, Request, Sink, Zone, ZoneConfig, ZoneLayout,
    ZoneMemory,
};
use tailpin_classic::Classic;

const FRAMES: u64 = 5 * 512;

/// Code of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    BeforePublication,
    AfterLastReference,
    Reclaim,
    Sink,
    Cpu,
}

thread_local! {
    /// Which code panics, and after how many calls of it.
    static PANICS: Cell<Option<(Code, u32)>> = const { Cell::new(None) };
}

/// Panics once, where it was told to.
fn called(code: Code) {
    match PANICS.get() {
        Some((panics, 0)) if panics == code => {
            PANICS.set(None);
            panic!("the caller's code");
        }
        Some((panics, left)) if panics == code => PANICS.set(Some((code, left - 1))),
        _ => {}
    }
}

struct Callers;

impl Hooks for Callers {
    fn before_publication(&self, _: Pfn, _: Order, _: bool) {
        called(Code::BeforePublication);
    }
    fn after_last_reference(&self, _: Pfn, _: Order) {
        called(Code::AfterLastReference);
    }
    fn reclaim(&self, _: Order, _: u64) -> bool {
        called(Code::Reclaim);
        false
    }
}

impl Sink for Callers {
    fn misuse(&self, _: &Misuse) {
        called(Code::Sink);
    }
}

fn cpu() -> usize {
    called(Code::Cpu);
    0
}

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

/// Whether the zone calls hooks, which makes each free two steps.
#[derive(Clone, Copy, Debug)]
struct Hooked(bool);

/// `$act` on a fresh zone, the code panicking at each of its calls in turn. Afterwards all is free
/// but what was set aside, and the counts say so.
macro_rules! nothing_is_lost {
    ($protocol:ident, $hooked:expr, $code:expr, $set_aside:expr, $act:ident) => {{
        let (hooked, code): (Hooked, Code) = ($hooked, $code);
        for n in 0.. {
            let ranges = [FrameRange::new(Pfn::new(0), FRAMES)];
            let layout = ZoneLayout::new(&ranges, 1).unwrap();
            let memory = ZoneMemory::for_protocol::<$protocol<'_>>(&layout);
            let config = ZoneConfig::default().sink(&Callers).cpu(cpu);
            let config = if hooked.0 { config.hooks(&Callers).low_watermark(FRAMES) } else { config };
            let zone: Zone<'_, $protocol<'_>> = memory.zone_with_protocol(layout, config).unwrap();
            PANICS.set(Some((code, n)));
            let caught = catch_unwind(AssertUnwindSafe(|| $act(&zone))).is_err();
            PANICS.set(None);
            let what = format!("{code:?} panics at call {n} of it, {hooked:?}, caught: {caught}");
            let (free, audit) = (FRAMES - $set_aside, zone.audit());
            assert_eq!((audit.violations(), audit.free), (0, free), "{what}: {audit}");
            assert_eq!((zone.used_frames(), zone.free_frames()), (0, free), "{what}");
            assert_eq!(zone.set_aside_frames(), $set_aside, "{what}");
            if !caught {
                assert!(n > 0, "{code:?} is never called");
                break;
            }
        }
    }};
}

/// Blocks of all kinds are taken and dropped, one by one and many at once.
fn take_and_drop<P: Protocol>(zone: &Zone<'_, P>) {
    for wanted in [0, 3, 6, 9, 10] {
        let block = zone.alloc(order(wanted)).unwrap();
        drop(zone.alloc(order(wanted)));
        drop(block);
    }
    let mut many = zone.alloc_many(Request::new(Order::PAGE), 9);
    let some: Vec<_> = many.by_ref().take(4).collect();
    zone.drop_many(some);
    drop(many);
    zone.drain();
}

/// A block is dropped while pages of it are pinned, and pieces of one are dropped.
fn shapes<P: Protocol>(zone: &Zone<'_, P>) {
    let block = zone.alloc(order(4)).unwrap();
    let (first, other) = (block.pin(0).unwrap(), block.pin(5).unwrap());
    drop(block);
    drop(first);
    drop(other);
    let block = zone.alloc(order(4)).unwrap();
    let slice = block.slice(100..20_000).unwrap();
    drop(block);
    drop(slice);
    drop(zone.alloc(order(3)).unwrap().split().unwrap());
    drop(zone.alloc(order(10)).unwrap().split_to(Order::HUGE).unwrap());
}

/// A block above 2 MiB is dropped with pins in some of its pageblocks.
fn large<P: Protocol>(zone: &Zone<'_, P>) {
    let block = zone.alloc(order(11)).unwrap();
    let pins = [3, 700, 1999].map(|page| block.pin(page).unwrap());
    drop(block);
    drop(pins);
}

/// A block above 2 MiB is dropped of which a frame is to leave service.
fn large_with_a_bad_frame<P: Protocol>(zone: &Zone<'_, P>) {
    let block = zone.alloc(order(11)).unwrap();
    zone.set_aside(block.pfn().offset(5));
    drop(block);
}

/// Runs of all kinds are taken and given back, as a whole and in parts, and one that there is no
/// room for is asked for.
fn runs<P: Protocol>(zone: &Zone<'_, P>) {
    for frames in [5, 48, 300, 1100] {
        let run = zone.alloc_run(frames, 1).unwrap();
        let (first, rest) = run.split_at(frames / 3);
        drop(rest);
        let named = zone.alloc_run_at(FrameRange::new(Pfn::new(FRAMES - 30), 7));
        drop(first);
        assert!(zone.alloc_run(FRAMES + 1 - 30, 1).is_err());
        drop(named);
    }
}

#[test]
fn panics_in_hooks_lose_no_frame_of_a_run() {
    for code in [Code::BeforePublication, Code::AfterLastReference, Code::Reclaim] {
        nothing_is_lost!(OneWord, Hooked(true), code, 0, runs);
        nothing_is_lost!(Classic, Hooked(true), code, 0, runs);
    }
    nothing_is_lost!(OneWord, Hooked(false), Code::Cpu, 0, runs);
}

#[test]
fn panics_in_hooks_lose_nothing() {
    for code in [Code::BeforePublication, Code::AfterLastReference, Code::Reclaim] {
        nothing_is_lost!(OneWord, Hooked(true), code, 0, take_and_drop);
        nothing_is_lost!(Classic, Hooked(true), code, 0, take_and_drop);
        nothing_is_lost!(OneWord, Hooked(true), code, 0, shapes);
        nothing_is_lost!(Classic, Hooked(true), code, 0, shapes);
    }
}

#[test]
fn panics_in_hooks_lose_nothing_of_a_large_block() {
    for code in [Code::AfterLastReference, Code::Cpu] {
        nothing_is_lost!(OneWord, Hooked(true), code, 0, large);
        nothing_is_lost!(Classic, Hooked(true), code, 0, large);
    }
    nothing_is_lost!(OneWord, Hooked(true), Code::AfterLastReference, 1, large_with_a_bad_frame);
    nothing_is_lost!(Classic, Hooked(true), Code::AfterLastReference, 1, large_with_a_bad_frame);
}

#[test]
fn panics_of_the_cpu_function_lose_nothing() {
    for hooked in [Hooked(false), Hooked(true)] {
        nothing_is_lost!(OneWord, hooked, Code::Cpu, 0, take_and_drop);
        nothing_is_lost!(Classic, hooked, Code::Cpu, 0, take_and_drop);
        nothing_is_lost!(OneWord, hooked, Code::Cpu, 0, shapes);
        nothing_is_lost!(Classic, hooked, Code::Cpu, 0, shapes);
    }
}

/// A page is freed twice: what is found is told, and the frame is out of service whatever becomes
/// of the telling.
fn free_twice<P: Protocol>(zone: &Zone<'_, P>) {
    let raw = zone.raw();
    let page = raw.alloc(Request::new(Order::PAGE)).unwrap();
    raw.free(page).unwrap();
    let _ = raw.free(page);
}

#[test]
fn panics_of_the_sink_lose_nothing() {
    nothing_is_lost!(OneWord, Hooked(false), Code::Sink, 1, free_twice);
    nothing_is_lost!(Classic, Hooked(false), Code::Sink, 1, free_twice);
    nothing_is_lost!(OneWord, Hooked(true), Code::Sink, 1, free_twice);
}

#[test]
fn panics_of_what_gives_and_takes_many_lose_nothing() {
    let ranges = [FrameRange::new(Pfn::new(0), FRAMES)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
    let blocks: Vec<_> = zone.alloc_many(Request::new(Order::PAGE), 100).collect();
    let giver = blocks.into_iter().enumerate().map(|(n, block)| {
        assert!(n < 50, "the caller's code");
        block
    });
    assert!(catch_unwind(AssertUnwindSafe(|| zone.drop_many(giver))).is_err());
    assert_eq!(zone.used_frames(), 0);
    let many = || {
        let mut taken = Vec::new();
        for (n, block) in zone.alloc_many(Request::new(Order::PAGE), 100).enumerate() {
            assert!(n < 50, "the caller's code");
            taken.push(block);
        }
    };
    assert!(catch_unwind(AssertUnwindSafe(many)).is_err());
    assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
}
