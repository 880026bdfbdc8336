//! A machine with spaces, objects and pins on it, and assertions about all of them.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use tailpin::Zone;
use tailpin_mm::{
    Access, FaultError, HugePages, Map, Mm, MmConfig, Object, ObjectConfig, Pins, Prot, Space, VirtAddr,
};

use super::flaky::{Fail, Flaky, machine};
use crate::common::accounts::Accounts;
use crate::common::{HUGE, MIB, PAGE, pattern};

/// Where the first space and its forks have anonymous memory with contents,
pub const START: VirtAddr = VirtAddr::new(0x4000_0000);
/// an object mapped shared,
pub const OBJECT: VirtAddr = VirtAddr::new(0x8000_0000);
/// and private,
pub const PRIVATE: VirtAddr = VirtAddr::new(0xc000_0000);
/// and memory not yet used, or nothing.
pub const FREE: VirtAddr = VirtAddr::new(0x1_4000_0000);

pub struct Stage<'a, 'z> {
    pub mm: &'a Mm<'z, Flaky<'z>>,
    pub zone: &'z Zone<'z>,
    pub env: &'z Flaky<'z>,
    pub spaces: Vec<Space<'z, Flaky<'z>>>,
    pub objects: Vec<Object<'z, Flaky<'z>>>,
    pub pins: Vec<Pins<'z, Flaky<'z>>>,
}

/// What may not change: bytes, through every mapping and every pin, and how much is mapped and
/// present.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pages: Vec<(usize, VirtAddr, Vec<u8>)>,
    pinned: Vec<Vec<u8>>,
    sizes: Vec<(u64, u64)>,
}

impl<'a, 'z> Stage<'a, 'z> {
    /// One empty space.
    pub fn new(mm: &'a Mm<'z, Flaky<'z>>, zone: &'z Zone<'z>, env: &'z Flaky<'z>) -> Self {
        let (spaces, objects) = (vec![mm.space().unwrap()], Vec::new());
        Self { mm, zone, env, spaces, objects, pins: Vec::new() }
    }

    pub fn first(&self) -> &Space<'z, Flaky<'z>> {
        &self.spaces[0]
    }

    pub fn anonymous(&self, bytes: u64, huge: HugePages) {
        let map = Map::anonymous(bytes, Prot::READ_WRITE).huge(huge).at(START);
        self.first().map(map).unwrap();
        // From the end, so that small frames are not in order.
        for page in (0..bytes / PAGE).rev() {
            self.first().write(START.offset(page * PAGE), &pattern(page + 5, PAGE as usize)).unwrap();
        }
    }

    /// Memory that is not there yet.
    pub fn unused(&self, huge: HugePages) {
        self.first().map(Map::anonymous(2 * HUGE, Prot::READ_WRITE).huge(huge).at(FREE)).unwrap();
    }

    pub fn object(&mut self, config: ObjectConfig<'z>) {
        let object = self.mm.object(config).unwrap();
        let (space, len) = (self.first(), object.len());
        space.map(Map::shared(&object, 0, len, Prot::READ_WRITE).at(OBJECT)).unwrap();
        space.map(Map::private(&object, 0, len, Prot::READ_WRITE).at(PRIVATE)).unwrap();
        for page in (0..len / PAGE).rev() {
            space.write(OBJECT.offset(page * PAGE), &pattern(page + 9, PAGE as usize)).unwrap();
        }
        self.objects.push(object);
    }

    pub fn fork(&mut self) -> Result<(), tailpin_mm::MapError> {
        let child = self.first().fork()?;
        self.spaces.push(child);
        Ok(())
    }

    pub fn pin(&mut self, addr: VirtAddr, len: u64) -> Result<(), tailpin_mm::PinError> {
        let pins = self.first().pin_pages(addr, len, Access::Write)?;
        self.pins.push(pins);
        Ok(())
    }

    /// Everything with contents is present afterwards.
    pub fn look(&self) -> Seen {
        let mut pages = Vec::new();
        for (number, space) in self.spaces.iter().enumerate() {
            for (page, start) in
                (0..3 * HUGE / PAGE).flat_map(|page| [START, OBJECT, PRIVATE].map(|start| (page, start)))
            {
                let (addr, mut bytes) = (start.offset(page * PAGE), vec![0; PAGE as usize]);
                match space.read(addr, &mut bytes) {
                    Ok(()) => pages.push((number, addr, bytes)),
                    Err(FaultError::Unmapped { .. } | FaultError::BeyondEnd { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        let pinned = |pins: &Pins<'_, _>| {
            let mut bytes = vec![0; pins.len() as usize];
            pins.read(0, &mut bytes);
            bytes
        };
        let sizes = self.spaces.iter().map(|space| (space.usage().mapped_bytes, space.usage().present_bytes));
        Seen { pages, pinned: self.pins.iter().map(pinned).collect(), sizes: sizes.collect() }
    }

    /// Asserts that each frame in use has an owner.
    pub fn settle(&self) {
        let mut accounts = Accounts::default();
        self.spaces.iter().for_each(|space| accounts.space(self.env, space));
        self.objects.iter().for_each(|object| accounts.object(object));
        let hugetlb = self.objects.iter().any(|object| object.unit() > tailpin::Order::PAGE);
        self.pins.iter().for_each(|pins| accounts.pins(pins, |_| hugetlb));
        accounts.settle(self.zone);
    }
}

/// Runs `operation` on what `set` made, with each of its allocations panicking: a caller's code
/// that does so loses nothing.
fn each_allocation_panics<F: Debug>(
    config: MmConfig,
    set: &impl for<'z> Fn(&mut Stage<'_, 'z>),
    operation: &impl for<'z> Fn(&mut Stage<'_, 'z>) -> Result<(), F>,
) {
    let mut reached = true;
    let mut number = 0;
    while reached {
        machine(48 * MIB, config, |mm, zone, env| {
            let mut stage = Stage::new(mm, zone, env);
            set(&mut stage);
            stage.look();
            stage.settle();
            env.panics.store(true, Ordering::Relaxed);
            env.fail(Fail::Only(number));
            let done = catch_unwind(AssertUnwindSafe(|| operation(&mut stage).is_ok()));
            env.fail(Fail::Never);
            env.panics.store(false, Ordering::Relaxed);
            reached = done.is_err();
            if reached {
                stage.settle();
                operation(&mut stage).expect("it can be done now");
            }
            stage.settle();
            stage.look();
        });
        number += 1;
        assert!(number < 5000, "it asks for ever more");
    }
}

/// Runs `operation` on what `set` made, with each of its allocations failing, alone and with all
/// that follow.
pub fn each_allocation<F: Debug>(
    config: MmConfig,
    set: impl for<'z> Fn(&mut Stage<'_, 'z>),
    operation: impl for<'z> Fn(&mut Stage<'_, 'z>) -> Result<(), F>,
    is_shortage: impl Fn(&F) -> bool,
) {
    each_allocation_panics(config, &set, &operation);
    for plan in [Fail::After, Fail::Only] {
        let mut failures = 0;
        let mut reached = true;
        let mut number = 0;
        while reached {
            machine(48 * MIB, config, |mm, zone, env| {
                let mut stage = Stage::new(mm, zone, env);
                set(&mut stage);
                let before = stage.look();
                stage.settle();
                let failed = env.failed();
                env.fail(plan(number));
                let result = operation(&mut stage);
                env.fail(Fail::Never);
                reached = env.failed() > failed;
                match result {
                    // Without a failure, or by doing with less.
                    Ok(()) => {}
                    Err(error) => {
                        assert!(reached && is_shortage(&error), "{error:?} with {:?}", plan(number));
                        assert!(stage.look() == before, "something has changed after {:?}", plan(number));
                        stage.settle();
                        failures += 1;
                        // And with memory at hand it can be done.
                        operation(&mut stage).expect("there is memory again");
                    }
                }
                stage.settle();
            });
            number += 1;
            assert!(number < 5000, "it asks for ever more");
        }
        assert!(failures > 0 || matches!(plan(0), Fail::Only(_)), "nothing ever failed");
    }
}
