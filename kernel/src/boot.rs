//! From the loader's memory map to a zone and an `Mm` in statics.

#![allow(unsafe_code)]

use core::arch::global_asm;
use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::{FrameRange, Misuse, OneWord, Order, Pfn, Sink, Zone, ZoneConfig, ZoneLayout};
use tailpin_mm::{FrameInfo, Mm, MmConfig};

use crate::breaks::{self, Break};
use crate::cpus::{self, MAX_CPUS};
use crate::machine::{self, DIRECT_MAP_BYTES, MACHINE, Machine, direct};
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
const HEAP_BYTES: u64 = 16 << 20;

static ZONE: spin::Once<Zone<'static>> = spin::Once::new();
static MM: spin::Once<Mm<'static, Machine>> = spin::Once::new();

/// Misuses that the zone has reported.
pub(crate) static MISUSES: AtomicU64 = AtomicU64::new(0);

struct Reporter;

impl Sink for Reporter {
    fn misuse(&self, misuse: &Misuse) {
        MISUSES.fetch_add(1, Ordering::Relaxed);
        say!("misuse {misuse}");
    }
}

/// The frames of this machine.
pub(crate) fn zone() -> &'static Zone<'static> {
    ZONE.get().expect("made before anything asks for it")
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
            let (first, last) = (entry.address.div_ceil(4096), (entry.address + entry.bytes).min(end) / 4096);
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

/// Memory behind the image, handed out piece by piece before there is an allocator.
struct Carve {
    next: u64,
}

impl Carve {
    /// Zeroed memory, for ever.
    fn take<T>(&mut self, number: usize) -> &'static [T] {
        let bytes = (number * size_of::<T>()) as u64;
        let start = self.next;
        self.next = (start + bytes).next_multiple_of(4096);
        // SAFETY: behind the image and what was taken before, so no other memory; it is kept out of
        // the zone. The callers' types are words and frame information, which begin as zeroes.
        unsafe {
            core::ptr::write_bytes(direct::<u8>(start), 0, bytes as usize);
            core::slice::from_raw_parts(direct::<T>(start), number)
        }
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
    machine::load_root(kernel_root());
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
    let layout = ZoneLayout::new(ranges.all(), MAX_CPUS).expect("there is memory");
    let mut carve = Carve { next: (&raw const __image_end) as u64 - IMAGE_BASE };
    let heap = carve.take::<AtomicU64>((HEAP_BYTES / 8) as usize);
    // SAFETY: memory of its own, which nothing else uses.
    unsafe { HEAP.lock().init(heap.as_ptr().cast_mut().cast(), HEAP_BYTES as usize) };
    let pages = carve.take::<AtomicU64>(layout.page_words::<OneWord<'_>>());
    let areas = carve.take::<AtomicU64>(layout.area_words());
    let infos = carve.take::<FrameInfo>(layout.span_frames() as usize);
    // Firmware, start information and trampoline; the image, heap and metadata.
    let low = FrameRange::new(Pfn::new(0), IMAGE_START.get());
    let image = FrameRange::new(IMAGE_START, carve.next / 4096 - IMAGE_START.get());
    let reserved = [low, image];
    let config = ZoneConfig::default().cpu(cpus::this_cpu).sink(&Reporter);
    let zone = ZONE.call_once(|| {
        Zone::new(layout.without(&reserved), config, pages, areas).expect("the words are of this layout")
    });
    let kernel_root = (!breaks::is(Break::KernelHalf)).then(kernel_root);
    let config = MmConfig { kernel_root, ..MmConfig::default() };
    let mm = MM.call_once(|| Mm::new(zone, &MACHINE, infos, config).expect("there is memory"));
    let metadata = size_of_val(pages) + size_of_val(areas) + size_of_val(infos);

    let online = cpus::start_others(asked.cpus);
    drop_identity_map();
    let memory: u64 = ranges.all().iter().map(|range| range.frames() << 12).sum();
    say!(
        "memory ranges={} usable_frames={} free_frames={} free_huge={} metadata_bytes={metadata} mcycles={}",
        ranges.number,
        zone.usable_frames(),
        zone.free_frames(),
        zone.free_frames() / Order::HUGE.frames(),
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
