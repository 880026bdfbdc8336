//! Allocations that fail, at every place where one is made.
//!
//! Each operation is run on a fresh machine with its first allocation failing, then its second, and
//! so on until all have had their turn; once with all later ones failing too (memory has run out),
//! once with that one alone. After a failure every byte of every space and under every pin is as
//! before, as much is mapped and present, and the accounts are exact: each frame in use is a page
//! table or memory that has an owner. What may be different is that a huge leaf has become 512
//! small ones, or that an empty page table waits for its next use.

#![allow(unreachable_pub)] // A test has no outside.

use crate::common;
mod flaky;
mod stage;
mod threads;

use common::{HUGE, MIB, PAGE, pattern};
use flaky::{Fail, machine};
use stage::{FREE, OBJECT, PRIVATE, START, Stage, each_allocation};
use tailpin::Order;
use tailpin_mm::{
    Access, Advice, AdviseError, CollapseError, CollapseLimits, Cow, FaultError, HugePages, Map, MapError,
    MmConfig, MmError, ObjectConfig, PageSplitError, PinError, Prot, VirtAddr,
};

fn usual() -> MmConfig {
    MmConfig::default()
}

fn by_pages() -> MmConfig {
    MmConfig { huge_by_default: false, ..usual() }
}

fn in_fault(error: &FaultError) -> bool {
    matches!(error, FaultError::OutOfMemory { .. })
}

fn in_map(error: &MapError) -> bool {
    matches!(error, MapError::OutOfMemory { .. })
}

fn in_pin(error: &PinError) -> bool {
    matches!(error, PinError::Fault(error) if in_fault(error))
}

fn in_split(error: &PageSplitError) -> bool {
    matches!(error, PageSplitError::OutOfMemory { .. })
}

fn in_collapse(error: &CollapseError) -> bool {
    matches!(error, CollapseError::OutOfMemory { .. })
}

fn in_advice(error: &AdviseError) -> bool {
    match error {
        AdviseError::Map(error) => in_map(error),
        AdviseError::Collapse(error) => in_collapse(error),
    }
}

/// The kinds of object.
fn kinds<'z>() -> [ObjectConfig<'z>; 3] {
    let new = || ObjectConfig::new(2 * HUGE);
    [new(), new().huge(), new().hugetlb(Order::HUGE)]
}

#[test]
fn a_new_space() {
    each_allocation(
        usual(),
        |stage| stage.anonymous(HUGE, HugePages::Always),
        |stage| stage.mm.space().map(|space| stage.spaces.push(space)),
        |error| matches!(error, MmError::OutOfMemory { .. }),
    );
}

#[test]
fn a_first_fault() {
    for huge in [HugePages::Always, HugePages::Never] {
        for access in [Access::Read, Access::Write] {
            each_allocation(
                usual(),
                |s| s.unused(huge),
                |s| s.first().fault(FREE.offset(HUGE), access),
                in_fault,
            );
        }
    }
}

#[test]
fn a_write_to_zeroes() {
    for huge in [HugePages::Always, HugePages::Never] {
        let set = |s: &mut Stage<'_, '_>| {
            s.unused(huge);
            s.first().fault(FREE, Access::Read).unwrap();
        };
        each_allocation(usual(), set, |s| s.first().write(FREE.offset(PAGE), &[1]), in_fault);
    }
}

#[test]
fn a_write_after_a_fork() {
    for (huge, cow) in
        [(HugePages::Never, Cow::Page), (HugePages::Always, Cow::Page), (HugePages::Always, Cow::Whole)]
    {
        let set = |s: &mut Stage<'_, '_>| {
            s.anonymous(HUGE, huge);
            s.fork().unwrap();
        };
        let config = MmConfig { cow, ..usual() };
        let write = |s: &mut Stage<'_, '_>| s.spaces[1].fault(START.offset(7 * PAGE), Access::Write);
        each_allocation(config, set, write, in_fault);
        each_allocation(config, set, |s| s.first().fault(START, Access::Write), in_fault);
    }
}

#[test]
fn a_fault_on_an_object() {
    for config in kinds() {
        let set = |s: &mut Stage<'_, '_>| {
            let object = s.mm.object(config.clone()).unwrap();
            s.first().map(Map::shared(&object, 0, 2 * HUGE, Prot::READ_WRITE).at(FREE)).unwrap();
            s.objects.push(object);
        };
        for access in [Access::Read, Access::Write] {
            each_allocation(usual(), set, |s| s.first().fault(FREE.offset(HUGE), access), in_fault);
        }
    }
}

#[test]
fn a_write_to_a_private_mapping_of_an_object() {
    for config in kinds() {
        let set = |s: &mut Stage<'_, '_>| s.object(config.clone());
        each_allocation(usual(), set, |s| s.first().fault(PRIVATE.offset(PAGE), Access::Write), in_fault);
    }
}

#[test]
fn a_pin() {
    for huge in [HugePages::Always, HugePages::Never] {
        let set = |s: &mut Stage<'_, '_>| s.unused(huge);
        each_allocation(usual(), set, |s| s.pin(FREE.offset(5 * PAGE), PAGE), in_pin);
        let set = |s: &mut Stage<'_, '_>| {
            s.anonymous(HUGE, huge);
            s.fork().unwrap();
        };
        each_allocation(usual(), set, |s| s.pin(START.offset(5 * PAGE), 1), in_pin);
    }
    for config in kinds() {
        each_allocation(usual(), |s| s.object(config.clone()), |s| s.pin(PRIVATE.offset(PAGE), 1), in_pin);
    }
}

#[test]
fn a_fork() {
    for huge in [HugePages::Always, HugePages::Never] {
        each_allocation(usual(), |s| s.anonymous(2 * HUGE, huge), |s| s.fork(), in_map);
        // Pinned pages are copied at once.
        let set = |s: &mut Stage<'_, '_>| {
            s.anonymous(2 * HUGE, huge);
            s.pin(START.offset(5 * PAGE), 2 * PAGE).unwrap();
            s.pin(START.offset(HUGE + 5 * PAGE), PAGE).unwrap();
        };
        each_allocation(usual(), set, |s| s.fork(), in_map);
    }
    for config in kinds() {
        let set = |s: &mut Stage<'_, '_>| {
            s.object(config.clone());
            s.first().write(PRIVATE, b"its own").unwrap();
            s.pin(PRIVATE.offset(PAGE), 1).unwrap();
        };
        each_allocation(usual(), set, |s| s.fork(), in_map);
    }
}

/// Memory of which a part is to be changed: the space's own, and shared after a fork, in which case
/// the mapping splits apart from the block.
fn in_part(operation: impl for<'z> Fn(&mut Stage<'_, 'z>, VirtAddr, u64) -> Result<(), MapError>) {
    let (from, len) = (5 * PAGE, HUGE);
    for forked in [false, true] {
        let set = |s: &mut Stage<'_, '_>| {
            s.anonymous(2 * HUGE, HugePages::Always);
            s.pin(START.offset(100 * PAGE), PAGE).unwrap();
            if forked {
                s.pins.clear();
                s.fork().unwrap();
            }
        };
        each_allocation(usual(), set, |s| operation(s, START.offset(from), len), in_map);
    }
    let set = |s: &mut Stage<'_, '_>| s.object(ObjectConfig::new(2 * HUGE).huge());
    each_allocation(usual(), set, |s| operation(s, OBJECT.offset(from), len), in_map);
}

#[test]
fn unmapping_a_part() {
    in_part(|s, addr, len| s.first().unmap(addr, len));
}

#[test]
fn protecting_a_part() {
    in_part(|s, addr, len| s.first().protect(addr, len, Prot::READ));
}

#[test]
fn moving_a_part() {
    for distance in [0, PAGE, 5 * PAGE] {
        in_part(|s, addr, len| s.first().remap(addr, len, Some(FREE.offset(distance))).map(|_| ()));
    }
}

#[test]
fn moving_all() {
    for to in [FREE, FREE.offset(3 * PAGE)] {
        let set = |s: &mut Stage<'_, '_>| s.anonymous(2 * HUGE, HugePages::Always);
        each_allocation(usual(), set, |s| s.first().remap(START, 2 * HUGE, Some(to)).map(|_| ()), in_map);
    }
}

#[test]
fn advice_about_a_part() {
    for advice in [Advice::DontNeed, Advice::Free, Advice::Huge, Advice::NoHuge] {
        let set = |s: &mut Stage<'_, '_>| s.anonymous(2 * HUGE, HugePages::Always);
        let operation = |s: &mut Stage<'_, '_>| s.first().advise(START.offset(5 * PAGE), HUGE, advice);
        each_allocation(usual(), set, operation, in_advice);
    }
}

#[test]
fn a_collapse_by_copy() {
    let set = |s: &mut Stage<'_, '_>| s.anonymous(HUGE, HugePages::Default);
    each_allocation(
        by_pages(),
        set,
        |s| s.first().collapse(START, CollapseLimits::NONE).map(|_| ()),
        in_collapse,
    );
    each_allocation(by_pages(), set, |s| s.first().advise(START, HUGE, Advice::Collapse), in_advice);
    let set = |s: &mut Stage<'_, '_>| {
        s.anonymous(HUGE, HugePages::Default);
        s.fork().unwrap();
    };
    each_allocation(
        by_pages(),
        set,
        |s| s.spaces[1].collapse(START, CollapseLimits::NONE).map(|_| ()),
        in_collapse,
    );
    let set = |s: &mut Stage<'_, '_>| s.object(ObjectConfig::new(2 * HUGE));
    each_allocation(
        by_pages(),
        set,
        |s| s.first().collapse(OBJECT, CollapseLimits::NONE).map(|_| ()),
        in_collapse,
    );
}

#[test]
fn splitting_a_mapping_and_a_page() {
    let set = |s: &mut Stage<'_, '_>| {
        s.anonymous(HUGE, HugePages::Always);
        s.fork().unwrap();
        s.fork().unwrap();
    };
    each_allocation(usual(), set, |s| s.first().split_mapping(START), in_split);
    let whole = |s: &Stage<'_, '_>, start| {
        s.spaces.iter().any(|space| space.mapping(start).unwrap().order > Order::PAGE)
    };
    let split_page = |s: &mut Stage<'_, '_>| {
        s.spaces[2].split_page(START, Order::PAGE)?;
        assert!(!whole(s, START), "a mapping is left as it was");
        Ok(())
    };
    each_allocation(usual(), set, split_page, in_split);
    let set = |s: &mut Stage<'_, '_>| {
        s.object(ObjectConfig::new(2 * HUGE).huge());
        s.fork().unwrap();
    };
    let split_page = |s: &mut Stage<'_, '_>| {
        s.first().split_page(OBJECT, Order::PAGE)?;
        assert!(!whole(s, OBJECT), "a mapping is left as it was");
        Ok(())
    };
    each_allocation(usual(), set, split_page, in_split);
}

/// Whatever gives memory back can do so when there is none.
#[test]
fn what_frees_memory_needs_none() {
    machine(48 * MIB, usual(), |mm, zone, env| {
        let mut stage = Stage::new(mm, zone, env);
        stage.anonymous(2 * HUGE, HugePages::Always);
        stage.object(ObjectConfig::new(2 * HUGE).huge());
        stage.fork().unwrap();
        stage.first().write(START, b"again").unwrap();
        stage.first().write(PRIVATE.offset(PAGE), b"its own").unwrap();
        stage.pin(OBJECT.offset(300 * PAGE), PAGE).unwrap();
        stage.look();
        env.fail(Fail::After(0));
        // In the middle of mappings of 2 MiB, for whose rests there is no table.
        stage.objects[0].punch_hole(10 * PAGE..20 * PAGE);
        stage.objects[0].truncate(HUGE + 7 * PAGE + 9).unwrap();
        stage.objects[0].truncate(2 * HUGE).unwrap();
        stage.first().unmap(START.offset(HUGE), HUGE).unwrap();
        stage.spaces[1].advise(START, 2 * HUGE, Advice::DontNeed).unwrap();
        stage.spaces.truncate(1);
        env.fail(Fail::Never);
        stage.settle();
        let content = |page: u64| {
            let mut bytes = pattern(page + 9, PAGE as usize);
            match page {
                10..20 | 520.. => bytes.fill(0),
                519 => bytes[9..].fill(0),
                _ => {}
            }
            bytes
        };
        for page in 0..1024 {
            let mut bytes = vec![0; PAGE as usize];
            stage.first().read(OBJECT.offset(page * PAGE), &mut bytes).unwrap();
            assert_eq!(bytes, content(page), "page {page}");
            stage.first().read(PRIVATE.offset(page * PAGE), &mut bytes).unwrap();
            let mut expected = content(page);
            if page == 1 {
                expected[..7].copy_from_slice(b"its own");
            }
            assert_eq!(bytes, expected, "page {page} of the private mapping");
        }
        stage.settle();
        stage.pins.clear();
        stage.objects.clear();
        env.fail(Fail::After(0));
        stage.spaces.clear();
        stage.settle();
    });
}
