//! An environment in which chosen allocations fail.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tailpin::{Order, Pfn, Zone};
use tailpin_mm::{DirectMap, Env, Mm, MmConfig, Ram, ReadSide, SpaceId, Stale, StdEnv, Tlb};

/// What an environment says that panics.
pub const PANIC: &str = "told to panic";

/// [`StdEnv`], but allocations fail as told.
pub struct Flaky<'r> {
    env: &'r StdEnv,
    asked: AtomicU64,
    /// Those with these numbers fail,
    from: AtomicU64,
    to: AtomicU64,
    /// and one in so many, if not zero.
    one_in: AtomicU64,
    failed: AtomicU64,
    /// They don't fail, they panic.
    pub panics: AtomicBool,
}

/// Which allocations fail.
#[derive(Clone, Copy, Debug)]
pub enum Fail {
    Never,
    /// All but so many.
    After(u64),
    /// Only the one after so many.
    Only(u64),
    /// One in so many, scattered.
    OneIn(u64),
}

impl Flaky<'_> {
    pub fn fail(&self, fail: Fail) {
        let asked = self.asked();
        let (from, to, one_in) = match fail {
            Fail::Never => (0, 0, 0),
            Fail::After(n) => (asked + n, u64::MAX, 0),
            Fail::Only(n) => (asked + n, asked + n + 1, 0),
            Fail::OneIn(n) => (0, 0, n),
        };
        // Relaxed, here and below: knobs and statistics of tests.
        self.from.store(from, Ordering::Relaxed);
        self.to.store(to, Ordering::Relaxed);
        self.one_in.store(one_in, Ordering::Relaxed);
    }

    /// Allocations asked for so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Allocations made fail so far.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

// SAFETY: the memory is that of the environment inside, which makes the same promise.
unsafe impl DirectMap for Flaky<'_> {
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        self.env.frame(frame)
    }
}

impl ReadSide for Flaky<'_> {
    type Section<'a>
        = <StdEnv as ReadSide>::Section<'a>
    where
        Self: 'a;

    fn enter<'a>(&'a self, (): &'a ()) -> Self::Section<'a> {
        self.env.enter(&())
    }
}

impl Tlb for Flaky<'_> {
    type Context = ();

    fn new_context(&self, _space: SpaceId) {}

    fn invalidate(&self, (): &(), stale: Stale) {
        self.env.invalidate(&(), stale);
    }
}

impl Env for Flaky<'_> {
    type Arch = <StdEnv as Env>::Arch;
    type Lock = <StdEnv as Env>::Lock;

    fn may_allocate(&self, _order: Order) -> bool {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let chosen = self.from.load(Ordering::Relaxed) <= number && number < self.to.load(Ordering::Relaxed);
        let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let unlucky = scattered.checked_rem(self.one_in.load(Ordering::Relaxed)) == Some(0);
        if chosen || unlucky {
            self.failed.fetch_add(1, Ordering::Relaxed);
            assert!(!self.panics.load(Ordering::Relaxed), "{PANIC}");
        }
        !(chosen || unlucky)
    }

    fn relax(&self) {
        self.env.relax();
    }
}

/// As `common::machine`, in this environment.
pub fn machine(
    bytes: u64,
    config: MmConfig,
    test: impl for<'z> FnOnce(&Mm<'z, Flaky<'z>>, &'z Zone<'z>, &'z Flaky<'z>),
) {
    let ram = Ram::new(bytes);
    let zone = ram.zone().unwrap();
    let zero = || AtomicU64::new(0);
    let (asked, from, to, one_in, failed) = (zero(), zero(), zero(), zero(), zero());
    let env = Flaky { env: ram.env(), asked, from, to, one_in, failed, panics: AtomicBool::new(false) };
    run(&ram, &zone, &env, config, test);
}

fn run<'z>(
    ram: &'z Ram,
    zone: &'z Zone<'z>,
    env: &'z Flaky<'z>,
    config: MmConfig,
    test: impl FnOnce(&Mm<'z, Flaky<'z>>, &'z Zone<'z>, &'z Flaky<'z>),
) {
    env.fail(Fail::After(0));
    assert!(Mm::new(zone, env, ram.infos(), config).is_err(), "it needs a page of zeroes");
    env.fail(Fail::Never);
    let mm = Mm::new(zone, env, ram.infos(), config).unwrap();
    test(&mm, zone, env);
    env.fail(Fail::Never);
    drop(mm);
    let audit = zone.audit();
    assert_eq!(audit.violations(), 0, "{audit}");
    assert_eq!(zone.used_frames(), 0, "{audit}");
    assert_eq!(zone.set_aside_frames(), 0, "a misuse was reported: {audit}");
}
