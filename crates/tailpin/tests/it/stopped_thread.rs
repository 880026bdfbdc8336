//! A thread is stopped before every access it makes to shared memory, and the others go on.
//!
//! The zone is made of words that count the accesses of one chosen thread and stop it before the
//! k-th, for every k until its operation ends before it gets there. While it stands still, another
//! one does a single thing to the same block, alone, and then two pin, clone, drop, split,
//! allocate, free and drain. All must be done by a deadline. Then the stopped thread is let go, and
//! the zone is audited.

use crate::common::stop;

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use stop::{Stop, Word, stopped_at, words};

use tailpin::{
    Block, FrameRange, GetError, OneWord, Order, PageRef, Pfn, Pieces, Zone, ZoneConfig, ZoneLayout,
};

const FRAMES: u64 = 6 * 512;
/// The others need about a millisecond. Beyond this they are taken to wait for the stopped thread.
const DEADLINE: Duration = Duration::from_secs(30);

type Protocol<'z> = OneWord<'z, Word>;
type TestZone<'z> = Zone<'z, Protocol<'z>>;
type TestBlock<'z> = Block<'z, Protocol<'z>>;

/// Who has what before the chosen thread begins.
#[derive(Default)]
struct Scene<'z> {
    /// The chosen thread's.
    block: Option<TestBlock<'z>>,
    pieces: Option<Pieces<'z, Protocol<'z>>>,
    pin: Option<PageRef<'z, Protocol<'z>>>,
    /// The others': references to the same block, and pins in it.
    blocks: Vec<TestBlock<'z>>,
    pins: Vec<PageRef<'z, Protocol<'z>>>,
}

/// What meets the stopped thread first, with no other thread to help.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Pin,
    Clone,
    Drop,
    Split,
    SplitAround,
    HeadOf,
}

const DEEDS: [Deed; 6] = [Deed::Pin, Deed::Clone, Deed::Drop, Deed::Split, Deed::SplitAround, Deed::HeadOf];

impl Deed {
    fn do_to(self, zone: &TestZone<'_>, block: TestBlock<'_>) {
        match self {
            Self::Pin => drop(block.pin(block.order().frames() - 1).expect("a page in use")),
            Self::Clone => drop(block.clone()),
            Self::Drop => drop(block),
            Self::Split => drop(block.split().expect("a splittable block")),
            Self::SplitAround => drop(block.split_around(3, Order::PAGE).expect("a splittable block")),
            Self::HeadOf => assert!(zone.head_of(block.pfn().offset(5)).is_some()),
        }
    }
}

/// An operation to be stopped in.
struct Stopped {
    setup: for<'z> fn(&'z TestZone<'z>) -> Scene<'z>,
    act: for<'z> fn(&'z TestZone<'z>, Scene<'z>),
    /// A merge may make pages in use look as if they were not, as is documented.
    merges: bool,
    /// What meets it first; of no account where there is no block to share.
    deeds: &'static [Deed],
}

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

impl Stopped {
    /// Stops before each access, once for each deed. Returns how many accesses there were to stop
    /// before.
    fn everywhere(&self) -> u64 {
        let stops = |deed: &Deed| (0..).take_while(|k| self.at(*k, *deed)).count() as u64;
        self.deeds.iter().map(stops).max().unwrap_or(0)
    }

    /// Stops before access `k`. False if the operation ends before.
    fn at(&self, k: u64, deed: Deed) -> bool {
        let ranges = [FrameRange::new(Pfn::new(0), FRAMES)];
        let layout = ZoneLayout::new(&ranges, 1).unwrap();
        let (pages, allocator) =
            (words(layout.page_words::<Protocol<'_>>()), words(layout.allocator_words()));
        // One cache for all threads: the stopped one may be inside.
        let zone: TestZone<'_> =
            Zone::new(layout, ZoneConfig::default().cpu(|| 0), &pages, &allocator).unwrap();
        let reached = self.play(&zone, k, deed);
        let audit = zone.audit();
        assert_eq!(
            (audit.violations(), audit.free),
            (0, FRAMES),
            "stopped before access {k}, {deed:?}: {audit}"
        );
        assert_eq!(zone.free_pageblocks(), FRAMES / 512);
        reached
    }

    fn play<'z>(&self, zone: &'z TestZone<'z>, k: u64, deed: Deed) -> bool {
        let mut scene = (self.setup)(zone);
        let (mut blocks, pins) = (std::mem::take(&mut scene.blocks), std::mem::take(&mut scene.pins));
        let stop = Arc::new(Stop::default());
        let (done, all_done) = mpsc::channel();
        let in_time = std::thread::scope(|scope| {
            let (act, at) = (self.act, Arc::clone(&stop));
            scope.spawn(move || {
                stopped_at(&at, k, || act(zone, scene));
            });
            stop.wait();
            let in_time = || all_done.recv_timeout(DEADLINE) != Err(RecvTimeoutError::Timeout);
            if let Some(block) = blocks.pop() {
                let done = done.clone();
                scope.spawn(move || {
                    deed.do_to(zone, block);
                    done.send(()).unwrap();
                });
                if !in_time() {
                    stop.let_go();
                    return false;
                }
            }
            let (merges, second, done_too) = (self.merges, blocks.pop(), done.clone());
            scope.spawn(move || {
                use_pages(zone, second, pins, merges);
                done_too.send(()).unwrap();
            });
            let third = blocks.pop();
            scope.spawn(move || {
                use_blocks(zone, third);
                done.send(()).unwrap();
            });
            let in_time = in_time() && in_time();
            stop.let_go();
            in_time
        });
        assert!(
            in_time,
            "{deed:?} or what came after waited for a thread that was stopped before access {k}"
        );
        stop.is_reached()
    }
}

/// Gets, puts and clones, of pages and of a block that is dropped at the end.
fn use_pages<'z>(
    zone: &'z TestZone<'z>,
    block: Option<TestBlock<'z>>,
    pins: Vec<PageRef<'z, Protocol<'z>>>,
    merges: bool,
) {
    for frame in (0..FRAMES).step_by(37).chain(0..20) {
        if let Ok(pin) = zone.try_pin(Pfn::new(frame)) {
            drop(pin.clone());
        }
    }
    if let Some(block) = block {
        for index in [0, 1, 7, block.order().frames() - 1] {
            match block.pin(index) {
                Ok(pin) => drop(pin.clone()),
                Err(GetError::NotInUse) if merges => {}
                Err(error) => panic!("page {index} of a block in use: {error}"),
            }
        }
        drop(block.clone());
    }
    for pin in pins {
        drop(pin.clone());
    }
}

/// Splits of the same block, life and death of others, and a drain.
fn use_blocks<'z>(zone: &'z TestZone<'z>, block: Option<TestBlock<'z>>) {
    let whole = zone.alloc(Order::HUGE).expect("there are free pageblocks");
    if let Some(block) = block {
        let copy = block.clone();
        let half = order(block.order().get() / 2);
        drop(block.split_around(3, half).expect("a splittable block"));
        drop(copy.split().expect("a splittable block"));
    }
    for _ in 0..3 {
        let pages: Vec<_> = (0..60).map(|_| zone.alloc(Order::PAGE).expect("there are free pages")).collect();
        zone.drain();
        drop(pages);
    }
    drop(zone.alloc(order(3)));
    drop(whole);
    zone.drain();
}

/// A block of `size` with references for all, and pins for the chosen and the second thread.
fn shared<'z>(zone: &'z TestZone<'z>, size: u8, pinned: &[u64]) -> Scene<'z> {
    let block = zone.alloc(order(size)).unwrap();
    Scene {
        blocks: vec![block.clone(); 3],
        pins: pinned.iter().map(|page| block.pin(*page).unwrap()).collect(),
        pin: Some(block.pin(2).unwrap()),
        block: Some(block),
        ..Scene::default()
    }
}

#[test]
fn in_a_split_to_pages() {
    let split = Stopped {
        setup: |zone| shared(zone, 4, &[1, 5, 9]),
        act: |_, scene| drop(scene.block.unwrap().split().expect("a splittable block")),
        merges: false,
        deeds: &DEEDS,
    };
    assert!(split.everywhere() > 32);
    let huge = Stopped { setup: |zone| shared(zone, 9, &[1, 100, 511]), ..split };
    assert!(huge.everywhere() > 1024);
}

#[test]
fn in_a_split_around_one_page() {
    let used = Stopped {
        setup: |zone| shared(zone, 5, &[1, 30]),
        act: |_, scene| drop(scene.block.unwrap().split_around(11, Order::PAGE).expect("a splittable block")),
        merges: false,
        deeds: &DEEDS,
    };
    assert!(used.everywhere() > 64);
    let clean = Stopped {
        setup: |zone| {
            let block = zone.alloc(Order::HUGE).unwrap();
            Scene { blocks: vec![block.clone(); 3], block: Some(block), ..Scene::default() }
        },
        ..used
    };
    assert!(clean.everywhere() > 27);
}

#[test]
fn in_a_merge() {
    let pinned = Stopped {
        setup: |zone| {
            let mut scene = shared(zone, 4, &[1, 9]);
            scene.blocks.clear();
            scene.pieces = Some(scene.block.take().unwrap().split_to(order(1)).unwrap());
            scene
        },
        act: |_, scene| drop(scene.pieces.unwrap().merge().expect("all pieces are its own")),
        merges: true,
        deeds: &DEEDS[..1],
    };
    assert!(pinned.everywhere() > 16);
    let to_rest = Stopped {
        setup: |zone| {
            let pieces = zone.alloc(Order::HUGE).unwrap().split_around(77, Order::PAGE).unwrap();
            Scene { pieces: Some(pieces), ..Scene::default() }
        },
        ..pinned
    };
    assert!(to_rest.everywhere() > 20);
}

#[test]
fn where_the_last_reference_goes() {
    let dropped = Stopped {
        setup: |zone| {
            let mut scene = shared(zone, 4, &[1, 9]);
            scene.blocks.clear();
            scene
        },
        act: |_, scene| drop((scene.block, scene.pin)),
        merges: false,
        deeds: &DEEDS[..1],
    };
    assert!(dropped.everywhere() > 32);
    let large = Stopped {
        setup: |zone| {
            let block = zone.alloc(order(10)).unwrap();
            Scene { pins: vec![block.pin(700).unwrap()], block: Some(block), ..Scene::default() }
        },
        ..dropped
    };
    assert!(large.everywhere() > 1024);
}

#[test]
fn in_a_pin_and_its_end() {
    let pin = Stopped {
        setup: |zone| shared(zone, 4, &[9]),
        act: |zone, scene| {
            let block = scene.block.unwrap();
            let by_number = zone.try_pin(block.pfn().offset(7)).expect("a page in use");
            drop((block.pin(9).expect("a page in use"), by_number, scene.pin, block.clone()));
        },
        merges: false,
        deeds: &DEEDS,
    };
    assert!(pin.everywhere() > 8);
}

#[test]
fn in_a_refill_and_an_allocation() {
    let refill = Stopped {
        setup: |_| Scene::default(),
        act: |zone, _| drop(zone.alloc(Order::PAGE).expect("there are free pages")),
        merges: false,
        deeds: &DEEDS[..1],
    };
    assert!(refill.everywhere() > 20, "the cache is empty, so it is refilled");
    let others = Stopped {
        act: |zone, _| {
            drop([3, 6, 9, 10].map(|size| zone.alloc(order(size)).expect("there is room")));
        },
        ..refill
    };
    assert!(others.everywhere() > 20);
}

#[test]
fn where_it_has_a_cpu_to_itself() {
    let own = Stopped {
        setup: |_| Scene::default(),
        act: |zone, _| {
            let local = zone.local(0);
            for size in [1, 3, 8, 1, 3, 8, 0, 9] {
                local.free(local.alloc(order(size)).expect("there is room"));
            }
        },
        merges: false,
        deeds: &DEEDS[..1],
    };
    assert!(own.everywhere() > 80);
}

#[test]
fn in_a_drain_and_a_spill() {
    let drain = Stopped {
        setup: |zone| {
            let pages: Vec<_> = (0..40).map(|_| zone.alloc(Order::PAGE).unwrap()).collect();
            drop(pages);
            Scene::default()
        },
        act: |zone, _| {
            zone.drain();
        },
        merges: false,
        deeds: &DEEDS[..1],
    };
    assert!(drain.everywhere() > 10);
    let spill = Stopped {
        act: |zone, _| {
            let pages: Vec<_> = (0..150).map(|_| zone.alloc(Order::PAGE).expect("free pages")).collect();
            drop(pages);
        },
        ..drain
    };
    assert!(spill.everywhere() > 1000);
}
