//! Allocation fails at each place in turn: the operation fails whole, nothing is lost, and it
//! succeeds when memory is there.

use crate::common;

use std::ops::Range;

use common::*;
use tailpin::Order;
use tailpin_mm::{
    Access, Advice, CollapseLimits, Cow, HugePages, Map, MmConfig, Object, ObjectConfig, Prot, StdEnv,
    VirtAddr,
};

const BASE: VirtAddr = VirtAddr::new(0x4000_0000);
const FILE: VirtAddr = VirtAddr::new(0x5000_0000);
const COPY: VirtAddr = VirtAddr::new(0x6000_0000);
const TLB: VirtAddr = VirtAddr::new(0x7000_0000);
const AWAY: VirtAddr = VirtAddr::new(0x8000_0000);

/// Two spaces, the second a fork of the first, and an object, with known contents.
struct World<'z> {
    parent: Sp<'z>,
    child: Sp<'z>,
    object: Object<'z, StdEnv>,
}

impl<'z> World<'z> {
    fn new(mm: &Mem<'z>) -> Self {
        let parent = mm.space().unwrap();
        let object = mm.object(ObjectConfig::new(2 * HUGE).huge()).unwrap();
        let hugetlb = mm.object(ObjectConfig::new(HUGE).hugetlb(Order::HUGE)).unwrap();
        parent.map(Map::anonymous(2 * HUGE, Prot::READ_WRITE).at(BASE)).unwrap();
        // Behind it memory in small pages, of which every second is present.
        let small = Map::anonymous(HUGE, Prot::READ_WRITE).huge(HugePages::Never);
        parent.map(small.at(BASE.offset(2 * HUGE))).unwrap();
        parent.map(Map::shared(&object, 0, 2 * HUGE, Prot::READ_WRITE).at(FILE)).unwrap();
        parent.map(Map::private(&object, 0, 2 * HUGE, Prot::READ_WRITE).at(COPY)).unwrap();
        parent.map(Map::private(&hugetlb, 0, HUGE, Prot::READ_WRITE).at(TLB)).unwrap();
        let fill = |addr: VirtAddr, pages: Range<u64>, step: usize| {
            for page in pages.step_by(step) {
                parent.write(addr.offset(page * PAGE), &(addr.get() + page).to_le_bytes()).unwrap();
            }
        };
        fill(BASE, 0..1024, 1);
        fill(BASE, 1024..1536, 2);
        parent.advise(BASE.offset(2 * HUGE), HUGE, Advice::Huge).unwrap();
        fill(FILE, 0..512, 1);
        fill(COPY, 5..6, 1);
        fill(TLB, 0..512, 1);
        let child = parent.fork().unwrap();
        Self { parent, child, object }
    }

    /// The first bytes of every page, or that there is none.
    fn contents(&self) -> Vec<Vec<u8>> {
        let ranges = [(BASE, 3 * HUGE), (FILE, 2 * HUGE), (COPY, 2 * HUGE), (TLB, HUGE), (AWAY, 3 * HUGE)];
        let read = |space: &Sp<'_>, (addr, len): (VirtAddr, u64)| {
            (0..len / PAGE)
                .flat_map(|page| {
                    let mut bytes = [0; 8];
                    match space.read(addr.offset(page * PAGE), &mut bytes) {
                        Ok(()) => bytes,
                        Err(_) => *b"an error",
                    }
                })
                .collect()
        };
        [&self.parent, &self.child].iter().flat_map(|space| ranges.map(|range| read(space, range))).collect()
    }
}

/// Does something; whether it succeeded.
type Operation = fn(&World<'_>) -> bool;

const OPERATIONS: &[(&str, Operation)] = &[
    ("a write to a shared huge page", |world| world.child.write(BASE.offset(PAGE), b"x").is_ok()),
    ("a write to a shared small page", |world| world.child.write(BASE.offset(2 * HUGE), b"x").is_ok()),
    ("a write where nothing is", |world| world.parent.write(BASE.offset(2 * HUGE + PAGE), b"x").is_ok()),
    ("a read of the object where nothing is", |world| world.child.read(COPY.offset(HUGE), &mut [0]).is_ok()),
    ("a write to the object", |world| world.parent.write(FILE.offset(HUGE), b"x").is_ok()),
    ("a write to a private page of the object", |world| {
        world.parent.write(COPY.offset(9 * PAGE), b"x").is_ok()
    }),
    ("a write to a private hugetlb page", |world| world.child.write(TLB, b"x").is_ok()),
    ("unmap of a part", |world| world.child.unmap(BASE.offset(PAGE), 2 * HUGE).is_ok()),
    ("unmap of a part of the object", |world| world.parent.unmap(FILE.offset(PAGE), PAGE).is_ok()),
    ("protect of a part", |world| world.parent.protect(BASE.offset(PAGE), HUGE, Prot::NONE).is_ok()),
    ("discard of a part", |world| world.child.advise(BASE.offset(PAGE), HUGE, Advice::DontNeed).is_ok()),
    ("a move to another alignment", |world| {
        world.parent.remap(BASE, 3 * HUGE, Some(AWAY.offset(PAGE))).is_ok()
    }),
    ("a move that keeps the alignment", |world| world.child.remap(BASE, 2 * HUGE, Some(AWAY)).is_ok()),
    ("a fork", |world| world.parent.fork().is_ok()),
    ("a fork with pins", |world| {
        let pins = world.parent.pin_pages(BASE.offset(3 * PAGE), 9 * PAGE, Access::Write);
        let hugetlb = world.parent.pin_pages(TLB, PAGE, Access::Write);
        pins.is_ok() && hugetlb.is_ok() && world.parent.fork().is_ok()
    }),
    ("pins", |world| world.parent.pin_pages(BASE.offset(2 * HUGE - PAGE), 9 * PAGE, Access::Write).is_ok()),
    ("a split of a mapping", |world| world.child.split_mapping(BASE).is_ok()),
    ("a split of a page", |world| world.child.split_page(BASE, Order::PAGE).is_ok()),
    ("a split of the object's page", |world| world.parent.split_page(FILE, Order::PAGE).is_ok()),
    ("a collapse", |world| world.parent.collapse(BASE.offset(2 * HUGE), CollapseLimits::NONE).is_ok()),
    ("a collapse of the object", |world| {
        world.parent.split_page(FILE, Order::PAGE).is_ok()
            && world.parent.collapse(FILE, CollapseLimits::NONE).is_ok()
    }),
    ("truncation", |world| {
        world.object.truncate(5 * PAGE).unwrap();
        true
    }),
    ("a hole", |world| {
        world.object.punch_hole(PAGE..7 * PAGE);
        true
    }),
];

#[test]
fn whatever_allocation_fails_the_operation_fails_whole() {
    for cow in [Cow::Page, Cow::Whole] {
        let config = MmConfig { cow, ..MmConfig::default() };
        for (name, operation) in OPERATIONS {
            // What it does if all goes well.
            let (mut before, mut after) = (Vec::new(), Vec::new());
            machine(48 * MIB, config, |mm, _, _| before = World::new(mm).contents());
            machine(48 * MIB, config, |mm, _, _| {
                let world = World::new(mm);
                assert!(operation(&world), "{name} fails with memory to spare");
                after = world.contents();
            });
            let mut failures = 0;
            // Each of the first, then fewer and fewer: a batch repeats itself.
            let steps = std::iter::successors(Some(0), |n| Some(n + 1 + n / 8));
            for allowed in steps {
                let mut through = false;
                machine(48 * MIB, config, |mm, _, env| {
                    let world = World::new(mm);
                    let asked = env.allocations();
                    env.fail_after(Some(allowed));
                    let done = operation(&world);
                    env.fail_after(None);
                    through = env.allocations() - asked <= allowed;
                    if done {
                        assert!(world.contents() == after, "{name}, {allowed} allocations: done, but wrong");
                        return;
                    }
                    failures += 1;
                    assert!(operation(&world), "{name} fails after a failure");
                    assert!(world.contents() == after, "{name}, {allowed} allocations: something was lost");
                });
                // And the failure itself changed nothing, in a world where it is not tried again.
                machine(48 * MIB, config, |mm, _, env| {
                    let world = World::new(mm);
                    env.fail_after(Some(allowed));
                    let done = operation(&world);
                    env.fail_after(None);
                    if !done {
                        let fresh = World::new(mm);
                        assert!(
                            world.contents() == fresh.contents(),
                            "{name}, {allowed}: it failed, but not whole"
                        );
                    }
                });
                if through {
                    break;
                }
            }
            let never = ["truncation", "a hole"].contains(name);
            assert_eq!(failures == 0, never, "{name} failed {failures} times");
        }
    }
}

#[test]
fn a_machine_that_is_full_says_so_and_works_again_when_it_is_not() {
    machine(8 * MIB, MmConfig::default(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(16 * MIB, Prot::READ_WRITE)).unwrap();
        let mut written = 0;
        let error = loop {
            match space.write(addr.offset(written * PAGE), &[7; PAGE as usize]) {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
        };
        let addr_of = addr.offset(written * PAGE);
        assert_eq!(error, tailpin_mm::FaultError::OutOfMemory { addr: addr_of, order: Order::PAGE });
        assert!(zone.free_frames() < 2, "{} frames are free", zone.free_frames());
        assert!(space.fork().is_err() && mm.space().is_err());
        let part = space.unmap(addr.offset(PAGE), PAGE);
        assert!(part.is_err(), "no frame for the page table");
        // A whole huge page needs none.
        space.unmap(addr, HUGE).unwrap();
        assert_eq!(bytes(&space, addr.offset(HUGE), PAGE), [7; PAGE as usize]);
        space.fork().unwrap();
    });
}
