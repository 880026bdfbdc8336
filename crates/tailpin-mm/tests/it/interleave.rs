//! Every single interruption of the pin fast path (scenario I6; hazards H13, H19, H21).
//!
//! The page-table format is the one hook that a walk meets after each load. Here it counts them,
//! and at the n-th another operation runs, from beginning to end, as another CPU could have. For n
//! = 0, 1, 2, … until the pin has gone through without being interrupted: so every gap between two
//! loads of the walk, the pin and the second walk has every operation in it once. Nothing here
//! waits for open sections, so only the second walk protects the pin. What a walk can't do without
//! is that the tables it may be in stay tables: these are pinned while one is under way.

use crate::common;

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use common::{HUGE, MIB, PAGE, is_free};
use tailpin::{Order, PageRef, Pfn, Zone};
use tailpin_mm::arch::{Arch, Leaf, TableEntry, X86_64};
use tailpin_mm::{
    Access, Advice, CollapseLimits, DirectMap, Env, FaultError, HugePages, Level, Map, Mm, MmConfig, Object,
    ObjectConfig, PageIdentity, Pins, Prot, Ram, ReadSide, Space, SpaceId, Stale, StdEnv, StdSection, Tlb,
    VirtAddr,
};

/// An operation to run in the middle of another.
type Action = Box<dyn FnOnce()>;

/// An operation to run when frames are about to be copied from the one that it is told.
type CopyAction = Box<dyn FnOnce(Pfn)>;

thread_local! {
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    static ACTION: RefCell<Option<Action>> = const { RefCell::new(None) };
    static DURING_COPY: RefCell<Option<CopyAction>> = const { RefCell::new(None) };
    static SPACES: RefCell<Vec<Weak<Sp>>> = const { RefCell::new(Vec::new()) };
    static TABLES: RefCell<Vec<PageRef<'static>>> = const { RefCell::new(Vec::new()) };
}

/// x86-64, interrupted.
enum Interrupted {}

impl Arch for Interrupted {
    const TOP: Level = X86_64::TOP;
    const PRESENT: u64 = X86_64::PRESENT;
    const USER_END: VirtAddr = X86_64::USER_END;
    const FRAMES_END: Pfn = X86_64::FRAMES_END;

    fn decode(level: Level, bits: u64) -> TableEntry {
        match LEFT.get() {
            Some(0) => {
                LEFT.set(None);
                let action = ACTION.with_borrow_mut(Option::take);
                TABLES.set(tables());
                action.expect("an action for the interruption")();
            }
            Some(left) => LEFT.set(Some(left - 1)),
            None => {}
        }
        X86_64::decode(level, bits)
    }

    fn leaf(level: Level, leaf: Leaf) -> u64 {
        X86_64::leaf(level, leaf)
    }

    fn table(frame: Pfn) -> u64 {
        X86_64::table(frame)
    }

    fn stable_bits(bits: u64) -> u64 {
        X86_64::stable_bits(bits)
    }
}

/// [`StdEnv`], but invalidating translations waits for no section, as where no interrupt is needed.
struct NoWaiting<'a>(&'a StdEnv);

// SAFETY: what `StdEnv` promises.
unsafe impl DirectMap for NoWaiting<'_> {
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        self.0.frame(frame)
    }

    fn copy(&self, from: Pfn, to: Pfn, frames: u64) {
        if let Some(action) = DURING_COPY.take() {
            action(from);
        }
        self.0.copy(from, to, frames);
    }
}

impl ReadSide for NoWaiting<'_> {
    type Section<'a>
        = StdSection<'a>
    where
        Self: 'a;

    fn enter<'a>(&'a self, (): &'a ()) -> StdSection<'a> {
        self.0.enter(&())
    }
}

impl Tlb for NoWaiting<'_> {
    type Context = ();

    fn new_context(&self, _space: SpaceId) {}

    fn invalidate(&self, (): &(), _stale: Stale) {}
}

impl Env for NoWaiting<'_> {
    type Arch = Interrupted;
    type Lock = parking_lot::RawRwLock;
}

type Sp = Space<'static, NoWaiting<'static>>;
type Held = Pins<'static, NoWaiting<'static>>;

/// A machine that lives as long as the process, so that actions need no lifetimes.
struct Machine {
    zone: &'static Zone<'static>,
    mm: Mm<'static, NoWaiting<'static>>,
}

impl Machine {
    fn new() -> Self {
        let ram: &'static Ram = Box::leak(Box::new(Ram::new(8 * MIB)));
        let zone: &'static Zone<'static> = Box::leak(Box::new(ram.zone().unwrap()));
        let env: &'static NoWaiting<'static> = Box::leak(Box::new(NoWaiting(ram.env())));
        Self { zone, mm: Mm::new(zone, env, ram.infos(), MmConfig::default()).unwrap() }
    }

    fn space(&self) -> Arc<Sp> {
        let space = Arc::new(self.mm.space().unwrap());
        SPACES.with_borrow_mut(|spaces| {
            spaces.retain(|space| space.strong_count() > 0);
            spaces.push(Arc::downgrade(&space));
        });
        space
    }

    /// Everything is over: nothing may be lost.
    fn check(&self, what: &str) {
        let audit = self.zone.audit();
        assert_eq!(audit.violations(), 0, "{what}: {audit}");
        assert_eq!((self.zone.used_frames(), self.zone.set_aside_frames()), (1, 0), "{what}: {audit}");
    }
}

/// Pins on the page tables of all spaces.
fn tables() -> Vec<PageRef<'static>> {
    let mut pins = Vec::new();
    for space in SPACES.with_borrow(|spaces| spaces.iter().filter_map(Weak::upgrade).collect::<Vec<_>>()) {
        pin_tables(&space, space.load().root(), X86_64::TOP, &mut pins);
    }
    pins
}

fn pin_tables(space: &Sp, table: Pfn, level: Level, pins: &mut Vec<PageRef<'static>>) {
    let mm = space.mm();
    pins.push(mm.zone().try_pin(table).unwrap());
    for entry in common::accounts::entries(mm.env(), table) {
        if let TableEntry::Table(below) = X86_64::decode(level, entry.load(Ordering::Acquire)) {
            let levels = [Level::PTE, Level::PMD, Level::PUD];
            pin_tables(space, below, levels[usize::from(level.get()) - 1], pins);
        }
    }
}

const BASE: VirtAddr = VirtAddr::new(0x4000_0000);
const AWAY: VirtAddr = VirtAddr::new(0x8000_0000);

type Step = (&'static str, fn(&Sp, &Sp));

/// What comes in between. Each gets the space and another one to play with.
const STEPS: &[Step] = &[
    ("unmap", |space, _| space.unmap(BASE, HUGE).unwrap()),
    ("unmap a part", |space, _| space.unmap(BASE.offset(HUGE / 2), HUGE / 2).unwrap()),
    ("unmap, and the memory is another user's", |space, other| {
        space.unmap(BASE, HUGE).unwrap();
        fill(other);
    }),
    ("unmap, memory reused, mapped anew", |space, other| {
        space.unmap(BASE, HUGE).unwrap();
        fill(other);
        space.map(Map::anonymous(HUGE, Prot::READ_WRITE).at(BASE)).unwrap();
    }),
    ("discard", |space, other| {
        space.advise(BASE, HUGE, Advice::DontNeed).unwrap();
        fill(other);
    }),
    ("split the mapping", |space, _| _ = space.split_mapping(BASE)),
    ("split the page", |space, _| _ = space.split_page(BASE, Order::PAGE)),
    ("collapse", |space, other| {
        let _ = space.collapse(BASE, CollapseLimits::NONE);
        fill(other);
    }),
    ("split and collapse", |space, other| {
        let _ = space.split_page(BASE, Order::PAGE);
        let _ = space.collapse(BASE, CollapseLimits::NONE);
        fill(other);
    }),
    ("move away", |space, _| _ = space.remap(BASE, HUGE, Some(AWAY))),
    ("move away and back", |space, _| {
        let there = AWAY.offset(PAGE);
        space.remap(BASE, HUGE, Some(there)).unwrap();
        space.remap(there, HUGE, Some(BASE)).unwrap();
    }),
    ("protect", |space, _| space.protect(BASE, HUGE, Prot::READ).unwrap()),
];

/// Uses up the free memory, full of ones.
fn fill(other: &Sp) {
    let addr = other.map(Map::anonymous(8 * MIB, Prot::READ_WRITE)).unwrap();
    for page in 0..8 * MIB / PAGE {
        if other.write(addr.offset(page * PAGE), &[1; 64]).is_err() {
            break;
        }
    }
}

/// The first bytes of page `page`.
fn stamp(page: u64) -> [u8; 8] {
    (page + 1000).to_le_bytes()
}

/// Memory as one huge page, as 512 pages of a split one, or as pages in no order.
fn memory(space: &Sp, shape: u32) {
    let huge = if shape < 2 { HugePages::Always } else { HugePages::Never };
    space.map(Map::anonymous(HUGE, Prot::READ_WRITE).huge(huge).at(BASE)).unwrap();
    for page in (0..512).rev() {
        space.write(BASE.offset(page * PAGE), &stamp(page)).unwrap();
    }
    if shape == 1 {
        space.split_page(BASE, Order::PAGE).unwrap();
    }
    // So that it may be collapsed.
    space.advise(BASE, HUGE, Advice::Huge).unwrap();
}

/// Runs `operation` with `action` in its n-th gap; says whether there is one.
fn interrupt<R>(n: u32, action: Action, operation: impl FnOnce() -> R) -> (R, bool) {
    ACTION.set(Some(action));
    LEFT.set(Some(n));
    let result = operation();
    let went_through = LEFT.take().is_some();
    drop(ACTION.take());
    TABLES.take();
    (result, !went_through)
}

/// Every gap of an operation that repeats itself for each page would be too many.
const GAPS: u32 = 40;

#[test]
fn a_pin_is_right_whatever_comes_in_between() {
    let machine = Machine::new();
    let mut interruptions = 0;
    for (name, step) in STEPS {
        for shape in 0..3 {
            for (page, pages) in [(0, 1), (300, 1), (0, 512)] {
                for n in 0..GAPS {
                    let what = format!("{name}, shape {shape}, {pages} pages from {page}, gap {n}");
                    let (space, other) = (machine.space(), machine.space());
                    memory(&space, shape);
                    let action = {
                        let (space, other) = (space.clone(), other.clone());
                        move || step(&space, &other)
                    };
                    let pin = || space.pin_pages(BASE.offset(page * PAGE), pages * PAGE, Access::Read);
                    let (pins, hit) = interrupt(n, Box::new(action), pin);
                    if let Ok(pins) = &pins {
                        check_pins(machine.zone, &space, pins, page, &what);
                    }
                    drop((pins, space, other));
                    machine.check(&what);
                    if !hit {
                        break;
                    }
                    interruptions += 1;
                }
            }
        }
    }
    assert!(interruptions > 500, "only {interruptions} interruptions");
}

/// What must hold of pins whatever came in between; everything has been still since.
fn check_pins(zone: &Zone<'_>, space: &Sp, pins: &Held, page: u64, what: &str) {
    for (i, frame) in pins.frames().enumerate() {
        let i = i as u64;
        let mut found = [0; 8];
        pins.read(i * PAGE, &mut found);
        assert!(!is_free(zone, frame), "{what}: pinned frame {frame} is free");
        let was_there = found == stamp(page + i);
        assert!(was_there || found == [0; 8], "{what}: page {i} is another user's: {found:?}");
        match space.mapping(BASE.offset((page + i) * PAGE)) {
            Some(mapping) => {
                assert_eq!(mapping.frame, frame, "{what}: pin and mapping have parted at page {i}")
            }
            None => assert!(was_there, "{what}: page {i} was never mapped"),
        }
    }
}

/// The other way round: a pin in every gap of each operation.
#[test]
fn whatever_is_under_way_a_pin_in_between_is_right() {
    let machine = Machine::new();
    let mut pinned = 0;
    for (name, step) in STEPS {
        for shape in 0..3 {
            for (page, pages) in [(0, 1), (300, 1), (0, 512)] {
                // Beyond the first gaps every third, as far as there are any.
                let gaps = (0..GAPS).chain((GAPS..).step_by(331)).take_while(|n| *n < 6000);
                for n in gaps {
                    let what = format!("{name}, shape {shape}, {pages} pages from {page}, gap {n}");
                    let (space, other) = (machine.space(), machine.space());
                    memory(&space, shape);
                    let pins: Rc<RefCell<Option<Held>>> = Rc::default();
                    let action = {
                        let (space, pins) = (space.clone(), pins.clone());
                        let from = BASE.offset(page * PAGE);
                        move || *pins.borrow_mut() = space.pin_present(from, pages * PAGE, Access::Write).ok()
                    };
                    let ((), hit) = interrupt(n, Box::new(action), || step(&space, &other));
                    if let Some(pins) = &*pins.borrow() {
                        pinned += 1;
                        check_pins(machine.zone, &space, pins, page, &what);
                    }
                    pins.take();
                    drop((pins, space, other));
                    machine.check(&what);
                    if !hit {
                        break;
                    }
                }
            }
        }
    }
    assert!(pinned > 100, "only {pinned} pins");
}

/// H21: of a fork and a pin at the same time, one notices the other.
#[test]
fn a_fork_and_a_pin_notice_each_other_in_every_gap() {
    let machine = Machine::new();
    let mut both = 0;
    for pin_first in [true, false] {
        for shape in 0..3 {
            for (page, pages) in [(0, 1), (300, 1), (0, 512)] {
                for n in (0..GAPS).chain((GAPS..).step_by(97)).take_while(|n| *n < 9000) {
                    let what = format!("pin first {pin_first}, shape {shape}, {pages} from {page}, gap {n}");
                    let space = machine.space();
                    memory(&space, shape);
                    let from = BASE.offset(page * PAGE);
                    let pins: Rc<RefCell<Option<Held>>> = Rc::default();
                    let child: Rc<RefCell<Option<Sp>>> = Rc::default();
                    let pin = {
                        let (space, pins) = (space.clone(), pins.clone());
                        move || *pins.borrow_mut() = space.pin_present(from, pages * PAGE, Access::Write).ok()
                    };
                    let fork = {
                        let (space, child) = (space.clone(), child.clone());
                        move || *child.borrow_mut() = space.fork().ok()
                    };
                    let ((), hit) = if pin_first {
                        interrupt(n, Box::new(fork), pin)
                    } else {
                        interrupt(n, Box::new(pin), fork)
                    };
                    if let (Some(pins), Some(child)) = (&*pins.borrow(), &*child.borrow()) {
                        both += 1;
                        for i in 0..pages {
                            let at = from.offset(i * PAGE);
                            space.write(at, b"later").unwrap();
                            let mut seen = [0; 5];
                            pins.read(i * PAGE, &mut seen);
                            assert_eq!(&seen, b"later", "{what}: pin and mapping have parted at page {i}");
                            child.read(at, &mut seen).unwrap();
                            assert_ne!(&seen, b"later", "{what}: the child sees page {i}");
                        }
                    }
                    drop((pins.take(), child.take()));
                    drop(space);
                    machine.check(&what);
                    if !hit {
                        break;
                    }
                }
            }
        }
    }
    assert!(both > 50, "only {both} times both");
}

/// H9, H10: identity and index are the page's own in every gap.
#[test]
fn a_page_is_identified_rightly_whatever_comes_in_between() {
    type Step = fn(&Sp, &Object<'static, NoWaiting<'static>>);
    let steps: &[(&str, Step)] = &[
        ("split the mapping", |space, _| _ = space.split_mapping(BASE)),
        ("split the page", |space, _| _ = space.split_page(BASE, Order::new(3).unwrap())),
        ("split and collapse", |space, _| {
            let _ = space.split_page(BASE, Order::PAGE);
            let _ = space.collapse(BASE, CollapseLimits::NONE);
        }),
        ("truncate, reuse, grow", |space, object| {
            object.truncate(0).unwrap();
            let addr = space.map(Map::anonymous(4 * MIB, Prot::READ_WRITE)).unwrap();
            space.write(addr, &[1; 4 * MIB as usize]).unwrap();
            object.truncate(HUGE).unwrap();
        }),
        ("truncate", |_, object| object.truncate(PAGE).unwrap()),
        ("punch", |_, object| object.punch_hole(0..HUGE)),
    ];
    let machine = Machine::new();
    for (name, step) in steps {
        for huge in [true, false] {
            for page in [0, 300] {
                for n in 0..GAPS {
                    let what = format!("{name}, huge {huge}, page {page}, gap {n}");
                    let space = machine.space();
                    let config = ObjectConfig::new(HUGE);
                    let object = machine.mm.object(if huge { config.huge() } else { config }).unwrap();
                    space.map(Map::shared(&object, 0, HUGE, Prot::READ_WRITE).at(BASE)).unwrap();
                    space.write(BASE, &[5; HUGE as usize]).unwrap();
                    let action = {
                        let (space, object) = (space.clone(), object.clone());
                        move || step(&space, &object)
                    };
                    let addr = BASE.offset(page * PAGE);
                    let (place, hit) = interrupt(n, Box::new(action), || space.identify(addr, Access::Read));
                    let right = PageIdentity::Object { object: object.id(), index: page, writable: true };
                    match place {
                        Ok(place) => assert_eq!(place, right, "{what}"),
                        Err(error) => assert_eq!(error, FaultError::BeyondEnd { addr }, "{what}"),
                    }
                    drop((space, object));
                    machine.check(&what);
                    if !hit {
                        break;
                    }
                }
            }
        }
    }
}

/// While truncation clears one space, another one that it has not come to yet forks.
#[test]
fn truncation_reaches_a_fork_made_meanwhile() {
    let machine = Machine::new();
    let mut forked = 0;
    for n in 0..GAPS {
        let (first, second) = (machine.space(), machine.space());
        let object = machine.mm.object(ObjectConfig::new(4 * PAGE)).unwrap();
        for space in [&first, &second] {
            space.map(Map::private(&object, 0, 4 * PAGE, Prot::READ_WRITE).at(BASE)).unwrap();
            space.write(BASE.offset(PAGE), b"private").unwrap();
        }
        let child: Rc<RefCell<Option<Sp>>> = Rc::default();
        let fork = {
            let (second, child) = (second.clone(), child.clone());
            move || *child.borrow_mut() = second.fork().ok()
        };
        // With the last space in hand its lock is held, so only the gaps of the first one's.
        let clearing = || object.truncate(PAGE).unwrap();
        let first_gaps = 12;
        let ((), hit) = interrupt(n.min(first_gaps), Box::new(fork), clearing);
        let addr = BASE.offset(PAGE);
        for space in [&*first, &*second].into_iter().chain(child.borrow().as_ref()) {
            assert_eq!(space.read(addr, &mut [0]), Err(FaultError::BeyondEnd { addr }), "gap {n}");
            assert_eq!(space.mapping(addr), None, "gap {n}");
        }
        forked += usize::from(child.take().is_some());
        drop((first, second, object));
        machine.check("truncation");
        if !hit || n == first_gaps {
            break;
        }
    }
    assert!(forked > 3, "only {forked} forks");
}

/// A fault that copies a page is overtaken by another one, and the other space ends: the page has
/// no count but the copying fault's.
#[test]
fn a_page_stays_while_it_is_copied() {
    let machine = Machine::new();
    let parent = machine.space();
    parent.map(Map::anonymous(PAGE, Prot::READ_WRITE).at(BASE)).unwrap();
    parent.write(BASE, b"parent").unwrap();
    let child = Arc::new(parent.fork().unwrap());
    let (zone, other, overtaken) = (machine.zone, child.clone(), Rc::new(Cell::new(None)));
    let source = overtaken.clone();
    let overtake = move |from| {
        other.write(BASE, b"others").unwrap();
        drop(parent);
        assert!(!is_free(zone, from), "the page is free while it is copied");
        source.set(Some(from));
    };
    DURING_COPY.set(Some(Box::new(overtake)));
    child.write(BASE, b"c").unwrap();
    assert!(is_free(zone, overtaken.get().expect("the fault copied")), "and free afterwards");
    let mut seen = [0; 6];
    child.read(BASE, &mut seen).unwrap();
    assert_eq!(&seen, b"cthers");
    drop(child);
    machine.check("copy");
}
