//! `memory_set`: the sequence of its own tests, over a space in place of an array of flags.

use memory_addr::VirtAddr;
use memory_set::{MappingError, MemoryArea, MemorySet};
use tailpin_kernel::{KernelEnv, SpaceBackend};
use tailpin_mm::Prot;

use crate::spaces::{Threads, mm};

type Backend = SpaceBackend<KernelEnv<Threads>>;

const BASE: usize = 0x10_0000;

fn area(start: usize, size: usize, prot: Prot) -> MemoryArea<Backend> {
    MemoryArea::new(VirtAddr::from_usize(BASE + start), size, prot, Backend::new())
}

#[test]
fn areas_are_mapped_split_protected_and_unmapped() {
    let mut space = mm().space().unwrap();
    let mut set = MemorySet::<Backend>::new();
    for start in (0..0x10_000).step_by(0x2000) {
        set.map(area(start, 0x1000, Prot::READ_WRITE), &mut space, false).unwrap();
    }
    for start in (0x1000..0x10_000).step_by(0x2000) {
        set.map(area(start, 0x1000, Prot::READ), &mut space, false).unwrap();
    }
    assert_eq!(set.len(), 16);
    let at = |offset: usize| tailpin_mm::VirtAddr::new((BASE + offset) as u64);
    assert!(space.write(at(0x4200), b"area").is_ok());
    assert!(space.write(at(0x5200), b"area").is_err(), "reading only");
    // What is there already is refused, and replaced where the caller says so.
    let again = || area(0x4000, 0x4000, Prot::READ_WRITE);
    assert_eq!(set.map(again(), &mut space, false), Err(MappingError::AlreadyExists));
    set.map(again(), &mut space, true).unwrap();
    assert_eq!(set.len(), 13);
    let mut bytes = [1; 4];
    space.read(at(0x4200), &mut bytes).unwrap();
    assert_eq!(bytes, [0; 4], "new memory");
    // A part of an area loses its rights, and a part of it goes.
    space.write(at(0x5000), b"kept").unwrap();
    let inner = VirtAddr::from_usize(BASE + 0x5000);
    set.protect(inner, 0x1000, |_| Some(Prot::READ), &mut space).unwrap();
    assert!(space.write(at(0x5000), b"lost").is_err() && space.write(at(0x6000), b"fine").is_ok());
    space.read(at(0x5000), &mut bytes).unwrap();
    assert_eq!(&bytes, b"kept");
    set.unmap(VirtAddr::from_usize(BASE + 0x6000), 0x1000, &mut space).unwrap();
    assert!(space.read(at(0x6000), &mut bytes).is_err());
    assert!(space.read(at(0x7000), &mut bytes).is_ok());
    set.clear(&mut space).unwrap();
    assert!(set.is_empty() && space.usage().mapped_bytes == 0);
}
