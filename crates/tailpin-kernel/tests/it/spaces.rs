//! Address spaces over [`KernelEnv`], with threads for CPUs. No processor walks the tables here, so
//! a thread's sections are what a shootdown has to wait for; `tailpin boot` has the rest.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tailpin::{Order, Pfn, Request};
use tailpin_kernel::{AllSafeguards, Cpus, Frames, Kernel, KernelEnv, Marks, Mutex, Rounds};
use tailpin_mm::arch::X86_64;
use tailpin_mm::{DirectMap, Map, Mm, MmConfig, Prot, VirtAddr};

use crate::machine::{Counted, Memory, frames};

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
    /// What the CPU has in its root register.
    static ROOT: Cell<Option<Pfn>> = const { Cell::new(None) };
}

/// A machine whose CPUs are threads, which are never interrupted: they answer where they say so.
pub(crate) struct Threads;

static ROUNDS: Rounds = Rounds::new();
static ASKED: AtomicUsize = AtomicUsize::new(0);

fn memory() -> &'static Memory {
    static MEMORY: OnceLock<&Memory> = OnceLock::new();
    MEMORY.get_or_init(|| Memory::new(16_384))
}

fn managed() -> (&'static Frames, &'static Counted) {
    static FRAMES: OnceLock<(&Frames, &Counted)> = OnceLock::new();
    *FRAMES.get_or_init(|| frames(memory()))
}

impl Cpus for Threads {
    fn this_cpu(&self) -> usize {
        CPU.get()
    }
    fn send_ipi(&self, _cpu: usize) {
        ASKED.fetch_add(1, Ordering::Relaxed);
    }
    fn flush_all(&self) {}
    fn interrupts_off(&self) -> bool {
        false
    }
    fn interrupts_on(&self) {}
    fn relax(&self) {
        std::thread::yield_now();
    }
}

// SAFETY: that of the memory, which promises the same.
unsafe impl DirectMap for Threads {
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        memory().frame(frame)
    }
}

impl Kernel for Threads {
    type Arch = X86_64;
    type Safeguards = AllSafeguards;
    fn kernel() -> &'static Self {
        &Threads
    }
    fn rounds() -> &'static Rounds {
        &ROUNDS
    }
    fn cpus() -> usize {
        4
    }
    fn write_root(&self, table: Option<Pfn>) {
        ROOT.set(table);
    }
}

static ENV: KernelEnv<Threads> = KernelEnv::new();

pub(crate) fn mm() -> Mm<'static, KernelEnv<Threads>> {
    static MM: OnceLock<Mm<'static, KernelEnv<Threads>>> = OnceLock::new();
    MM.get_or_init(|| {
        let (frames, _) = managed();
        Mm::new(frames.zone(), &ENV, frames.infos(), MmConfig::default()).unwrap()
    })
    .clone()
}

/// The tests share the machine.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn only_cpus_that_run_a_space_are_asked() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|error| error.into_inner());
    CPU.set(0);
    let space = mm().space().unwrap();
    let at = space.map(Map::anonymous(8 << 20, Prot::READ_WRITE)).unwrap();
    space.write(at, b"written").unwrap();
    space.switch_to();
    assert_eq!(ROOT.get(), Some(space.load().root()));
    let before = (ROUNDS.count(), ASKED.load(Ordering::Relaxed));
    space.protect(at, 4096, Prot::READ).unwrap();
    drop(space.fork().unwrap());
    space.unmap(at, 8 << 20).unwrap();
    assert_eq!((ROUNDS.count(), ASKED.load(Ordering::Relaxed)), before, "no other CPU runs it");
    mm().switch_to_kernel();
    assert_eq!(ROOT.get(), None);
    let ready = AtomicBool::new(false);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            CPU.set(1);
            space.switch_to();
            ready.store(true, Ordering::SeqCst);
            while !stop.load(Ordering::SeqCst) {
                ROUNDS.answer_while_waiting(&Threads);
            }
            mm().switch_to_kernel();
        });
        while !ready.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        space.map(Map::anonymous(4096, Prot::READ_WRITE).at(at)).unwrap();
        space.write(at, b"again").unwrap();
        space.unmap(at, 4096).unwrap();
        stop.store(true, Ordering::SeqCst);
    });
    assert!(ROUNDS.count() > before.0, "the other CPU runs it");
}

#[test]
fn memory_is_not_anothers_while_a_cpu_copies_it() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|error| error.into_inner());
    const TURNS: u64 = 60;
    let (frames, sink) = managed();
    let space = mm().space().unwrap();
    let at = VirtAddr::new(0x4000_0000);
    let (stop, copies, wrong) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for cpu in 1..4 {
            let (space, stop, copies, wrong) = (&space, &stop, &copies, &wrong);
            scope.spawn(move || {
                CPU.set(cpu);
                let mut buffer = [0; 4096];
                while !stop.load(Ordering::SeqCst) {
                    if space.read(at, &mut buffer).is_ok() {
                        let ours = buffer.iter().all(|byte| matches!(byte, 0 | 0x60));
                        wrong.fetch_add(u64::from(!ours), Ordering::SeqCst);
                        copies.fetch_add(1, Ordering::SeqCst);
                    }
                    ROUNDS.answer_while_waiting(&Threads);
                }
            });
        }
        CPU.set(0);
        for _ in 0..TURNS {
            space.map(Map::anonymous(16 << 12, Prot::READ_WRITE).at(at)).unwrap();
            space.write(at, &[0x60; 4096]).unwrap();
            let before = copies.load(Ordering::SeqCst);
            while copies.load(Ordering::SeqCst) == before {
                ROUNDS.answer_while_waiting(&Threads);
            }
            space.unmap(at, 16 << 12).unwrap();
            let held: Vec<_> =
                (0..32).map_while(|_| frames.zone().raw().alloc(Request::new(Order::PAGE)).ok()).collect();
            for block in &held {
                let words = Threads.frame(block.pfn()).cast::<[AtomicU64; 512]>();
                // SAFETY: the frame is ours, and is accessed atomically.
                for word in unsafe { words.as_ref() } {
                    word.store(0xbad0_bad0_bad0_bad0, Ordering::Relaxed);
                }
            }
            held.into_iter().for_each(|block| frames.zone().raw().free(block).unwrap());
        }
        stop.store(true, Ordering::SeqCst);
    });
    drop(space);
    assert_eq!((wrong.into_inner(), sink.misuses()), (0, 0));
    assert!(copies.into_inner() >= TURNS);
    assert_eq!(frames.zone().audit().violations(), 0);
}

#[test]
fn a_cpu_that_waits_for_a_lock_answers() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|error| error.into_inner());
    let (lock, marks) = (Mutex::<Threads, u32>::new(0), Marks::new());
    let (holder, asked) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            CPU.set(2);
            marks.set::<AllSafeguards, _>(2, || ());
            while !holder.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            // This CPU answers nowhere but in here.
            *lock.lock() += 1;
            marks.clear(2);
            asked.store(true, Ordering::SeqCst);
        });
        CPU.set(3);
        while !marks.has(2) {
            std::thread::yield_now();
        }
        let mut held = lock.lock();
        holder.store(true, Ordering::SeqCst);
        let before = ROUNDS.count();
        ROUNDS.round(&Threads, &marks);
        assert_eq!(ROUNDS.count(), before + 1);
        *held += 1;
        drop(held);
        while !asked.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    });
    CPU.set(0);
    assert_eq!(*lock.lock(), 2);
}
