//! Shootdowns as a kernel runs them: which CPUs each operation interrupts and how often, what is
//! still in use until they have answered, and that a table which a CPU has loaded stays a table.
//!
//! The machine has CPUs that are numbers: the test says which one it is on. A context is the set of
//! CPUs that have the space loaded or are in a section on it, and each shootdown is written down.

use crate::common;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::accounts::{Accounts, entries};
use common::{HUGE, MIB, PAGE};
use tailpin::{Order, Pfn, Zone};
use tailpin_mm::arch::{Arch, TableEntry, X86_64};
use tailpin_mm::{
    Access, Advice, CollapseLimits, CollapseOutcome, DirectMap, Env, FaultError, HugePages, Map, Mm,
    MmConfig, ObjectConfig, Prot, Ram, ReadSide, Space, SpaceId, Stale, StdEnv, Tlb, VirtAddr,
};

const CPUS: usize = 4;

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// Goes on as if on another CPU.
fn on<R>(cpu: usize, body: impl FnOnce() -> R) -> R {
    let before = CPU.replace(cpu);
    let result = body();
    CPU.set(before);
    result
}

/// The CPUs that a shootdown of the space has to reach.
#[derive(Default)]
struct Marks {
    loaded: AtomicU64,
    sections: [AtomicU64; CPUS],
}

impl Marks {
    fn cpus(&self) -> u64 {
        let open = |cpu: &usize| self.sections[*cpu].load(Ordering::SeqCst) > 0;
        let sections = (0..CPUS).filter(open).fold(0, |set, cpu| set | 1 << cpu);
        self.loaded.load(Ordering::SeqCst) | sections
    }
}

struct Kernel<'a> {
    std: &'a StdEnv,
    /// What each CPU has in its root register.
    registers: [AtomicU64; CPUS],
    /// The sets of CPUs that shootdowns reached, and what they were told.
    rounds: Mutex<Vec<(u64, Stale)>>,
    panics: AtomicBool,
    /// A frame that is not the zone's: the kernel's page table.
    outside: Box<Page>,
}

#[repr(align(4096))]
struct Page([AtomicU64; 512]);

const OUTSIDE: Pfn = Pfn::new(1 << 30);

impl<'a> Kernel<'a> {
    fn new(std: &'a StdEnv) -> Self {
        let outside = Box::new(Page([const { AtomicU64::new(0) }; 512]));
        Self {
            std,
            registers: Default::default(),
            rounds: Mutex::default(),
            panics: AtomicBool::new(false),
            outside,
        }
    }

    /// The shootdowns since the last call.
    fn rounds(&self) -> Vec<(u64, Stale)> {
        std::mem::take(&mut *self.rounds.lock().unwrap())
    }

    /// The sets of CPUs that the shootdowns since the last call reached.
    fn reached(&self) -> Vec<u64> {
        self.rounds().into_iter().map(|(cpus, _)| cpus).collect()
    }
}

// SAFETY: what `StdEnv` promises; the frame outside is memory of this value.
unsafe impl DirectMap for Kernel<'_> {
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        if frame == OUTSIDE { NonNull::from(&*self.outside).cast() } else { self.std.frame(frame) }
    }
}

struct Section<'a>(&'a AtomicU64);

impl Drop for Section<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ReadSide for Kernel<'_> {
    type Section<'a>
        = Section<'a>
    where
        Self: 'a;

    fn enter<'a>(&'a self, marks: &'a Marks) -> Section<'a> {
        let count = &marks.sections[CPU.get()];
        count.fetch_add(1, Ordering::SeqCst);
        Section(count)
    }
}

impl Tlb for Kernel<'_> {
    type Context = Marks;

    fn new_context(&self, _space: SpaceId) -> Marks {
        Marks::default()
    }

    fn invalidate(&self, marks: &Marks, stale: Stale) {
        assert!(!self.panics.load(Ordering::SeqCst), "told to panic");
        self.rounds.lock().unwrap().push((marks.cpus(), stale));
        let open = || marks.sections.iter().any(|count| count.load(Ordering::SeqCst) > 0);
        while open() {
            std::thread::yield_now();
        }
    }

    fn cpus(&self) -> usize {
        CPUS
    }

    fn load(&self, table: Option<(Pfn, &Marks)>, loaded: &mut dyn FnMut(usize)) {
        let cpu = CPU.get();
        if let Some((_, marks)) = table {
            marks.loaded.fetch_or(1 << cpu, Ordering::SeqCst);
        }
        if let Some(register) = self.registers.get(cpu) {
            register.store(table.map_or(0, |(root, _)| root.get()), Ordering::SeqCst);
        }
        loaded(cpu);
    }

    fn unloaded(&self, cpu: usize, marks: &Marks) {
        assert_eq!(cpu, CPU.get());
        marks.loaded.fetch_and(!(1 << cpu), Ordering::SeqCst);
    }
}

impl Env for Kernel<'_> {
    type Arch = X86_64;
    type Lock = parking_lot::RawRwLock;
}

type Sp<'z> = Space<'z, Kernel<'z>>;

/// Runs `test` on a machine with `bytes` of memory and audits it afterwards.
fn machine(bytes: u64, test: impl for<'z> FnOnce(&Mm<'z, Kernel<'z>>, &'z Zone<'z>, &'z Kernel<'z>)) {
    let ram = Ram::new(bytes);
    let zone = ram.zone().unwrap();
    let kernel = Kernel::new(ram.env());
    run(&ram, &zone, &kernel, test);
    assert_eq!((zone.audit().violations(), zone.used_frames(), zone.set_aside_frames()), (0, 0, 0));
}

fn run<'z>(
    ram: &'z Ram,
    zone: &'z Zone<'z>,
    kernel: &'z Kernel<'z>,
    test: impl FnOnce(&Mm<'z, Kernel<'z>>, &'z Zone<'z>, &'z Kernel<'z>),
) {
    let config = MmConfig { kernel_root: Some(OUTSIDE), ..MmConfig::default() };
    let mm = Mm::new(zone, kernel, ram.infos(), config).unwrap();
    test(&mm, zone, kernel);
    (0..CPUS).for_each(|cpu| on(cpu, || mm.switch_to_kernel()));
}

const BASE: VirtAddr = VirtAddr::new(0x4000_0000);

fn tables<'z>(kernel: &Kernel<'_>, space: &Sp<'z>) -> Vec<Pfn> {
    let mut accounts = Accounts::default();
    accounts.space(kernel.std, space);
    accounts.table_frames().collect()
}

/// Small pages at `BASE`, present.
fn small<'z>(space: &Sp<'z>, pages: u64) {
    space.map(Map::anonymous(pages * PAGE, Prot::READ_WRITE).huge(HugePages::Never).at(BASE)).unwrap();
    (0..pages).for_each(|page| space.write(BASE.offset(page * PAGE), &[1]).unwrap());
}

#[test]
fn an_operation_interrupts_once_however_many_pages_it_takes_out() {
    machine(64 * MIB, |mm, _, kernel| {
        let space = mm.space().unwrap();
        on(1, || space.switch_to());
        let one_round = |what: &str, operation: &mut dyn FnMut()| {
            kernel.rounds();
            operation();
            assert_eq!(kernel.reached(), [0b10], "{what}");
        };
        small(&space, 512);
        one_round("unmap of 512 pages", &mut || space.unmap(BASE, HUGE).unwrap());
        small(&space, 512);
        one_round("unmap of a page", &mut || space.unmap(BASE, PAGE).unwrap());
        one_round("protection", &mut || space.protect(BASE.offset(PAGE), 9 * PAGE, Prot::READ).unwrap());
        one_round("discard", &mut || space.advise(BASE.offset(PAGE), 99 * PAGE, Advice::DontNeed).unwrap());
        one_round("a move", &mut || {
            space.remap(BASE.offset(PAGE), 200 * PAGE, Some(BASE.offset(HUGE))).unwrap();
        });
        space.unmap(BASE, 4 * HUGE).unwrap();
        small(&space, 512);
        space.advise(BASE, HUGE, Advice::Huge).unwrap();
        one_round("a collapse", &mut || {
            assert_ne!(space.collapse(BASE, CollapseLimits::NONE).unwrap(), CollapseOutcome::AlreadyHuge,);
        });
        one_round("a split", &mut || space.split_mapping(BASE).unwrap());
        space.unmap(BASE, HUGE).unwrap();
        // Many: a leaf of zeroes for each page, or for 2 MiB.
        for (huge, unit, len) in [(HugePages::Never, PAGE, 128 * MIB), (HugePages::Always, HUGE, 1 << 30)] {
            space.map(Map::anonymous(len, Prot::READ).huge(huge).at(BASE)).unwrap();
            (0..len / unit).for_each(|i| space.fault(BASE.offset(i * unit), Access::Read).unwrap());
            one_round("unmap of much", &mut || space.unmap(BASE, len).unwrap());
        }
        // Three regions.
        for i in 0..3 {
            let map = Map::anonymous(HUGE, Prot::READ_WRITE).at(BASE.offset(i * 2 * HUGE));
            let addr = space.map(map).unwrap();
            space.write(addr, &[1]).unwrap();
        }
        let mut child = None;
        one_round("a fork", &mut || child = Some(space.fork().unwrap()));
        // The mapping of 2 MiB is split first.
        space.split_mapping(BASE).unwrap();
        one_round("a copy on write", &mut || space.write(BASE, &[2]).unwrap());
    });
}

#[test]
fn nothing_is_interrupted_where_nothing_was() {
    machine(32 * MIB, |mm, _, kernel| {
        let space = mm.space().unwrap();
        on(1, || space.switch_to());
        space.map(Map::anonymous(HUGE, Prot::READ_WRITE).at(BASE)).unwrap();
        space.unmap(BASE, HUGE).unwrap();
        space.map(Map::anonymous(HUGE, Prot::READ_WRITE).at(BASE)).unwrap();
        space.fault(BASE, Access::Write).unwrap();
        let child = space.fork().unwrap();
        let reached = kernel.reached();
        assert_eq!(reached.len(), 1, "only the fork takes rights away");
        drop(child);
        assert_eq!(kernel.reached(), [], "no CPU has had the child");
    });
}

#[test]
fn a_space_that_no_cpu_has_ends_without_an_interrupt() {
    machine(32 * MIB, |mm, zone, kernel| {
        for huge in [HugePages::Always, HugePages::Never] {
            let space = mm.space().unwrap();
            on(2, || space.switch_to());
            let map = Map::anonymous(4 * HUGE, Prot::READ_WRITE).huge(huge).at(BASE);
            space.map(map).unwrap();
            (0..4 * 512).for_each(|page| space.write(BASE.offset(page * PAGE), &[1]).unwrap());
            on(2, || mm.switch_to_kernel());
            kernel.rounds();
            drop(space);
            assert_eq!(kernel.reached(), []);
            assert_eq!(zone.used_frames(), 1, "all but the page of zeroes is free on return");
        }
    });
}

#[test]
fn a_space_that_ends_under_a_cpu_interrupts_it_once() {
    machine(32 * MIB, |mm, zone, kernel| {
        let space = mm.space().unwrap();
        small(&space, 1024);
        [1, 3].into_iter().for_each(|cpu| on(cpu, || space.switch_to()));
        let root = space.load().root();
        kernel.rounds();
        drop(space);
        let rounds = kernel.rounds();
        assert_eq!(rounds.len(), 1);
        assert_eq!(rounds[0].0, 0b1010);
        assert!(rounds[0].1.tables && rounds[0].1.range.contains(BASE.offset(1023 * PAGE)));
        // The table is there for the two CPUs, and empty but for the kernel's part.
        assert_eq!(zone.used_frames(), 2);
        assert!(entries(kernel.std, root).iter().all(|entry| entry.load(Ordering::Relaxed) == 0));
    });
}

#[test]
fn a_copy_on_write_reaches_only_the_cpus_that_run_the_space() {
    machine(32 * MIB, |mm, _, kernel| {
        let parent = mm.space().unwrap();
        small(&parent, 4);
        let child = parent.fork().unwrap();
        [0, 1].into_iter().for_each(|cpu| on(cpu, || parent.switch_to()));
        on(2, || child.switch_to());
        kernel.rounds();
        on(2, || child.write(BASE, &[2]).unwrap());
        let rounds = kernel.rounds();
        assert_eq!(rounds.iter().map(|(cpus, _)| *cpus).collect::<Vec<_>>(), [0b100]);
        assert_eq!((rounds[0].1.range.start, rounds[0].1.range.len()), (BASE, PAGE));
        assert!(!rounds[0].1.tables);
        on(1, || parent.write(BASE.offset(PAGE), &[3]).unwrap());
        assert_eq!(kernel.reached(), [0b11]);
    });
}

#[test]
fn a_table_that_a_cpu_has_loaded_stays_a_table() {
    machine(32 * MIB, |mm, zone, kernel| {
        let space = mm.space().unwrap();
        let root = space.load().root();
        let is_table = || zone.state(root).is_some_and(|state| state.refs == 1);
        on(1, || space.switch_to());
        on(3, || space.load().switch_to());
        assert_eq!(
            kernel.registers.each_ref().map(|register| register.load(Ordering::SeqCst)),
            [0, root.get(), 0, root.get(),]
        );
        // No handle is left: only the CPUs have it.
        drop(space);
        assert!(is_table());
        let other = mm.space().unwrap();
        assert_ne!(other.load().root(), root);
        on(1, || other.switch_to());
        assert!(is_table());
        // Loading the same again changes nothing.
        on(1, || other.switch_to());
        assert_eq!(other.context().cpus(), 0b10);
        on(3, || mm.switch_to_kernel());
        assert!(zone.head_of(root).is_none(), "no CPU has it any more");
    });
}

#[test]
fn a_cpu_that_the_environment_does_not_have_is_refused() {
    machine(32 * MIB, |mm, _, _| {
        let space = mm.space().unwrap();
        let switched = catch_unwind(AssertUnwindSafe(|| on(CPUS, || space.switch_to())));
        assert!(switched.is_err());
        CPU.set(0);
    });
}

#[test]
fn a_kernels_table_need_not_be_the_zones() {
    machine(32 * MIB, |mm, zone, kernel| {
        assert!(!zone.span().contains(OUTSIDE));
        let bits = X86_64::table(Pfn::new(0x1234));
        kernel.outside.0[300].store(bits, Ordering::Relaxed);
        kernel.outside.0[3].store(bits, Ordering::Relaxed);
        let space = mm.space().unwrap();
        let root = entries(kernel.std, space.load().root());
        let found = |index: usize| X86_64::decode(X86_64::TOP, root[index].load(Ordering::Relaxed));
        assert_eq!((found(300), found(3)), (TableEntry::Table(Pfn::new(0x1234)), TableEntry::Empty));
    });
}

/// A page and a table that a walk on another CPU may have found are in use until it is over.
#[test]
fn what_a_section_may_have_found_is_in_use_until_it_ends() {
    for collapse in [false, true] {
        machine(32 * MIB, |mm, zone, kernel| {
            let space = mm.space().unwrap();
            small(&space, 512);
            space.advise(BASE, HUGE, Advice::Huge).unwrap();
            let mut frames = tables(kernel, &space);
            frames.retain(|frame| *frame != space.load().root());
            // The last table is the one that goes either way.
            let addr = BASE.offset(5 * PAGE);
            let page = space.mapping(addr).unwrap().frame;
            let in_use =
                || frames.iter().chain([&page]).filter(|frame| zone.head_of(**frame).is_some()).count();
            let all = in_use();
            let section = on(3, || kernel.enter(space.context()));
            kernel.rounds();
            std::thread::scope(|scope| {
                let changes = scope.spawn(|| {
                    if collapse {
                        space.collapse(BASE, CollapseLimits::NONE).unwrap();
                    } else {
                        space.unmap(BASE, HUGE).unwrap();
                    }
                });
                while kernel.rounds.lock().unwrap().is_empty() {
                    std::thread::yield_now();
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
                assert!(!changes.is_finished());
                assert_eq!(in_use(), all, "something was given back under an open section");
                drop(section);
                changes.join().unwrap();
            });
            assert!(in_use() < all);
            assert_eq!(kernel.reached(), [0b1000]);
        });
    }
}

/// A shootdown that panics gives nothing back: a CPU may still have the translations. What was to
/// go goes with the next operation.
#[test]
fn a_shootdown_that_panics_loses_no_frame_and_frees_none() {
    type Step = for<'z> fn(&Sp<'z>);
    let steps: [(&str, Step); 9] = [
        ("unmap", |space| space.unmap(BASE, HUGE).unwrap()),
        ("unmap of a part", |space| space.unmap(BASE.offset(PAGE), PAGE).unwrap()),
        ("discard", |space| space.advise(BASE, HUGE, Advice::DontNeed).unwrap()),
        ("split", |space| space.split_mapping(BASE).unwrap()),
        ("split of a page", |space| _ = space.split_page(BASE, Order::PAGE).unwrap()),
        ("collapse", |space| {
            space.advise(BASE, HUGE, Advice::Huge).unwrap();
            let _ = space.collapse(BASE, CollapseLimits::NONE).unwrap();
        }),
        ("protection", |space| space.protect(BASE, HUGE, Prot::READ).unwrap()),
        ("copy on write", |space| space.write(BASE, &[9]).unwrap()),
        ("move", |space| _ = space.remap(BASE, HUGE, Some(BASE.offset(4 * HUGE))).unwrap()),
    ];
    for (what, step) in steps {
        for huge in [HugePages::Always, HugePages::Never] {
            for forked in [false, true] {
                machine(32 * MIB, |mm, zone, kernel| {
                    let space = mm.space().unwrap();
                    space.map(Map::anonymous(HUGE, Prot::READ_WRITE).huge(huge).at(BASE)).unwrap();
                    (0..512).for_each(|page| space.write(BASE.offset(page * PAGE), &[7]).unwrap());
                    let child = forked.then(|| space.fork().unwrap());
                    let frame = space.mapping(BASE.offset(PAGE)).unwrap().frame;
                    kernel.panics.store(true, Ordering::SeqCst);
                    let done = catch_unwind(AssertUnwindSafe(|| step(&space)));
                    kernel.panics.store(false, Ordering::SeqCst);
                    if done.is_err() {
                        assert!(zone.head_of(frame).is_some(), "{what}: freed before its translations");
                    }
                    // Whatever was left is no obstacle to anything.
                    for page in 0..512 {
                        match space.fault(BASE.offset(page * PAGE), Access::Read) {
                            Ok(()) | Err(FaultError::Unmapped { .. }) => {}
                            Err(error) => panic!("{what}, {huge:?}: {error}"),
                        }
                    }
                    space.unmap(BASE, HUGE).unwrap();
                    space.map(Map::anonymous(HUGE, Prot::READ_WRITE).huge(huge).at(BASE)).unwrap();
                    space.write(BASE.offset(PAGE), &[8]).unwrap();
                    drop((space, child));
                });
            }
        }
    }
}

/// Where the shootdown of an object's truncation panics, the pages stay counted by the leaves, and
/// go when the space ends.
#[test]
fn a_truncation_whose_shootdown_panics_is_finished_by_a_later_operation() {
    machine(32 * MIB, |mm, zone, kernel| {
        let object = mm.object(ObjectConfig::new(HUGE)).unwrap();
        let space = mm.space().unwrap();
        space.map(Map::shared(&object, 0, HUGE, Prot::READ_WRITE).at(BASE)).unwrap();
        (0..8).for_each(|page| space.write(BASE.offset(page * PAGE), &[7]).unwrap());
        let frame = space.mapping(BASE).unwrap().frame;
        kernel.panics.store(true, Ordering::SeqCst);
        assert!(catch_unwind(AssertUnwindSafe(|| object.punch_hole(0..HUGE))).is_err());
        kernel.panics.store(false, Ordering::SeqCst);
        assert!(zone.head_of(frame).is_some());
        let used = zone.used_frames();
        // A fault on one takes it out and makes a new page; the end of the space does the others.
        let mut byte = [1];
        space.read(BASE, &mut byte).unwrap();
        assert_eq!((byte, zone.used_frames()), ([0], used));
        let mut rounds = kernel.rounds();
        assert_eq!(rounds.pop().map(|(_, stale)| stale.range.len()), Some(PAGE));
        drop(space);
        assert_eq!(zone.used_frames(), used - 7 - 4, "seven old pages, and the tables of four levels");
    });
}
