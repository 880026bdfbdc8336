//! From the loader's memory map to a zone and an `Mm` in statics.

#![allow(unsafe_code)]

use core::arch::global_asm;
use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::{FrameRange, Misuse, Order, PAGE_BYTES, Pfn, Sink};
use tailpin_kernel::{Frames, FramesConfig, Kernel, MemoryMap, Use};
use tailpin_mm::{Mm, MmConfig};

use crate::breakable::{Breakable, ENV};
use crate::breaks::{self, Break};
use crate::cpus::{self, MAX_CPUS};
use crate::machine::{self, DIRECT_MAP_BYTES, MACHINE, direct};
use crate::scenarios::{self, Asked};
use crate::{apic, say, traps};

global_asm!(include_str!("boot.s"), options(att_syntax));
global_asm!(include_str!("traps.s"), options(att_syntax));
global_asm!(include_str!("memory_functions.s"), options(att_syntax));

/// The host's target has a core and an alloc that could unwind, and name this; nothing unwinds
/// here.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As [`rust_eh_personality`].
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    unreachable!("panics end the machine")
}

#[global_allocator]
static HEAP: linked_list_allocator::LockedHeap = linked_list_allocator::LockedHeap::empty();
const HEAP_FRAMES: u64 = 4096;

/// The frames of this machine.
pub(crate) static FRAMES: Frames = Frames::new();

static MM: spin::Once<Mm<'static, Breakable>> = spin::Once::new();

/// Misuses that the zone has reported.
pub(crate) static MISUSES: AtomicU64 = AtomicU64::new(0);

struct Reporter;

impl Sink for Reporter {
    fn misuse(&self, misuse: &Misuse) {
        MISUSES.fetch_add(1, Ordering::Relaxed);
        say!("misuse {misuse}");
    }
}

/// The `hvm_start_info` that PVH hands over (Xen's ABI for PVH guests).
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct MapEntry {
    address: u64,
    bytes: u64,
    kind: u32,
    reserved: u32,
}

/// A map entry's kind: memory.
const RAM: u32 = 1;
const GIB: u64 = 1 << 30;
/// The image's first address, less where it is loaded.
const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// Where the image is loaded, as in `link.ld`.
const IMAGE_START: Pfn = Pfn::new(0x100);

unsafe extern "C" {
    static boot_pml4: u8;
    static boot_pdpt: u8;
    static __image_end: u8;
}

/// Frame of the kernel's own top-level table.
pub(crate) fn kernel_root() -> Pfn {
    Pfn::new((&raw const boot_pml4) as u64 >> 12)
}

/// Ranges of memory, ascending.
struct Ranges {
    ranges: [FrameRange; 16],
    number: usize,
}

impl Ranges {
    fn new(map: &[MapEntry], end: u64) -> Self {
        let mut found = Self { ranges: [FrameRange::new(Pfn::new(0), 0); 16], number: 0 };
        for entry in map.iter().filter(|entry| entry.kind == RAM) {
            let (first, last) =
                (entry.address.div_ceil(PAGE_BYTES), (entry.address + entry.bytes).min(end) / PAGE_BYTES);
            if first < last && found.number < found.ranges.len() {
                found.ranges[found.number] = FrameRange::new(Pfn::new(first), last - first);
                found.number += 1;
            }
        }
        found
    }

    fn all(&self) -> &[FrameRange] {
        &self.ranges[..self.number]
    }
}

/// Whether the processor has leaves of 1 GiB.
pub(crate) fn has_gigantic_leaves() -> bool {
    core::arch::x86_64::__cpuid(0x8000_0000).eax >= 0x8000_0001
        && core::arch::x86_64::__cpuid(0x8000_0001).edx & 1 << 26 != 0
}

/// Maps memory from 4 GiB to `end` in the direct map, by leaves of 1 GiB. Returns the end of what
/// is mapped.
fn extend_direct_map(end: u64) -> u64 {
    if !has_gigantic_leaves() {
        return 4 * GIB;
    }
    let end = end.next_multiple_of(GIB).clamp(4 * GIB, DIRECT_MAP_BYTES);
    let table = direct::<u64>((&raw const boot_pdpt) as u64);
    for gib in 4..end / GIB {
        // Present, writable, 1 GiB, no execution.
        // SAFETY: an entry of the table of the direct map that no address in use goes through.
        unsafe { table.add(gib as usize).write_volatile((gib * GIB) | 0x83 | (1 << 63)) };
    }
    end
}

/// Unmaps the low addresses, which only the jump to the upper half needs: from here on a null
/// pointer faults.
fn drop_identity_map() {
    // SAFETY: the kernel runs in the upper half on every CPU that has started, and reaches memory
    // through the direct map.
    unsafe { direct::<u64>(kernel_root().get() << 12).write_volatile(0) };
    MACHINE.write_root(None);
}

/// Where the first CPU comes to from `boot.s`.
#[unsafe(no_mangle)]
extern "C" fn first_cpu(info: u32) -> ! {
    let start = machine::ticks();
    machine::mask_old_controllers();
    traps::make_tables();
    // SAFETY: the loader's structures, which nothing has overwritten: the image is loaded
    // elsewhere, and what is carved lies behind the image.
    let (line, map) = unsafe {
        let info = &*direct::<StartInfo>(u64::from(info));
        (
            CStr::from_ptr(direct::<c_char>(info.command_line)).to_str().unwrap_or(""),
            core::slice::from_raw_parts(
                direct::<MapEntry>(info.memory_map),
                info.memory_map_entries as usize,
            ),
        )
    };
    let asked = Asked::from_line(line);
    if let Some(broken) = asked.broken {
        breaks::choose(broken);
    }
    traps::set_up_cpu(0);
    cpus::join();
    machine::interrupts_on();

    let memory_end = map.iter().filter(|entry| entry.kind == RAM).map(|entry| entry.address + entry.bytes);
    let ranges = Ranges::new(map, extend_direct_map(memory_end.max().unwrap_or(0)));
    // Firmware, start information and trampoline; the image.
    let low = FrameRange::new(Pfn::new(0), IMAGE_START.get());
    let image_end = ((&raw const __image_end) as u64 - IMAGE_BASE).div_ceil(PAGE_BYTES);
    let image = FrameRange { start: IMAGE_START, end: Pfn::new(image_end) };
    let map = MemoryMap { memory: ranges.all(), reserved: &[low, image], later: None };
    let config = FramesConfig { sink: Some(&Reporter), ..FramesConfig::new(MAX_CPUS, cpus::this_cpu) };
    FRAMES.init(&map, &MACHINE, config).expect("the loader's memory map");
    let heap = FRAMES.alloc_for(Use::Heap, HEAP_FRAMES, 1).expect("there is memory");
    let heap_bytes = (HEAP_FRAMES << 12) as usize;
    // SAFETY: frames of its own, for ever.
    unsafe { HEAP.lock().init(FRAMES.address(heap.start).as_ptr(), heap_bytes) };
    let kernel_root = (!breaks::is(Break::KernelHalf)).then(kernel_root);
    let config = MmConfig { kernel_root, ..MmConfig::default() };
    let zone = FRAMES.zone();
    let mm = MM.call_once(|| Mm::new(zone, &ENV, FRAMES.infos(), config).expect("there is memory"));

    let online = cpus::start_others(asked.cpus);
    drop_identity_map();
    let memory: u64 = ranges.all().iter().map(|range| range.frames() << 12).sum();
    say!(
        "memory ranges={} usable_frames={} free_frames={} free_huge={} metadata_bytes={} mcycles={}",
        ranges.number,
        zone.usable_frames(),
        zone.free_frames(),
        zone.free_frames() / Order::HUGE.frames(),
        FRAMES.metadata().frames() << 12,
        (machine::ticks() - start) / 1_000_000,
    );
    let clean = scenarios::run(mm, &asked, online, memory);
    machine::exit(if clean { 0x10 } else { 1 })
}

/// Where every other CPU comes to from `boot.s`.
#[unsafe(no_mangle)]
extern "C" fn next_cpu(cpu: u32) -> ! {
    let cpu = cpu as usize;
    if cpu >= MAX_CPUS {
        // There is no task segment for it.
        loop {
            core::hint::spin_loop();
        }
    }
    traps::set_up_cpu(cpu);
    cpus::join();
    apic::work_when_told(cpu)
}
