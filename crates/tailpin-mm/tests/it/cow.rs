//! Fork and copy-on-write.

use crate::common;

use common::*;
use tailpin::Order;
use tailpin_mm::{Access, Cow, HugePages, Map, MmConfig, PageIdentity, Prot};

#[test]
fn neither_side_sees_what_the_other_writes_after_a_fork() {
    for huge in [HugePages::Always, HugePages::Never] {
        for cow in [Cow::Page, Cow::Whole] {
            machine(32 * MIB, MmConfig { cow, ..MmConfig::default() }, |mm, _, _| {
                let parent = mm.space().unwrap();
                let addr = parent.map(Map::anonymous(4 * MIB, Prot::READ_WRITE).huge(huge)).unwrap();
                let data = pattern(4, 4 * MIB as usize);
                parent.write(addr, &data).unwrap();
                let child = parent.fork().unwrap();
                assert_eq!(frame(&parent, addr), frame(&child, addr), "shared");
                parent.write(addr, b"parent").unwrap();
                child.write(addr.offset(3 * MIB), b"child").unwrap();
                assert_eq!(bytes(&child, addr, 3 * MIB), data[..3 * MIB as usize]);
                assert_eq!(bytes(&parent, addr.offset(6), 4 * MIB - 6), data[6..]);
                assert_eq!(bytes(&child, addr.offset(3 * MIB), 5), b"child");
                assert_eq!(bytes(&parent, addr, 6), b"parent");
            });
        }
    }
}

#[test]
fn a_fork_shares_huge_pages_whole() {
    machine(64 * MIB, MmConfig::default(), |mm, zone, _| {
        let parent = mm.space().unwrap();
        let addr = parent.map(Map::anonymous(16 * MIB, Prot::READ_WRITE)).unwrap();
        parent.write(addr, &pattern(7, 16 * MIB as usize)).unwrap();
        let used = zone.used_frames();
        let child = parent.fork().unwrap();
        assert_eq!(zone.used_frames(), used + 3, "three page tables");
        assert_eq!(child.usage().huge_bytes, 16 * MIB);
        assert_eq!(parent.usage().huge_bytes, 16 * MIB);
        // The space that is left has its memory exclusively again, without a copy.
        drop(child);
        let before = frame(&parent, addr);
        parent.write(addr, &[1]).unwrap();
        assert_eq!(frame(&parent, addr), before);
        assert!(is_huge(&parent, addr));
    });
}

#[test]
fn a_write_to_a_shared_huge_page_splits_only_the_writers_mapping() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let parent = mm.space().unwrap();
        let addr = parent.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        parent.write(addr, &pattern(11, HUGE as usize)).unwrap();
        let child = parent.fork().unwrap();
        child.write(addr.offset(5 * PAGE), b"mine").unwrap();
        assert!(!is_huge(&child, addr) && is_huge(&parent, addr));
        assert_eq!(zone.head_of(frame(&parent, addr)).unwrap().1, Order::HUGE, "one block still");
        // The parent goes: what the child shares stays, the page it has copied is free.
        let old = frame(&parent, addr.offset(5 * PAGE));
        drop(parent);
        assert!(is_free(zone, old));
        let mut expected = pattern(11, HUGE as usize);
        expected[5 * PAGE as usize..][..4].copy_from_slice(b"mine");
        assert_eq!(bytes(&child, addr, HUGE), expected);
        // And is the child's alone now: written to without a copy.
        let kept = frame(&child, addr.offset(6 * PAGE));
        child.write(addr.offset(6 * PAGE), &[1]).unwrap();
        assert_eq!(frame(&child, addr.offset(6 * PAGE)), kept);
    });
}

#[test]
fn a_pinned_page_stays_with_its_space_when_it_forks() {
    for huge in [HugePages::Always, HugePages::Never] {
        machine(32 * MIB, MmConfig::default(), |mm, _, _| {
            let parent = mm.space().unwrap();
            let addr = parent.map(Map::anonymous(HUGE, Prot::READ_WRITE).huge(huge)).unwrap();
            let data = pattern(13, HUGE as usize);
            parent.write(addr, &data).unwrap();
            let pinned = addr.offset(100 * PAGE);
            let pins = parent.pin_pages(pinned, PAGE, Access::Write).unwrap();
            let child = parent.fork().unwrap();
            assert_eq!(bytes(&child, addr, HUGE), data);
            parent.write(pinned, b"by the parent").unwrap();
            let mut seen = [0; 13];
            pins.read(0, &mut seen);
            assert_eq!(&seen, b"by the parent", "the pin and the mapping never part");
            pins.write(0, b"by the device");
            assert_eq!(bytes(&parent, pinned, 13), b"by the device");
            assert_eq!(bytes(&child, addr, HUGE), data, "the child has a copy of its own");
            // Only that page was copied.
            assert_eq!(frame(&parent, addr), frame(&child, addr));
            assert_ne!(frame(&parent, pinned), frame(&child, pinned));
        });
    }
}

#[test]
fn a_pin_for_reading_unshares_first() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        let parent = mm.space().unwrap();
        let addr = parent.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        parent.write(addr, b"before").unwrap();
        let child = parent.fork().unwrap();
        let pins = child.pin_pages(addr, PAGE, Access::Read).unwrap();
        child.write(addr, b"after!").unwrap();
        let mut seen = [0; 6];
        pins.read(0, &mut seen);
        assert_eq!(&seen, b"after!");
        assert_eq!(bytes(&parent, addr, 6), b"before");
        // Also of zeroes, and where nothing may be written.
        let zeroes = child.map(Map::anonymous(PAGE, Prot::READ)).unwrap();
        assert_eq!(byte(&child, zeroes), 0);
        let pins = child.pin_pages(zeroes, PAGE, Access::Read).unwrap();
        child.protect(zeroes, PAGE, Prot::READ_WRITE).unwrap();
        child.write(zeroes, &[5]).unwrap();
        let mut seen = [0];
        pins.read(0, &mut seen);
        assert_eq!(seen, [5]);
    });
}

#[test]
fn generations_of_forks_are_independent() {
    machine(64 * MIB, MmConfig::default(), |mm, _, _| {
        let first = mm.space().unwrap();
        let addr = first.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        first.write(addr, &[0; 16]).unwrap();
        let mut spaces = vec![first];
        for i in 1..8u8 {
            let child = spaces[i as usize / 2].fork().unwrap();
            child.write(addr.offset(u64::from(i) * PAGE), &[i]).unwrap();
            spaces.push(child);
        }
        for (n, space) in spaces.iter().enumerate() {
            let mut ancestors = vec![n];
            while let Some(last) = ancestors.last().copied().filter(|last| *last > 1) {
                ancestors.push(last / 2);
            }
            for i in 1..8u8 {
                // A child has what its parent had written when it was made, which was at its own
                // start.
                let expected = if ancestors.contains(&(i as usize)) { i } else { 0 };
                assert_eq!(byte(space, addr.offset(u64::from(i) * PAGE)), expected, "space {n}, page {i}");
            }
        }
    });
}

#[test]
fn private_memory_is_identified_as_such() {
    machine(16 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        assert_eq!(space.identify(addr, Access::Read), Ok(PageIdentity::Special));
        assert_eq!(space.identify(addr, Access::Write), Ok(PageIdentity::Anonymous { writable: true }));
        let child = space.fork().unwrap();
        assert_eq!(child.identify(addr, Access::Read), Ok(PageIdentity::Anonymous { writable: false }));
        assert_eq!(child.identify(addr, Access::Write), Ok(PageIdentity::Anonymous { writable: true }));
    });
}
