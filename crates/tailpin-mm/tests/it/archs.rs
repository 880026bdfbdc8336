//! Address spaces over each format of page tables, and execution.

use std::marker::PhantomData;
use std::ptr::NonNull;

use tailpin::{Order, Pfn};
use tailpin_mm::arch::{Aarch64, Arch, Sv39, Sv48, X86_64, X86_64La57};
use tailpin_mm::{
    Access, CollapseLimits, CollapseOutcome, DirectMap, Env, FaultError, HugePages, Map, Mm, MmConfig,
    ObjectConfig, Prot, Ram, ReadSide, SpaceId, Stale, StdEnv, StdSection, Tlb, VirtAddr,
};

use crate::common::*;

/// [`StdEnv`] with another format.
struct On<'a, A>(&'a StdEnv, PhantomData<fn() -> A>);

// SAFETY: what `StdEnv` promises.
unsafe impl<A> DirectMap for On<'_, A> {
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        self.0.frame(frame)
    }
}

impl<A> Tlb for On<'_, A> {
    type Context = ();

    fn new_context(&self, _space: SpaceId) {}

    fn invalidate(&self, (): &(), stale: Stale) {
        self.0.invalidate(&(), stale);
    }
}

impl<A> ReadSide for On<'_, A> {
    type Section<'a>
        = StdSection<'a>
    where
        Self: 'a;

    fn enter<'a>(&'a self, (): &'a ()) -> StdSection<'a> {
        self.0.enter(&())
    }
}

impl<A: Arch> Env for On<'_, A> {
    type Arch = A;
    type Lock = parking_lot::RawRwLock;
}

const BASE: VirtAddr = VirtAddr::new(0x4000_0000);

fn spaces_work<A: Arch>() {
    let ram = Ram::new(32 * MIB);
    let zone = ram.zone().unwrap();
    let env = On::<A>(ram.env(), PhantomData);
    let mm = Mm::new(&zone, &env, ram.infos(), MmConfig::default()).unwrap();
    let space = mm.space().unwrap();
    let byte = |space: &tailpin_mm::Space<'_, On<'_, A>>, page: u64| {
        let mut found = [0];
        space.read(BASE.offset(page * PAGE), &mut found).unwrap();
        found[0]
    };
    // Zeroes, a huge page, and what the hardware would note.
    space.map(Map::anonymous(2 * HUGE, Prot::READ_WRITE).at(BASE)).unwrap();
    assert_eq!(byte(&space, 3), 0);
    assert!(space.mapping(BASE).is_some_and(|page| page.zero && page.order == Order::HUGE && !page.dirty));
    (0..1024).for_each(|page| space.write(BASE.offset(page * PAGE), &[page as u8]).unwrap());
    let page = space.mapping(BASE.offset(5 * PAGE)).unwrap();
    assert!(page.order == Order::HUGE && page.writable && page.exclusive && page.accessed && page.dirty);
    // A pin in the middle stays through all that follows.
    let pins = space.pin_pages(BASE.offset(7 * PAGE), PAGE, Access::Write).unwrap();
    let child = space.fork().unwrap();
    child.write(BASE.offset(9 * PAGE), &[99]).unwrap();
    assert_eq!((byte(&space, 9), byte(&child, 9)), (9, 99));
    space.write(BASE.offset(600 * PAGE), &[88]).unwrap();
    assert_eq!((byte(&space, 600), byte(&child, 600)), (88, (600_u64 % 256) as u8));
    assert_eq!(pins.frames().next(), space.mapping(BASE.offset(7 * PAGE)).map(|page| page.frame));
    drop(child);
    space.split_page(BASE, Order::PAGE).unwrap();
    assert_eq!(space.mapping(BASE).unwrap().order, Order::PAGE);
    space.protect(BASE, HUGE, Prot::READ).unwrap();
    let addr = BASE;
    assert_eq!(space.write(BASE, &[1]), Err(FaultError::NotWritable { addr }));
    assert!(space.mapping(BASE).is_some_and(|page| page.dirty && !page.writable));
    space.protect(BASE, HUGE, Prot::NONE).unwrap();
    assert_eq!(space.read(BASE, &mut [0]), Err(FaultError::NotReadable { addr }));
    space.protect(BASE, HUGE, Prot::READ_WRITE).unwrap();
    assert_eq!(space.collapse(BASE, CollapseLimits::NONE), Ok(CollapseOutcome::InPlace));
    let moved = space.remap(BASE, HUGE, Some(BASE.offset(1 << 30))).unwrap();
    let mut found = [0];
    space.read(moved.offset(11 * PAGE), &mut found).unwrap();
    assert_eq!(found, [11]);
    // Objects, and the last page of users' addresses.
    let object = mm.object(ObjectConfig::new(HUGE).huge()).unwrap();
    let last = VirtAddr::new(A::USER_END.get() - PAGE);
    space.map(Map::shared(&object, 0, PAGE, Prot::READ_WRITE).at(last)).unwrap();
    space.write(last.offset(PAGE - 4), b"last").unwrap();
    space.compare_exchange_u32(last, 0, 7).unwrap().unwrap();
    assert_eq!(space.load_u32(last), Ok(7));
    assert!(space.map(Map::guard(PAGE).at(A::USER_END)).is_err());
    drop((space, object));
    assert_eq!(zone.used_frames(), 1 + 1 + 512, "the pinned page and the pages of zeroes");
    drop((pins, mm));
    assert_eq!((zone.audit().violations(), zone.used_frames(), zone.set_aside_frames()), (0, 0, 0));
}

#[test]
fn spaces_over_every_format() {
    spaces_work::<X86_64>();
    spaces_work::<X86_64La57>();
    spaces_work::<Sv39>();
    spaces_work::<Sv48>();
    spaces_work::<Aarch64>();
}

#[test]
fn execution_is_an_access_of_its_own() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let code = Prot { exec: true, ..Prot::NONE };
        for huge in [HugePages::Always, HugePages::Never] {
            for (prot, fetched) in [(Prot::READ_EXEC, true), (code, true), (Prot::READ_WRITE, false)] {
                let addr = space.map(Map::anonymous(HUGE, prot).huge(huge)).unwrap();
                let fault = space.fault(addr, Access::Execute);
                if fetched {
                    assert_eq!(fault, Ok(()));
                    assert!(space.mapping(addr).is_some_and(|page| page.executable));
                    // Execution includes reading, as on x86-64.
                    assert_eq!(space.fault(addr, Access::Read), Ok(()));
                } else {
                    assert_eq!(fault, Err(FaultError::NotExecutable { addr }));
                    assert_eq!(space.mapping(addr), None, "a fault that is refused maps nothing");
                    space.fault(addr, Access::Read).unwrap();
                    assert_eq!(space.fault(addr, Access::Execute), Err(FaultError::NotExecutable { addr }));
                }
                assert_eq!(space.fault(addr, Access::Write).is_ok(), prot.write);
                // Taken away and given back.
                space.protect(addr, HUGE, Prot::READ).unwrap();
                assert!(space.mapping(addr).is_some_and(|page| !page.executable));
                assert_eq!(space.fault(addr, Access::Execute), Err(FaultError::NotExecutable { addr }));
                space.protect(addr, HUGE, Prot::READ_EXEC).unwrap();
                assert_eq!(space.fault(addr, Access::Execute), Ok(()));
            }
        }
        let guard = space.map(Map::guard(PAGE)).unwrap();
        assert_eq!(space.fault(guard, Access::Execute), Err(FaultError::Unmapped { addr: guard }));
        // An object's page is executed where it is mapped so, and pinned as it is read.
        let object = mm.object(ObjectConfig::new(PAGE)).unwrap();
        for map in
            [Map::shared(&object, 0, PAGE, Prot::READ_EXEC), Map::private(&object, 0, PAGE, Prot::READ_EXEC)]
        {
            let addr = space.map(map).unwrap();
            assert_eq!(space.fault(addr, Access::Execute), Ok(()));
            assert!(space.pin_pages(addr, PAGE, Access::Execute).is_ok());
        }
    });
}
