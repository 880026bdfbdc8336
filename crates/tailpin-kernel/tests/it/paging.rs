//! `page_table_multiarch`: what its own tests ask of a handler, asked of ours. The invalidation is
//! left out, which a program may not do.

use std::sync::OnceLock;

use memory_addr::{PhysAddr, VirtAddr};
use page_table_entry::MappingFlags;
use page_table_entry::x86_64::X64PTE;
use page_table_multiarch::{PageSize, PageTable64, PagingHandler, PagingMetaData};
use tailpin_kernel::{Frames, HasFrames, Paging, Use};

use crate::machine::{Counted, Memory, frames};

struct Metadata;

impl PagingMetaData for Metadata {
    const LEVELS: usize = 4;
    const PA_MAX_BITS: usize = 52;
    const VA_MAX_BITS: usize = 48;
    type VirtAddr = VirtAddr;
    fn flush_tlb(_: Option<VirtAddr>) {}
}

struct Machine;

fn machine() -> &'static (&'static Frames, &'static Counted) {
    static MACHINE: OnceLock<(&Frames, &Counted)> = OnceLock::new();
    MACHINE.get_or_init(|| frames(Memory::new(8192)))
}

impl HasFrames for Machine {
    fn frames() -> &'static Frames {
        machine().0
    }
}

#[test]
fn page_tables_take_their_frames_from_us_and_give_all_back() {
    let (frames, sink) = machine();
    let before = frames.totals().1;
    let mut table = PageTable64::<Metadata, X64PTE, Paging<Machine>>::try_new().unwrap();
    assert_eq!(frames.used_for(Use::PageTable), 1);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut mapped = Vec::new();
    for _ in 0..512 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let at = VirtAddr::from_usize(random as usize & 0x7fff_ffff_f000);
        let flags = MappingFlags::READ | MappingFlags::WRITE;
        if table.cursor().map(at, PhysAddr::from_usize(0x1234_5000), PageSize::Size4K, flags).is_ok() {
            mapped.push(at);
        }
    }
    assert!(frames.used_for(Use::PageTable) > 500, "far apart, each has tables of its own");
    for at in mapped {
        let (target, _, size) = table.query(at).unwrap();
        assert_eq!((target.as_usize(), size), (0x1234_5000, PageSize::Size4K));
        table.cursor().unmap(at).unwrap();
        assert!(table.query(at).is_err());
    }
    drop(table);
    // Runs with an alignment, as its huge tables on other machines want them.
    let run = Paging::<Machine>::alloc_frames(4, 16 << 10).unwrap();
    assert!(run.as_usize().is_multiple_of(16 << 10));
    Paging::<Machine>::dealloc_frames(run, 4);
    assert!(Paging::<Machine>::alloc_frames(1, 100).is_none());
    assert_eq!((frames.totals().1, frames.used_for(Use::PageTable), sink.misuses()), (before, 0, 0));
}
