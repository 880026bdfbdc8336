//! Several threads do everything at once to several spaces and objects, and one allocation in a few
//! fails.
//!
//! Every write to a page writes the page's stamp: which memory it is, and which page of it. So what
//! a read, a futex word or a pin finds is the right stamp or zeroes, also while other threads fork,
//! move, split, collapse, truncate or exit. At the end the accounts are exact.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tailpin::Order;
use tailpin_mm::{
    Access, Advice, CollapseLimits, Map, Mm, MmConfig, Object, ObjectConfig, PageIdentity, Prot, Space,
    VirtAddr,
};

use super::flaky::{Fail, Flaky, machine};
use crate::common::accounts::Accounts;
use crate::common::{HUGE, MIB, PAGE};

const THREADS: u64 = 4;
const RUN: Duration = Duration::from_secs(4);
const SPACES: usize = 3;
const PAGES: u64 = 2 * 512;

/// Stretches of addresses, the same in each space.
const ANONYMOUS: VirtAddr = VirtAddr::new(0x4000_0000);
const SHARED: VirtAddr = VirtAddr::new(0x8000_0000);
const PRIVATE: VirtAddr = VirtAddr::new(0xc000_0000 + PAGE);
const HUGETLB: VirtAddr = VirtAddr::new(0x1_0000_0000);
const ELSEWHERE: VirtAddr = VirtAddr::new(0x2_0000_0000);

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// What is written to page `page` of a stretch. Of an object it is the same however it is mapped.
fn stamp(stretch: VirtAddr, page: u64) -> u64 {
    let memory = if stretch == PRIVATE { SHARED } else { stretch };
    memory.get() << 16 | (page + 1)
}

type Sp<'z> = Space<'z, Flaky<'z>>;

struct World<'a, 'z> {
    mm: &'a Mm<'z, Flaky<'z>>,
    spaces: [Mutex<Arc<Sp<'z>>>; SPACES],
    objects: [Object<'z, Flaky<'z>>; 2],
    /// Held by a thread that has moved some of a space's anonymous memory away from its place.
    away: Mutex<()>,
    stop: AtomicBool,
    /// How often each operation succeeded.
    done: [AtomicU64; OPERATIONS.len()],
}

const OPERATIONS: [&str; 19] = [
    "read",
    "write",
    "word",
    "identify",
    "pin for reading",
    "pin for writing",
    "fork",
    "exit",
    "unmap and map",
    "move there and back",
    "protect and back",
    "do not need",
    "split mapping",
    "split page",
    "collapse",
    "truncate",
    "punch hole",
    "fault",
    "pin a batch",
];

fn map_all<'z>(space: &Sp<'z>, objects: &[Object<'z, Flaky<'z>>; 2]) {
    let len = PAGES * PAGE;
    let maps = [
        Map::anonymous(len, Prot::READ_WRITE).at(ANONYMOUS),
        Map::shared(&objects[0], 0, len, Prot::READ_WRITE).at(SHARED),
        Map::private(&objects[0], 0, len, Prot::READ_WRITE).at(PRIVATE),
        Map::private(&objects[1], 0, len, Prot::READ_WRITE).at(HUGETLB),
    ];
    for map in maps {
        space.map(map).unwrap();
    }
}

impl<'z> World<'_, 'z> {
    fn space(&self, random: &mut Random) -> Arc<Sp<'z>> {
        self.spaces[random.below(SPACES as u64) as usize].lock().unwrap().clone()
    }

    fn work(&self, seed: u64) {
        let mut random = Random(seed * 7919 + 3);
        while !self.stop.load(Ordering::Relaxed) {
            let number = random.below(OPERATIONS.len() as u64) as usize;
            if self.operate(number, &mut random) {
                self.done[number].fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Does one operation; false if it failed, which is no fault of its own.
    fn operate(&self, number: usize, random: &mut Random) -> bool {
        let space = self.space(random);
        let stretch = [ANONYMOUS, SHARED, PRIVATE, HUGETLB][random.below(4) as usize];
        let page = if random.below(2) == 0 { random.below(PAGES) } else { random.below(8) };
        let (addr, right) = (stretch.offset(page * PAGE), stamp(stretch, page));
        let check = |found: u64, how: &str| {
            assert!(found == 0 || found == right, "page {page} at {stretch} has {found:#x}, {how}");
        };
        let (some, len) = (random.below(40) + 1, PAGES * PAGE);
        match OPERATIONS[number] {
            "read" => {
                let mut found = [0; 8];
                let done = space.read(addr, &mut found).is_ok();
                check(u64::from_le_bytes(found), "read");
                done
            }
            "write" => space.write(addr, &right.to_le_bytes()).is_ok(),
            "word" => {
                let low = right as u32;
                space.fault(addr, Access::Write).is_ok()
                    && space.fetch_update_u32(addr, |found| (found == low).then_some(low)).is_ok_and(
                        |found| {
                            let (Ok(found) | Err(found)) = found;
                            assert!(found == 0 || found == low, "the word of page {page} is {found:#x}");
                            true
                        },
                    )
            }
            "identify" => match space.identify(addr, Access::Read) {
                Ok(PageIdentity::Object { object, index, .. }) => {
                    let number = usize::from(stretch == HUGETLB);
                    assert_eq!((object, index), (self.objects[number].id(), page));
                    true
                }
                done => done.is_ok(),
            },
            "pin for reading" | "pin for writing" => {
                let access =
                    if OPERATIONS[number] == "pin for reading" { Access::Read } else { Access::Write };
                let Ok(pins) = space.pin_pages(addr, 8, access) else { return false };
                let mut found = [0; 8];
                pins.read(0, &mut found);
                check(u64::from_le_bytes(found), "through a pin");
                if access == Access::Write {
                    pins.write(0, &right.to_le_bytes());
                    pins.read(0, &mut found);
                    check(u64::from_le_bytes(found), "through a pin, just written");
                }
                true
            }
            "pin a batch" => {
                let at = stretch.offset(page / 512 * HUGE);
                let Ok(pins) = space.pin_pages(at, HUGE, Access::Read) else { return false };
                let mut found = [0; 8];
                pins.read(page % 512 * PAGE, &mut found);
                check(u64::from_le_bytes(found), "in a batch");
                true
            }
            "fork" => {
                let Ok(child) = space.fork() else { return false };
                // The space that was there exits, as soon as no thread is in an operation on it.
                let place = &self.spaces[random.below(SPACES as u64) as usize];
                let old = std::mem::replace(&mut *place.lock().unwrap(), Arc::new(child));
                drop(old);
                true
            }
            "exit" => {
                let Ok(new) = self.mm.space() else { return false };
                map_all(&new, &self.objects);
                let place = &self.spaces[random.below(SPACES as u64) as usize];
                let old = std::mem::replace(&mut *place.lock().unwrap(), Arc::new(new));
                drop(old);
                true
            }
            "unmap and map" => {
                let addr = ANONYMOUS.offset(page * PAGE);
                let some = some.min(PAGES - page);
                let _away = self.away.lock().unwrap();
                // A child made while it was elsewhere has it there.
                if space.usage().mapped_bytes != 4 * len || space.unmap(addr, some * PAGE).is_err() {
                    return false;
                }
                space.map(Map::anonymous(some * PAGE, Prot::READ_WRITE).at(addr)).is_ok()
            }
            "move there and back" => {
                let there = ELSEWHERE.offset(page % 2 * PAGE + random.below(4) * 4 * HUGE);
                let _away = self.away.lock().unwrap();
                if space.remap(ANONYMOUS, len, Some(there)).is_err() {
                    return false;
                }
                while space.remap(there, len, Some(ANONYMOUS)).is_err() {}
                true
            }
            "protect and back" => {
                let len = if stretch == HUGETLB { HUGE } else { some.min(PAGES - page) * PAGE };
                let addr = if stretch == HUGETLB { addr.align_down(HUGE) } else { addr };
                if space.protect(addr, len, Prot::READ).is_err() {
                    return false;
                }
                while space
                    .protect(addr, len, Prot::READ_WRITE)
                    .is_err_and(|error| matches!(error, tailpin_mm::MapError::OutOfMemory { .. }))
                {
                }
                true
            }
            "do not need" => {
                let some = some.min(PAGES - page);
                stretch != HUGETLB && space.advise(addr, some * PAGE, Advice::DontNeed).is_ok()
            }
            "split mapping" => space.split_mapping(addr).is_ok(),
            "split page" => space.split_page(addr, Order::new(random.below(9) as u8).unwrap()).is_ok(),
            "collapse" => space.collapse(addr, CollapseLimits::NONE).is_ok(),
            "truncate" => {
                let short = random.below(PAGES * PAGE);
                self.objects[0].truncate(short).unwrap();
                self.objects[1].truncate(short / HUGE * HUGE).unwrap();
                self.objects.iter().for_each(|object| object.truncate(PAGES * PAGE).unwrap());
                true
            }
            "punch hole" => {
                let object = &self.objects[random.below(2) as usize];
                object.punch_hole(page * PAGE..(page + some) * PAGE);
                true
            }
            "fault" => space.fault(addr, Access::Write).is_ok(),
            other => unreachable!("{other}"),
        }
    }
}

#[test]
fn nothing_is_lost_or_mixed_up_when_threads_meet_failures() {
    machine(128 * MIB, MmConfig::default(), |mm, zone, env| {
        let config = || ObjectConfig::new(PAGES * PAGE);
        let objects =
            [config().huge(), config().hugetlb(Order::HUGE)].map(|config| mm.object(config).unwrap());
        let space = |_| {
            let space = mm.space().unwrap();
            map_all(&space, &objects);
            Mutex::new(Arc::new(space))
        };
        let spaces = std::array::from_fn(space);
        let done = std::array::from_fn(|_| AtomicU64::new(0));
        let world = World {
            mm,
            spaces,
            objects: objects.clone(),
            away: Mutex::new(()),
            stop: AtomicBool::new(false),
            done,
        };
        std::thread::scope(|scope| {
            let world = &world;
            (0..THREADS).for_each(|seed| drop(scope.spawn(move || world.work(seed))));
            let begun = Instant::now();
            let mut one_in = [10, 3, 100].into_iter().cycle();
            while begun.elapsed() < RUN {
                env.fail(one_in.next().map_or(Fail::Never, Fail::OneIn));
                std::thread::sleep(Duration::from_millis(20));
            }
            env.fail(Fail::Never);
            world.stop.store(true, Ordering::Relaxed);
        });
        assert!(env.failed() > 0, "no allocation failed");
        let counts: Vec<_> = OPERATIONS
            .iter()
            .zip(&world.done)
            .map(|(name, done)| (*name, done.load(Ordering::Relaxed)))
            .collect();
        println!("{} of {} allocations failed; {counts:?}", env.failed(), env.asked());
        let never: Vec<_> = counts.iter().filter(|(_, done)| *done == 0).collect();
        assert!(never.is_empty(), "these never succeeded: {never:?}");
        let mut accounts = Accounts::default();
        world.spaces.iter().for_each(|space| accounts.space(env, &space.lock().unwrap()));
        objects.iter().for_each(|object| accounts.object(object));
        accounts.settle(zone);
    });
}
