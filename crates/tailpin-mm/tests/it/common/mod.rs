//! A machine for one test: memory, a zone, an `Mm`; afterwards nothing may be lost.

#![allow(dead_code, unreachable_pub)] // Each test file uses a part of it.

pub mod accounts;

pub use tailpin::PAGE_BYTES as PAGE;
use tailpin::{Kind, Order, Pfn, Zone};
use tailpin_mm::{
    Advice, CollapseError, CollapseLimits, CollapseOutcome, Env, Mm, MmConfig, Ram, Space, StdEnv, VirtAddr,
};

pub const MIB: u64 = 1 << 20;
pub const HUGE: u64 = 2 * MIB;

pub type Mem<'z> = Mm<'z, StdEnv>;
pub type Sp<'z> = Space<'z, StdEnv>;

/// Runs `test` on a machine with `bytes` of memory and audits it afterwards: every frame is free
/// again.
pub fn machine(bytes: u64, config: MmConfig, test: impl for<'z> FnOnce(&Mem<'z>, &'z Zone<'z>, &'z StdEnv)) {
    let ram = Ram::new(bytes);
    let zone = ram.zone().unwrap();
    run(&ram, &zone, config, test);
}

fn run<'z>(
    ram: &'z Ram,
    zone: &'z Zone<'z>,
    config: MmConfig,
    test: impl FnOnce(&Mem<'z>, &'z Zone<'z>, &'z StdEnv),
) {
    let mm = Mm::new(zone, ram.env(), ram.infos(), config).unwrap();
    test(&mm, zone, ram.env());
    ram.env().fail_after(None);
    drop(mm);
    let audit = zone.audit();
    assert_eq!(audit.violations(), 0, "{audit}");
    assert_eq!(zone.used_frames(), 0, "{audit}");
    assert_eq!(zone.set_aside_frames(), 0, "a misuse was reported: {audit}");
}

/// A pattern that tells pages and offsets apart.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|i| ((i + 1).wrapping_mul(seed | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

pub fn bytes(space: &Sp<'_>, addr: VirtAddr, len: u64) -> Vec<u8> {
    let mut buf = vec![0; len as usize];
    space.read(addr, &mut buf).unwrap();
    buf
}

pub fn byte(space: &Sp<'_>, addr: VirtAddr) -> u8 {
    bytes(space, addr, 1)[0]
}

/// Asks for huge pages, then for a collapse: memory in small pages is had by asking for no huge
/// ones.
pub fn collapse<E: Env>(
    space: &Space<'_, E>,
    addr: VirtAddr,
    limits: CollapseLimits,
) -> Result<CollapseOutcome, CollapseError> {
    let _ = space.advise(addr.align_down(HUGE), HUGE, Advice::Huge);
    space.collapse(addr, limits)
}

/// The frame mapped at an address.
pub fn frame(space: &Sp<'_>, addr: VirtAddr) -> Pfn {
    space.mapping(addr).expect("a page is present").frame
}

pub fn is_huge(space: &Sp<'_>, addr: VirtAddr) -> bool {
    space.mapping(addr).is_some_and(|mapping| mapping.order == Order::HUGE)
}

/// A tail that is in no block is one of a block that is no more, whose words are as it left them.
pub fn is_free(zone: &Zone<'_>, frame: Pfn) -> bool {
    let state = zone.state(frame).unwrap();
    let of_no_use = matches!(state.kind, Kind::Free | Kind::Implicit | Kind::Tail);
    zone.head_of(frame).is_none() && of_no_use && state.pins == 0
}
