//! 100,000 children of one page: what a kernel that counts sharers in a byte can't do. Each is an
//! address space of its own; the last one writes, and all exit.
//!
//! ```sh
//! cargo run --release -p tailpin-kernel --example many_children [CHILDREN]
//! ```

use std::error::Error;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::time::Instant;

use tailpin::{FrameRange, Pfn};
use tailpin_kernel::{AllSafeguards, Cpus, Frames, FramesConfig, Kernel, KernelEnv, MemoryMap, Rounds};
use tailpin_mm::arch::X86_64;
use tailpin_mm::{DirectMap, HugePages, Map, Mm, MmConfig, Prot, Ram};

/// A machine of one CPU in a program: nothing has to be interrupted.
struct Machine;

static MACHINE: Machine = Machine;
static ROUNDS: Rounds = Rounds::new();
static ENV: KernelEnv<Machine> = KernelEnv::new();
static FRAMES: Frames = Frames::new();
static MEMORY: OnceLock<Ram> = OnceLock::new();

impl Cpus for Machine {
    fn this_cpu(&self) -> usize {
        0
    }
    fn send_ipi(&self, cpu: usize) {
        unreachable!("there is no CPU {cpu}")
    }
    fn flush_all(&self) {}
    fn interrupts_off(&self) -> bool {
        false
    }
    fn interrupts_on(&self) {}
}

// SAFETY: it is that of the memory, which is in a static.
unsafe impl DirectMap for Machine {
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        MEMORY.get().expect("made first").env().frame(frame)
    }
}

impl Kernel for Machine {
    type Arch = X86_64;
    type Safeguards = AllSafeguards;
    fn kernel() -> &'static Self {
        &MACHINE
    }
    fn rounds() -> &'static Rounds {
        &ROUNDS
    }
    fn cpus() -> usize {
        1
    }
    fn write_root(&self, _table: Option<Pfn>) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let number: u64 = std::env::args().nth(1).map_or(Ok(100_000), |number| number.parse())?;
    // Four tables for each child, and some for the parent and metadata.
    let frames = number * 4 + (number * 4 + 8192) / 128 + 8192;
    MEMORY.get_or_init(|| Ram::new(frames * 4096));
    let memory = [FrameRange::new(Pfn::new(512), frames)];
    let map = MemoryMap { memory: &memory, reserved: &[], later: None };
    FRAMES.init(&map, &MACHINE, FramesConfig::new(1, || 0))?;
    let zone = FRAMES.zone();
    let mm = Mm::new(zone, &ENV, FRAMES.infos(), MmConfig::default())?;

    let parent = mm.space()?;
    let at = parent.map(Map::anonymous(4096, Prot::READ_WRITE).huge(HugePages::Never))?;
    parent.write(at, b"shared")?;
    let page = parent.mapping(at).ok_or("not mapped")?.frame;
    let before = zone.used_frames();

    let start = Instant::now();
    let mut children = Vec::with_capacity(number as usize);
    for _ in 0..number {
        children.push(parent.fork()?);
    }
    let forks = start.elapsed();
    let used = zone.used_frames() - before;
    println!("{number} forks in {forks:.2?}: {} ns each", forks.as_nanos() / u128::from(number.max(1)));
    println!("  {used} frames of tables, {:.1} KiB for each child", used as f64 * 4.0 / number as f64);
    println!("  the page: {}", zone.state(page).ok_or("not of the zone")?);

    let last = children.last().ok_or("no child")?;
    last.write(at, b"SHARED")?;
    let mut bytes = [0; 6];
    children[0].read(at, &mut bytes)?;
    assert_eq!((&bytes, last.mapping(at).map(|found| found.frame != page)), (b"shared", Some(true)));
    println!("  a write in the last: a page of its own, and the others see nothing");

    let start = Instant::now();
    drop(children);
    let exits = start.elapsed();
    println!("{number} exits in {exits:.2?}: {} ns each", exits.as_nanos() / u128::from(number.max(1)));
    assert_eq!(zone.used_frames(), before);
    println!(
        "  the page: {}; {} rounds of interrupts",
        zone.state(page).ok_or("not of the zone")?,
        ROUNDS.count()
    );
    assert_eq!(zone.audit().violations(), 0);
    Ok(())
}
