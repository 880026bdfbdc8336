//! More of the kernel's own tests and of the Linux Test Project's that mean something here: hugetlb
//! (S25 to S27), moving and protecting (S33), huge pages at their edges (L2 to L4).
//! docs/scenarios.md has the whole table.

use crate::common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use tailpin::Order;
use tailpin_mm::{Access, Advice, FaultError, Map, MmConfig, ObjectConfig, Prot, VirtAddr};

fn usual() -> MmConfig {
    MmConfig::default()
}

#[test]
fn s25_hugetlb_gives_back_whole_huge_pages_and_nothing_else() {
    machine(64 * MIB, usual(), |mm, zone, _| {
        let object = mm.object(ObjectConfig::new(8 * HUGE).hugetlb(Order::HUGE)).unwrap();
        let space = mm.space().unwrap();
        let private = space.map(Map::private(&object, 0, 8 * HUGE, Prot::READ_WRITE)).unwrap();
        (0..8).for_each(|i| space.write(private.offset(i * HUGE), &[1]).unwrap());
        object.punch_hole(0..8 * HUGE); // the file's own, which the private pages were copied from
        let free = || zone.free_frames() / 512;
        let before = zone.free_frames();
        // A part of a huge page is refused, and nothing goes.
        assert!(space.advise(private.offset(PAGE), HUGE, Advice::DontNeed).is_err());
        assert!(space.advise(private, HUGE - PAGE, Advice::DontNeed).is_err());
        assert_eq!(zone.free_frames(), before);
        space.advise(private.offset(2 * HUGE), 3 * HUGE, Advice::DontNeed).unwrap();
        assert_eq!(zone.free_frames(), before + 3 * 512);
        assert_eq!(byte(&space, private.offset(2 * HUGE)), 0);
        assert_eq!(byte(&space, private.offset(HUGE)), 1);
        // A hole in a shared mapping: the whole units in it go, the bytes beside them become
        // zeroes.
        let shared = space.map(Map::shared(&object, 0, 8 * HUGE, Prot::READ_WRITE)).unwrap();
        space.write(shared, &vec![5; 4 * HUGE as usize]).unwrap();
        let before = free();
        object.punch_hole(HUGE / 2..3 * HUGE + PAGE);
        assert_eq!(free(), before + 2);
        assert_eq!(
            (byte(&space, shared.offset(HUGE / 2 - 1)), byte(&space, shared.offset(HUGE / 2))),
            (5, 0)
        );
        let end = shared.offset(3 * HUGE + PAGE);
        assert_eq!((byte(&space, shared.offset(3 * HUGE)), byte(&space, end)), (0, 5));
    });
}

#[test]
fn s26_the_only_huge_page_is_never_had_twice() {
    // One block of 2 MiB is free; one thread discards it, one touches it, one tries to have
    // another.
    machine(8 * MIB, usual(), |mm, zone, _| {
        let object = |units| mm.object(ObjectConfig::new(units * HUGE).hugetlb(Order::HUGE)).unwrap();
        let (first, second) = (object(1), object(1));
        let space = mm.space().unwrap();
        let addr = space.map(Map::private(&first, 0, HUGE, Prot::READ_WRITE)).unwrap();
        let extra = space.map(Map::shared(&second, 0, HUGE, Prot::READ_WRITE)).unwrap();
        // Its tables, the file's page, and the private copy of that.
        space.write(addr, &[1]).unwrap();
        let mut held: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::HUGE).ok()).collect();
        // Page tables come from a block that is in use in part, so that they leave the last one
        // whole.
        let mut pages: Vec<_> = held.pop().expect("a free block").split().unwrap().collect();
        pages.truncate(256);
        let (stop, touched, had) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let (space, second, stop, touched, had) = (&space, &second, &stop, &touched, &had);
            scope.spawn(move || {
                let begun = Instant::now();
                while [touched, had].iter().any(|n| n.load(Ordering::Relaxed) < 100)
                    && begun.elapsed() < Duration::from_secs(10)
                {
                    space.advise(addr, HUGE, Advice::DontNeed).unwrap();
                    std::thread::yield_now();
                }
                stop.store(true, Ordering::Relaxed);
            });
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match space.write(addr, &[2]) {
                        Ok(()) => drop(touched.fetch_add(1, Ordering::Relaxed)),
                        Err(FaultError::OutOfMemory { order, .. }) => assert_eq!(order, Order::HUGE),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if space.write(extra, &[3]).is_ok() {
                        // Ours for now, so not the other's; given back at once.
                        assert_eq!(byte(space, extra), 3);
                        second.punch_hole(0..HUGE);
                        had.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        });
        println!("touched {touched:?} times, had by the other {had:?} times");
        assert!(touched.into_inner() > 1 && had.into_inner() > 1, "it did not change hands");
        // The discarded page has no other owner and is free: exactly one.
        space.advise(addr, HUGE, Advice::DontNeed).unwrap();
        second.punch_hole(0..HUGE);
        let one = zone.alloc(Order::HUGE).expect("it has not leaked");
        assert!(zone.alloc(Order::HUGE).is_err(), "there is a second one");
        assert!(space.write(addr, &[2]).is_err());
        drop((one, held, pages));
    });
}

#[test]
fn s27_pins_of_unaligned_parts_of_a_huge_page_leave_nothing_behind() {
    machine(32 * MIB, usual(), |mm, zone, _| {
        let base = zone.used_frames();
        let cases = [(0, 512), (3 * PAGE + 7, 2 * PAGE), (PAGE / 2, HUGE), (HUGE - 100, 200), (0, 2 * HUGE)];
        for (from, len) in cases {
            let object = mm.object(ObjectConfig::new(2 * HUGE).hugetlb(Order::HUGE)).unwrap();
            let space = mm.space().unwrap();
            let addr = space.map(Map::shared(&object, 0, 2 * HUGE, Prot::READ_WRITE)).unwrap();
            let pins = space.pin_pages(addr.offset(from), len, Access::Write).unwrap();
            drop((space, object));
            let units = (from + len - 1) / HUGE - from / HUGE + 1;
            assert_eq!(zone.used_frames(), base + 512 * units, "what is pinned stays, by the unit");
            pins.write(0, &vec![7; len as usize]);
            drop(pins);
            assert_eq!(zone.used_frames(), base);
        }
    });
}

#[test]
fn s33_a_read_only_huge_page_made_dirty_does_not_become_writable() {
    machine(32 * MIB, usual(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        space.write(addr, &[1; 4096]).unwrap();
        let check = |what: &str| {
            let mapping = space.mapping(addr).unwrap();
            assert!(!mapping.writable, "{what}");
            assert_eq!(space.write(addr, &[2]), Err(FaultError::NotWritable { addr }), "{what}");
            assert_eq!(space.fault(addr, Access::Write), Err(FaultError::NotWritable { addr }), "{what}");
            assert!(space.store_u32(addr, 2).is_err(), "{what}");
            assert!(space.pin_pages(addr, PAGE, Access::Write).is_err(), "{what}");
            assert_eq!(byte(&space, addr), 1, "{what}");
        };
        let pins = space.pin_pages(addr, PAGE, Access::Write).unwrap();
        space.protect(addr, HUGE, Prot::READ).unwrap();
        pins.write(1, &[9]); // dirty, and not by the mapping
        assert!(is_huge(&space, addr) && space.mapping(addr).unwrap().dirty);
        check("protected");
        space.split_mapping(addr).unwrap();
        check("split");
        space.collapse(addr, tailpin_mm::CollapseLimits::NONE).unwrap();
        check("collapsed");
        let child = space.fork().unwrap();
        check("forked");
        drop(child);
        space.fault(addr, Access::Read).unwrap();
        check("alone again");
        space.advise(addr, HUGE, Advice::Huge).unwrap();
        check("advised");
    });
}

#[test]
fn s33_moving_onto_itself_or_over_others_is_refused_and_does_no_harm() {
    machine(32 * MIB, usual(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = VirtAddr::new(0x4000_0000);
        space.map(Map::anonymous(2 * HUGE, Prot::READ_WRITE).at(addr)).unwrap();
        let data = pattern(3, 2 * HUGE as usize);
        space.write(addr, &data).unwrap();
        let other = addr.offset(4 * HUGE);
        space.map(Map::anonymous(PAGE, Prot::READ_WRITE).at(other)).unwrap();
        space.write(other, b"other").unwrap();
        for to in [addr, addr.offset(PAGE), addr.offset(HUGE), addr.offset(2 * HUGE + PAGE), other] {
            assert!(space.remap(addr, 2 * HUGE, Some(to)).is_err(), "{to}");
        }
        assert_eq!(bytes(&space, addr, 2 * HUGE), data);
        assert_eq!(bytes(&space, other, 5), b"other");
        // Next to each other is fine, by any number of pages.
        let mut at = addr;
        for step in [2 * HUGE, 2 * HUGE + PAGE, 3 * HUGE - PAGE] {
            let to = other.offset(HUGE + step);
            at = space.remap(at, 2 * HUGE, Some(to)).unwrap();
            assert_eq!(bytes(&space, at, 2 * HUGE), data);
            at = space.remap(at, 2 * HUGE, Some(addr)).unwrap();
        }
    });
}

#[test]
fn l03_odd_sizes_without_rights_advised_and_forked() {
    machine(32 * MIB, usual(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = VirtAddr::new(0x4000_0000);
        let len = 3 * HUGE - PAGE;
        space.map(Map::anonymous(len, Prot::READ_WRITE).at(addr)).unwrap();
        let data = pattern(2, len as usize);
        space.write(addr, &data).unwrap();
        space.protect(addr, HUGE, Prot::NONE).unwrap();
        space.advise(addr.offset(HUGE), HUGE, Advice::NoHuge).unwrap();
        let child = space.fork().unwrap();
        for space in [&space, &child] {
            assert_eq!(space.read(addr, &mut [0]), Err(FaultError::NotReadable { addr }));
            assert_eq!(bytes(space, addr.offset(HUGE), len - HUGE), data[HUGE as usize..]);
            space.protect(addr, len, Prot::READ_WRITE).unwrap();
            assert_eq!(bytes(space, addr, len), data);
        }
        drop(space);
        child.write(addr, &data).unwrap();
        assert_eq!(bytes(&child, addr, len), data);
    });
}

#[test]
fn l04_the_huge_page_of_zeroes_stays_zero_under_racing_writes() {
    machine(32 * MIB, usual(), |mm, _, _| {
        let (writer, reader) = (mm.space().unwrap(), mm.space().unwrap());
        let addr = writer.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        let zeroes = reader.map(Map::anonymous(HUGE, Prot::READ)).unwrap();
        assert_eq!(byte(&reader, zeroes), 0);
        assert!(reader.mapping(zeroes).is_some_and(|mapping| mapping.zero && mapping.order == Order::HUGE));
        let stop = AtomicBool::new(false);
        let written = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let (writer, stop, written) = (&writer, &stop, &written);
            scope.spawn(move || {
                for round in 0..20_000u64 {
                    writer.advise(addr, HUGE, Advice::DontNeed).unwrap();
                    // Read back to the page of zeroes half of the time, so that a write meets it.
                    if round % 2 == 0 {
                        writer.fault(addr.offset(round % 512 * PAGE), Access::Read).unwrap();
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
            for thread in 0..2u64 {
                scope.spawn(move || {
                    let mut page = thread;
                    while !stop.load(Ordering::Relaxed) {
                        page = (page + 101) % 512;
                        let at = addr.offset(page * PAGE);
                        if thread == 0 {
                            writer.write(at, &[1; 64]).unwrap();
                        } else if let Ok(pins) = writer.pin_pages(at, 64, Access::Write) {
                            pins.write(0, &[1; 64]);
                        }
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(written.into_inner() > 0);
        assert_eq!(bytes(&reader, zeroes, HUGE), vec![0; HUGE as usize]);
    });
}
