//! The kernel's own tests of copy-on-write and pins (`cow.c`, `gup_test.c`, `gup_longterm.c`,
//! `migration.c`): S16 to S24 and S32. docs/scenarios.md says what each stands for and which do not
//! apply.

use crate::common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use tailpin::Order;
use tailpin_mm::{
    Access, Advice, CollapseLimits, Cow, HugePages, Map, MmConfig, Object, ObjectConfig, PinError, Pins,
    Prot, StdEnv, VirtAddr,
};

type Held<'z> = Pins<'z, StdEnv>;

/// What memory is made of, as the cases of `cow.c`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// 4 KiB pages.
    Small,
    /// One mapping of 2 MiB.
    Huge,
    /// A block of 2 MiB mapped by 512 leaves.
    HugeByPages,
    /// One page left of a huge page.
    SinglePage,
    /// A huge page of which a part is mapped elsewhere.
    PartlyMoved,
    /// A huge page of which a part a child has.
    PartlyShared,
    /// An object's pages, mapped private: the first write makes a copy.
    PrivateFile,
    /// The same with huge pages in the file.
    PrivateHugeFile,
    /// Hugetlb, mapped private.
    Hugetlb,
}

const SHAPES: [Shape; 9] = [
    Shape::Small,
    Shape::Huge,
    Shape::HugeByPages,
    Shape::SinglePage,
    Shape::PartlyMoved,
    Shape::PartlyShared,
    Shape::PrivateFile,
    Shape::PrivateHugeFile,
    Shape::Hugetlb,
];

/// A space with memory of some shape, of which a page begins at `addr`; the rest is kept for the
/// test's duration.
struct Scene<'z> {
    space: Sp<'z>,
    addr: VirtAddr,
    /// How much at `addr` may be protected or unmapped as one.
    unit: u64,
    _others: Vec<Sp<'z>>,
}

impl<'z> Scene<'z> {
    fn new(mm: &Mem<'z>, shape: Shape) -> Self {
        let space = mm.space().unwrap();
        let base = VirtAddr::new(0x4000_0000);
        let anonymous = |huge| Map::anonymous(HUGE, Prot::READ_WRITE).huge(huge).at(base);
        let private = |config| {
            let object = mm.object(config).unwrap();
            Map::private(&object, 0, HUGE, Prot::READ_WRITE).at(base)
        };
        let map = match shape {
            Shape::Small => anonymous(HugePages::Never),
            Shape::PrivateFile => private(ObjectConfig::new(HUGE)),
            Shape::PrivateHugeFile => private(ObjectConfig::new(HUGE).huge()),
            Shape::Hugetlb => private(ObjectConfig::new(HUGE).hugetlb(Order::HUGE)),
            _ => anonymous(HugePages::Always),
        };
        space.map(map).unwrap();
        let mut others = Vec::new();
        let mut addr = base;
        match shape {
            // Read first: its pages are the file's until they are written to.
            Shape::PrivateFile | Shape::PrivateHugeFile | Shape::Hugetlb => drop(byte(&space, base)),
            _ => space.write(base, &pattern(1, HUGE as usize)).unwrap(),
        }
        match shape {
            Shape::HugeByPages => space.split_mapping(base).unwrap(),
            Shape::SinglePage => {
                addr = base.offset(511 * PAGE);
                space.unmap(base, 511 * PAGE).unwrap();
            }
            Shape::PartlyMoved => {
                addr = VirtAddr::new(0x8000_0000);
                space.remap(base.offset(HUGE / 2), HUGE / 2, Some(addr)).unwrap();
            }
            Shape::PartlyShared => {
                let child = space.fork().unwrap();
                child.unmap(base.offset(PAGE), HUGE - PAGE).unwrap();
                others.push(child);
            }
            _ => {}
        }
        let unit = if shape == Shape::Hugetlb { HUGE } else { PAGE };
        Self { space, addr, unit, _others: others }
    }

    fn put(&self, text: &[u8]) {
        self.space.write(self.addr, text).unwrap();
    }

    fn pin(&self, access: Access) -> Held<'z> {
        self.space.pin_pages(self.addr, PAGE, access).unwrap()
    }

    fn protect(&self, prot: Prot) {
        self.space.protect(self.addr, self.unit, prot).unwrap();
    }
}

fn pinned(pins: &Held<'_>) -> [u8; 6] {
    let mut found = [0; 6];
    pins.read(0, &mut found);
    found
}

fn seen(space: &Sp<'_>, addr: VirtAddr) -> [u8; 6] {
    bytes(space, addr, 6).try_into().unwrap()
}

fn in_each_shape(test: impl for<'z> Fn(&Mem<'z>, Scene<'z>)) {
    for cow in [Cow::Page, Cow::Whole] {
        for shape in SHAPES {
            println!("{shape:?}, {cow:?}");
            machine(32 * MIB, MmConfig { cow, ..MmConfig::default() }, |mm, _, _| {
                let scene = Scene::new(mm, shape);
                scene.put(b"before");
                test(mm, scene);
            });
        }
    }
}

#[test]
fn s16_a_child_does_not_see_what_its_parent_writes_later() {
    for round_trip in [false, true] {
        in_each_shape(|_, scene| {
            let child = scene.space.fork().unwrap();
            if round_trip {
                scene.protect(Prot::READ);
                scene.protect(Prot::READ_WRITE);
            }
            scene.put(b"after!");
            assert_eq!(&seen(&child, scene.addr), b"before");
            assert_eq!(&seen(&scene.space, scene.addr), b"after!");
        });
    }
}

#[test]
fn s17_what_a_child_has_pinned_stays_when_it_unmaps_and_the_parent_writes() {
    in_each_shape(|_, scene| {
        let child = scene.space.fork().unwrap();
        let pins = child.pin_pages(scene.addr, PAGE, Access::Read).unwrap();
        child.unmap(scene.addr, scene.unit).unwrap();
        scene.put(b"after!");
        assert_eq!(&pinned(&pins), b"before");
        drop(child);
        scene.put(b"twice!");
        assert_eq!(&pinned(&pins), b"before");
    });
    // The other way round: the parent pins, unmaps, and the child writes.
    in_each_shape(|_, scene| {
        let child = scene.space.fork().unwrap();
        let pins = scene.pin(Access::Read);
        scene.space.unmap(scene.addr, scene.unit).unwrap();
        child.write(scene.addr, b"after!").unwrap();
        assert_eq!(&pinned(&pins), b"before");
        let addr = scene.addr;
        drop(scene);
        child.write(addr, b"twice!").unwrap();
        assert_eq!(&pinned(&pins), b"before");
    });
}

#[test]
fn s18_what_the_parent_has_pinned_before_a_fork_sees_what_it_writes_after() {
    for access in [Access::Read, Access::Write] {
        in_each_shape(|_, scene| {
            let pins = scene.pin(access);
            let child = scene.space.fork().unwrap();
            scene.put(b"after!");
            assert_eq!(&pinned(&pins), b"after!");
            assert_eq!(&seen(&child, scene.addr), b"before");
            drop(child);
            scene.put(b"twice!");
            assert_eq!(&pinned(&pins), b"twice!");
        });
    }
}

#[test]
fn s19_a_long_term_pin_and_its_mapping_stay_one_page() {
    // Through a fork.
    in_each_shape(|_, scene| {
        let pins = scene.space.pin_long_term(scene.addr, PAGE, Access::Write).unwrap();
        let child = scene.space.fork().unwrap();
        scene.put(b"after!");
        assert_eq!(&pinned(&pins), b"after!");
        pins.write(0, b"device");
        assert_eq!(&seen(&scene.space, scene.addr), b"device");
        assert_eq!(&seen(&child, scene.addr), b"before");
    });
    // Pinned after a fork, and where the mapping is read-only for a while.
    in_each_shape(|_, scene| {
        let child = scene.space.fork().unwrap();
        let pins = scene.space.pin_long_term(scene.addr, PAGE, Access::Write).unwrap();
        for prot in [Prot::READ, Prot::NONE, Prot::READ_WRITE] {
            scene.protect(prot);
            pins.write(0, b"device");
        }
        assert_eq!(&seen(&scene.space, scene.addr), b"device");
        scene.put(b"after!");
        assert_eq!(&pinned(&pins), b"after!");
        assert_eq!(&seen(&child, scene.addr), b"before");
    });
}

#[test]
fn s20_a_pin_for_reading_sees_what_is_written_through_the_mapping() {
    // Of a page that is shared, that was shared, and that is the mapping's alone; read-only at the
    // time of the pin.
    for sharing in ["shared", "was shared", "exclusive"] {
        // By the slow path, which has to fault first, and by the fast one.
        for fast in [false, true] {
            in_each_shape(|_, scene| {
                let child = (sharing != "exclusive").then(|| scene.space.fork().unwrap());
                let child = child.filter(|_| sharing == "shared");
                scene.protect(Prot::READ);
                if fast {
                    scene.pin(Access::Read);
                    assert!(scene.space.mapping(scene.addr).unwrap().exclusive);
                }
                let pins = scene.pin(Access::Read);
                assert_eq!(&pinned(&pins), b"before");
                scene.protect(Prot::READ_WRITE);
                scene.put(b"after!");
                assert_eq!(&pinned(&pins), b"after!", "{sharing}");
                if let Some(child) = child {
                    assert_eq!(&seen(&child, scene.addr), b"before");
                }
            });
        }
    }
}

#[test]
fn s21_collapse_around_a_fork_keeps_both_apart() {
    // When the memory is collapsed, or, if it is after the fork, which part the child still shares
    // then.
    for case in ["before the fork", "fully shared", "lower half shared", "upper half shared"] {
        machine(32 * MIB, MmConfig::default(), |mm, _, _| {
            let parent = mm.space().unwrap();
            let addr = parent.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
            let data = pattern(1, HUGE as usize);
            parent.write(addr, &data).unwrap();
            parent.split_page(addr, Order::PAGE).unwrap();
            if case == "before the fork" {
                common::collapse(&parent, addr, CollapseLimits::NONE).unwrap();
                assert!(is_huge(&parent, addr));
            }
            let child = parent.fork().unwrap();
            match case {
                "lower half shared" => child.unmap(addr.offset(HUGE / 2), HUGE / 2).unwrap(),
                "upper half shared" => child.unmap(addr, HUGE / 2).unwrap(),
                _ => {}
            }
            if case != "before the fork" {
                common::collapse(&parent, addr, CollapseLimits::NONE).unwrap();
                assert!(is_huge(&parent, addr));
            }
            let shared = match case {
                "lower half shared" => 0..HUGE / 2,
                "upper half shared" => HUGE / 2..HUGE,
                _ => 0..HUGE,
            };
            parent.write(addr, &vec![1; HUGE as usize]).unwrap();
            let (at, len) = (addr.offset(shared.start), shared.end - shared.start);
            assert_eq!(bytes(&child, at, len), data[shared.start as usize..shared.end as usize], "{case}");
            child.write(at, &vec![2; len as usize]).unwrap();
            assert_eq!(bytes(&parent, addr, HUGE), vec![1; HUGE as usize], "{case}");
        });
    }
}

#[test]
fn s22_as_many_pages_are_pinned_as_were_asked_for_and_counts_go_back() {
    machine(48 * MIB, MmConfig::default(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let hugetlb = mm.object(ObjectConfig::new(2 * HUGE).hugetlb(Order::HUGE)).unwrap();
        let map = |map| space.map(map).unwrap();
        let places = [
            map(Map::anonymous(2 * HUGE, Prot::READ_WRITE)),
            map(Map::anonymous(2 * HUGE, Prot::READ_WRITE).huge(HugePages::Never)),
            map(Map::shared(&hugetlb, 0, 2 * HUGE, Prot::READ_WRITE)),
        ];
        for addr in places {
            for access in [Access::Read, Access::Write] {
                for pages in [1, 2, 511, 512, 700, 1024] {
                    let pin = || space.pin_pages(addr, pages * PAGE, access).unwrap();
                    // The slow path the first time, the fast one the second.
                    space.advise(addr, 2 * HUGE, Advice::DontNeed).unwrap();
                    drop(pin());
                    let count = |frame| {
                        let (head, _) = zone.head_of(frame).unwrap();
                        [frame, head].map(|frame| zone.state(frame).map(|state| (state.refs, state.pins)))
                    };
                    let frame_at = |page| frame(&space, addr.offset(page * PAGE));
                    let before: Vec<_> = (0..pages).map(|page| count(frame_at(page))).collect();
                    let pins = pin();
                    assert_eq!(pins.frames().count() as u64, pages);
                    // Each page or its block shows that it may be pinned.
                    for (frame, before) in pins.frames().zip(&before) {
                        assert_ne!(count(frame), *before, "{frame} does not look pinned");
                    }
                    drop(pins);
                    let after: Vec<_> = (0..pages).map(|page| count(frame_at(page))).collect();
                    assert_eq!(after, before);
                }
            }
        }
    });
}

#[test]
fn s23_the_pages_are_those_of_the_addresses() {
    in_each_shape(|_, scene| {
        let end = if scene.addr.page() % 512 == 511 { 1 } else { 200 };
        for first in [0, end / 2] {
            let addr = scene.addr.offset(first * PAGE);
            let pins = scene.space.pin_pages(addr, (end - first) * PAGE, Access::Read).unwrap();
            for (i, found) in pins.frames().enumerate() {
                assert_eq!(found, frame(&scene.space, addr.offset(i as u64 * PAGE)));
            }
        }
    });
}

#[test]
fn s24_long_term_pins_work_but_for_writing_to_what_notices_every_write() {
    machine(48 * MIB, MmConfig::default(), |mm, _, _| {
        let len = 2 * HUGE;
        // memfd, tmpfs with huge pages, a local file system, hugetlb.
        let kinds: [(Object<'_, StdEnv>, bool); 4] = [
            (mm.object(ObjectConfig::new(len)).unwrap(), false),
            (mm.object(ObjectConfig::new(len).huge()).unwrap(), false),
            (mm.object(ObjectConfig::new(len).tracks_writes()).unwrap(), true),
            (mm.object(ObjectConfig::new(len).hugetlb(Order::HUGE)).unwrap(), false),
        ];
        for (object, tracks_writes) in &kinds {
            for shared in [true, false] {
                for access in [Access::Read, Access::Write] {
                    let space = mm.space().unwrap();
                    let map = if shared { Map::shared } else { Map::private };
                    let addr = space.map(map(object, 0, len, Prot::READ_WRITE)).unwrap();
                    // Slow, then fast.
                    for _ in 0..2 {
                        let pins = space.pin_long_term(addr.offset(PAGE), PAGE, access);
                        if *tracks_writes && shared && access == Access::Write {
                            let refused = PinError::LongTerm { addr: addr.offset(PAGE) };
                            assert_eq!(pins.unwrap_err(), refused);
                            space.pin_pages(addr.offset(PAGE), PAGE, access).unwrap();
                        } else {
                            let pins = pins.unwrap();
                            space.write(addr.offset(PAGE), b"seen??").unwrap();
                            assert_eq!(&pinned(&pins), b"seen??");
                        }
                    }
                }
            }
        }
    });
}

/// Threads read while pages move to other frames for seconds. Nothing moves between nodes here;
/// what moves pages is collapse by copy, of anonymous memory and of an object's, and it takes them
/// from anywhere to anywhere.
#[test]
fn s32_readers_notice_nothing_while_pages_move() {
    machine(64 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let object = mm.object(ObjectConfig::new(HUGE)).unwrap();
        let places = [
            space.map(Map::anonymous(HUGE, Prot::READ_WRITE).huge(HugePages::Never)).unwrap(),
            space.map(Map::shared(&object, 0, HUGE, Prot::READ_WRITE)).unwrap(),
        ];
        let word = |page: u64| (page * 0x9e37_79b9 + 1) as u32;
        for addr in places {
            for page in (0..512).rev() {
                space.write(addr.offset(page * PAGE + 8), &word(page).to_le_bytes()).unwrap();
            }
        }
        let (stop, read, moved) =
            (AtomicBool::new(false), AtomicU64::new(0), [const { AtomicU64::new(0) }; 2]);
        std::thread::scope(|scope| {
            for thread in 0..3u64 {
                let (space, stop, read) = (&space, &stop, &read);
                scope.spawn(move || {
                    let mut page = thread * 100;
                    while !stop.load(Ordering::Relaxed) {
                        page = (page + 37) % 511; // the last one comes and goes
                        for addr in places {
                            let addr = addr.offset(page * PAGE + 8);
                            assert_eq!(bytes(space, addr, 4), word(page).to_le_bytes());
                            // The hardware's way: no fault, or the right word.
                            assert_eq!(space.load_u32(addr).unwrap_or(word(page)), word(page));
                        }
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(3) {
                for (addr, moved) in places.into_iter().zip(&moved) {
                    let before = space.mapping(addr).map(|mapping| mapping.frame);
                    // The last page is moved by copy-on-write or goes: so the frames are not in
                    // order, and all move.
                    space.split_page(addr, Order::PAGE).ok();
                    if addr == places[0] {
                        let child = space.fork().unwrap();
                        space.write(addr.offset(511 * PAGE), &[1]).unwrap();
                        drop(child);
                    } else {
                        object.punch_hole(HUGE - PAGE..HUGE);
                    }
                    let done = common::collapse(&space, addr, CollapseLimits::NONE);
                    byte(&space, addr);
                    if done.is_ok() && space.mapping(addr).map(|mapping| mapping.frame) != before {
                        moved.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let moved = moved.map(AtomicU64::into_inner);
        println!("moved {moved:?} times under {} reads", read.into_inner());
        assert!(moved[0] > 0 && moved[1] > 0, "nothing moved: {moved:?}");
        for addr in places {
            for page in 0..511 {
                assert_eq!(bytes(&space, addr.offset(page * PAGE + 8), 4), word(page).to_le_bytes());
            }
        }
    });
}
