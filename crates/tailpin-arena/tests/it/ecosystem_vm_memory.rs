//! Guest memory of `vm-memory` in an arena, and its balloon.

#![cfg(feature = "vm-memory")]

use crate::common;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tailpin_arena::vm_memory::{BalloonError, GuestRegion, RegionError};
use tailpin_arena::{Arena, Backing, Reason, ReleaseError};
use vm_memory::{
    Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionCollection,
    MemoryRegionAddress,
};

const MIB: usize = 1 << 20;
const START: GuestAddress = GuestAddress(0x10_0000);

fn page(n: usize) -> GuestAddress {
    START.unchecked_add(n as u64 * 4096)
}

/// Whether each page of the region has memory, by the kernel's page map.
fn there(region: &GuestRegion) -> Vec<bool> {
    let host = region.get_host_address(MemoryRegionAddress(0)).unwrap().addr();
    let mut entries = vec![0; region.len() as usize / 4096 * 8];
    File::open("/proc/self/pagemap").unwrap().read_exact_at(&mut entries, (host / 4096 * 8) as u64).unwrap();
    entries.chunks_exact(8).map(|entry| entry[7] >> 7 == 1).collect()
}

/// Writes its number to each page, gives back every third, and looks at what the guest and the
/// kernel see.
fn balloon(backing: Backing) {
    let arena = Arena::builder().size(8 * MIB).backing(backing).build().unwrap();
    let region = GuestRegion::new(&arena, START, 4 * MIB).unwrap();
    let memory = GuestRegionCollection::from_regions(vec![region]).unwrap();
    for n in 0..1024 {
        memory.write_obj(n as u64 + 1, page(n)).unwrap();
    }
    let region = memory.find_region(START).unwrap();
    assert!(there(region).iter().all(|&there| there));
    for n in (0..1024).step_by(3) {
        let released = region.inflate(page(n), 1).unwrap();
        assert_eq!((released.returned, released.stuck), (4096, 0), "{backing:?}, page {n}");
    }
    for (n, there) in there(region).into_iter().enumerate() {
        assert_eq!(there, n % 3 != 0, "{backing:?}, page {n}");
    }
    for n in 0..1024 {
        let seen: u64 = memory.read_obj(page(n)).unwrap();
        assert_eq!(seen, if n % 3 == 0 { 0 } else { n as u64 + 1 });
    }
    // Deflated by use.
    memory.write_obj(77_u64, page(300)).unwrap();
    assert_eq!(memory.read_obj::<u64>(page(300)).unwrap(), 77);
    drop(memory);
    assert_eq!(arena.stats().in_use(), 0);
    assert_eq!(arena.audit().violations(), 0);
}

#[test]
fn the_balloon_gives_back_single_pages_of_private_memory() {
    balloon(Backing::Anonymous);
}

#[test]
fn the_balloon_gives_back_single_pages_of_shared_memory() {
    balloon(Backing::Memfd { huge: false });
    balloon(Backing::Memfd { huge: true });
}

#[test]
fn memory_that_served_before_is_zero_for_the_guest() {
    let arena = Arena::builder().size(2 * MIB).build().unwrap();
    arena.alloc(2 * MIB).unwrap().fill(0xA5);
    let region = GuestRegion::new(&arena, START, 2 * MIB - 100).unwrap();
    let mut bytes = vec![1; 2 * MIB - 100];
    region.read_slice(&mut bytes, MemoryRegionAddress(0)).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 0));
}

#[test]
fn what_can_not_be_given_back_is_refused_with_the_reason() {
    let plain = Arena::builder().over_memory(vec![0xA5; 4 * MIB]).build().unwrap();
    let region = GuestRegion::new(&plain, START, MIB).unwrap();
    assert_eq!(region.read_obj::<u64>(MemoryRegionAddress(8)).unwrap(), 0);
    let refused = region.inflate(page(0), 1).unwrap_err();
    assert!(
        matches!(refused, BalloonError::Arena(ReleaseError::Refused(Reason::CallersMemory))),
        "{refused}"
    );

    let arena = Arena::builder().size(4 * MIB).build().unwrap();
    let region = GuestRegion::new(&arena, START, MIB).unwrap();
    region.write_obj(5_u64, MemoryRegionAddress(0)).unwrap();
    let registered = arena.registered().unwrap();
    let refused = region.inflate(page(0), 1).unwrap_err();
    assert!(matches!(refused, BalloonError::Arena(ReleaseError::Refused(Reason::Registered))), "{refused}");
    assert_eq!(region.read_obj::<u64>(MemoryRegionAddress(0)).unwrap(), 5);
    drop(registered);
    region.inflate(page(0), 1).unwrap();
    assert_eq!(region.read_obj::<u64>(MemoryRegionAddress(0)).unwrap(), 0);
}

#[test]
fn no_page_goes_while_the_memory_is_registered() {
    let arena = Arena::builder().size(4 * MIB).build().unwrap();
    let region = GuestRegion::new(&arena, START, 64 << 10).unwrap();
    let at = MemoryRegionAddress(0);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                region.write_obj(1_u64, at).unwrap();
                let _ = region.inflate(page(0), 1);
            }
        });
        for round in 0..2000 {
            // Another moment of the other thread's turn each time.
            (0..round % 50).for_each(|_| std::hint::spin_loop());
            let registered = arena.registered().unwrap();
            // From here on the other thread writes nothing but 1.
            let first: u64 = region.read_obj(at).unwrap();
            let until = Instant::now() + Duration::from_micros(300);
            while Instant::now() < until {
                let now: u64 = region.read_obj(at).unwrap();
                // An assertion would leave the other thread running.
                if now < first {
                    ended.store(true, Ordering::Relaxed);
                    panic!("a registered page was taken away");
                }
            }
            drop(registered);
        }
        ended.store(true, Ordering::Relaxed);
    });
}

#[test]
fn addresses_outside_are_refused_and_nothing_happens() {
    let arena = Arena::builder().size(4 * MIB).build().unwrap();
    let region = GuestRegion::new(&arena, START, MIB).unwrap();
    for (address, pages) in [
        (page(256), 1),
        (page(255), 2),
        (page(0), 257),
        (GuestAddress(0), 1),
        (GuestAddress(START.0 + 1), 1),
        (page(0), usize::MAX),
    ] {
        assert!(
            matches!(region.inflate(address, pages), Err(BalloonError::NotInRegion { .. })),
            "{address:?} {pages}"
        );
    }
    assert!(region.get_slice(MemoryRegionAddress(MIB as u64 - 1), 2).is_err());
    assert!(region.get_slice(MemoryRegionAddress(u64::MAX), 2).is_err());
    assert!(region.get_host_address(MemoryRegionAddress(MIB as u64)).is_err());
    assert!(region.write_slice(&[0; 10], MemoryRegionAddress(MIB as u64 - 5)).is_err());
}

#[test]
fn regions_that_no_guest_can_have_are_refused() {
    let arena = Arena::builder().size(4 * MIB).build().unwrap();
    let top = GuestAddress(u64::MAX - 4095);
    for (start, bytes) in
        [(START, 0), (top, 4097), (GuestAddress(u64::MAX), 2), (GuestAddress(2), usize::MAX)]
    {
        let refused = GuestRegion::new(&arena, start, bytes).unwrap_err();
        assert_eq!(refused, RegionError::BadRange { start, bytes });
    }
    assert!(matches!(
        GuestRegion::new(&arena, START, usize::MAX - START.0 as usize),
        Err(RegionError::Arena(_))
    ));
    assert_eq!(arena.stats().in_use(), 0);
    let region = GuestRegion::new(&arena, top, 4096).unwrap();
    assert_eq!(region.last_addr(), GuestAddress(u64::MAX));
    region.inflate(top, 1).unwrap();
    assert!(region.inflate(top, 2).is_err());
}

#[test]
fn a_forked_child_is_refused_memory_that_stayed_with_its_parent() {
    let name = "a_forked_child_is_refused_memory_that_stayed_with_its_parent";
    if common::role().is_none() {
        return assert!(common::again(name, "alone", |_| {}));
    }
    let arena = Arena::builder().size(4 * MIB).backing(Backing::Memfd { huge: false }).build().unwrap();
    let region = GuestRegion::new(&arena, START, MIB).unwrap();
    region.write_obj(5_u64, MemoryRegionAddress(0)).unwrap();
    let status = common::in_a_child(|| {
        region.get_slice(MemoryRegionAddress(0), 8).is_err()
            && region.get_host_address(MemoryRegionAddress(0)).is_err()
            && region.read_obj::<u64>(MemoryRegionAddress(0)).is_err()
            && region.write_obj(6_u64, MemoryRegionAddress(0)).is_err()
            && matches!(region.inflate(START, 1), Err(BalloonError::Arena(ReleaseError::ForkedChild)))
    });
    assert_eq!(status, 0);
    assert_eq!(region.read_obj::<u64>(MemoryRegionAddress(0)).unwrap(), 5);
}
