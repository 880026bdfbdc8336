//! Many threads on the same spaces and objects, with failures injected, and the audit at the end.
//!
//! Every thread keeps to rules by which it can tell whether a byte it reads is right: it has 16
//! words of its own in each page, writes to them only itself, and so knows what is in them; other
//! threads change everything else about the page.

use crate::common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use tailpin::Order;
use tailpin_mm::{
    Access, Advice, CollapseLimits, Map, MmConfig, ObjectConfig, PageIdentity, Prot, StdEnv, VirtAddr,
};

/// A small generator, so that runs differ by seed only.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

const THREADS: u64 = 4;
const RUN: Duration = Duration::from_millis(2500);

/// For as long as a run lasts, lets an allocation fail every few milliseconds.
fn fail_now_and_then(env: &StdEnv, mut random: Random) {
    let begun = Instant::now();
    while begun.elapsed() < RUN {
        // Failures at whatever allocation comes next.
        env.fail_after(Some(random.below(30)));
        std::thread::sleep(Duration::from_micros(300));
        env.fail_after(None);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Where thread `t` keeps its word of a page.
fn word(addr: VirtAddr, page: u64, thread: u64) -> VirtAddr {
    addr.offset(page * PAGE + 64 * thread)
}

/// Writers keep their words while others split, collapse, fork, protect, pin and move nothing away:
/// no write is lost, no pin parts from its mapping, no fork sees a later write.
#[test]
fn no_write_is_lost_while_the_structure_changes() {
    machine(64 * MIB, MmConfig::default(), |mm, _, env| {
        let space = mm.space().unwrap();
        let pages = 3 * 512;
        let addr = space.map(Map::anonymous(pages * PAGE, Prot::READ_WRITE)).unwrap();
        let (stop, forks, collapses) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (space, stop) = (&space, &stop);
                scope.spawn(move || {
                    let mut random = Random(thread * 77 + 1);
                    let mut mine = vec![0u32; pages as usize];
                    while !stop.load(Ordering::Relaxed) {
                        let page = random.below(pages);
                        let at = word(addr, page, thread);
                        let known = &mut mine[page as usize];
                        if random.below(3) == 0 {
                            let Ok(pins) = space.pin_pages(at, 4, Access::Write) else { continue };
                            let mut found = [0; 4];
                            pins.read(0, &mut found);
                            assert_eq!(u32::from_le_bytes(found), *known, "page {page}, through a pin");
                            *known += 1;
                            pins.write(0, &known.to_le_bytes());
                            drop(pins);
                        } else if random.below(2) == 0 {
                            // A failed allocation writes nothing.
                            if space.write(at, &(*known + 1).to_le_bytes()).is_ok() {
                                *known += 1;
                            }
                        } else if space.fault(at, Access::Write).is_ok()
                            && let Ok(done) = space.compare_exchange_u32(at, *known, *known + 1)
                        {
                            assert_eq!(done, Ok(*known), "page {page}");
                            *known += 1;
                        }
                        let mut found = [0; 4];
                        if space.read(at, &mut found).is_ok() {
                            assert_eq!(u32::from_le_bytes(found), *known, "page {page}");
                        }
                    }
                });
            }
            // Forks: what a child sees of a thread's word never changes, whatever the parent does.
            let (space, stop, forks, collapses) = (&space, &stop, &forks, &collapses);
            scope.spawn(move || {
                let mut random = Random(4242);
                while !stop.load(Ordering::Relaxed) {
                    let Ok(child) = space.fork() else { continue };
                    forks.fetch_add(1, Ordering::Relaxed);
                    let start = random.below(pages - 64);
                    let look = |buf: &mut [u8]| child.read(addr.offset(start * PAGE), buf);
                    let (mut first, mut second) = (vec![0; 64 * PAGE as usize], vec![0; 64 * PAGE as usize]);
                    if look(&mut first).is_ok() {
                        std::thread::yield_now();
                        let _ = child.write(addr.offset(random.below(start + 1) * PAGE + 2048), &[1; 100]);
                        if start > 0 && look(&mut second).is_ok() {
                            let changed = first.iter().zip(&second).position(|(a, b)| a != b);
                            let in_first_page = changed.is_none_or(|at| (2048..2148).contains(&at));
                            assert!(in_first_page, "the child sees what the parent wrote: byte {changed:?}");
                        }
                    }
                }
            });
            scope.spawn(move || {
                let mut random = Random(99);
                while !stop.load(Ordering::Relaxed) {
                    let at = addr.offset(random.below(pages) * PAGE);
                    match random.below(5) {
                        0 => drop(space.split_mapping(at)),
                        1 => drop(space.split_page(at, Order::PAGE)),
                        2 | 3 => {
                            if space.collapse(at, CollapseLimits::NONE).is_ok() {
                                collapses.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        _ => {
                            let len = (1 + random.below(20)) * PAGE;
                            if space.protect(at, len, Prot::READ).is_ok() {
                                while space.protect(at, len, Prot::READ_WRITE).is_err() {}
                            }
                        }
                    }
                }
            });
            fail_now_and_then(env, Random(5));
            stop.store(true, Ordering::Relaxed);
        });
        assert!(
            forks.load(Ordering::Relaxed) > 0 && collapses.load(Ordering::Relaxed) > 0,
            "nothing happened"
        );
    });
}

/// Pins are taken while the memory under them is unmapped, discarded, moved and mapped again: what
/// a pin reads is what some mapping had, and never changes but by its own kind.
#[test]
fn a_pin_never_shows_memory_of_somebody_else() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, env| {
        let space = mm.space().unwrap();
        let base = VirtAddr::new(0x4000_0000);
        let pages = 2 * 512;
        let len = pages * PAGE;
        space.map(Map::anonymous(len, Prot::READ_WRITE).at(base)).unwrap();
        let (stop, pinned) = (AtomicBool::new(false), AtomicU64::new(0));
        // Memory of another space, full of ones, mapped and unmapped all the time so that frames
        // change owners.
        let other = mm.space().unwrap();
        std::thread::scope(|scope| {
            let (space, other, stop, pinned) = (&space, &other, &stop, &pinned);
            scope.spawn(move || {
                let mut random = Random(31);
                while !stop.load(Ordering::Relaxed) {
                    let len = (1 + random.below(700)) * PAGE;
                    let addr = other.map(Map::anonymous(len, Prot::READ_WRITE)).unwrap();
                    for page in 0..len / PAGE {
                        let _ = other.write(addr.offset(page * PAGE), &[1; 4096]);
                    }
                    other.unmap(addr, len).unwrap();
                }
            });
            for thread in 0..THREADS {
                scope.spawn(move || {
                    let mut random = Random(thread + 1);
                    while !stop.load(Ordering::Relaxed) {
                        let page = random.below(pages);
                        let n = 1 + random.below(pages - page);
                        let access = if random.below(2) == 0 { Access::Read } else { Access::Write };
                        let Ok(pins) = space.pin_pages(base.offset(page * PAGE), n * PAGE, access) else {
                            continue;
                        };
                        pinned.fetch_add(n, Ordering::Relaxed);
                        let mut found = vec![0; (n * PAGE) as usize];
                        pins.read(0, &mut found);
                        assert!(found.iter().all(|byte| *byte != 1), "pages of another space");
                        for frame in pins.frames() {
                            assert!(!is_free(zone, frame), "{frame} is free under a pin");
                        }
                    }
                });
            }
            scope.spawn(move || {
                let mut random = Random(8);
                while !stop.load(Ordering::Relaxed) {
                    let page = random.below(pages);
                    let n = 1 + random.below(pages - page);
                    let (addr, len) = (base.offset(page * PAGE), n * PAGE);
                    match random.below(4) {
                        0 => drop(space.advise(addr, len, Advice::DontNeed)),
                        1 => {
                            if space.unmap(addr, len).is_ok() {
                                space.map(Map::anonymous(len, Prot::READ_WRITE).at(addr)).unwrap();
                            }
                        }
                        2 => {
                            let _ = space.write(addr, &[2; 4096]);
                            let _ = space.collapse(addr, CollapseLimits::NONE);
                        }
                        _ => {
                            let there = VirtAddr::new(0x8000_0000 + random.below(2) * PAGE);
                            if space.remap(addr, len, Some(there)).is_ok() {
                                while space.remap(there, len, Some(addr)).is_err() {}
                            }
                        }
                    }
                }
            });
            fail_now_and_then(env, Random(6));
            stop.store(true, Ordering::Relaxed);
        });
        assert!(pinned.load(Ordering::Relaxed) > 0, "nothing happened");
    });
}

/// Several spaces map an object shared and private while it is split, collapsed, truncated, punched
/// and grown: every access is either right or beyond the end, and a page's identity is always its
/// own.
#[test]
fn an_object_is_one_thing_to_everybody_while_it_changes() {
    machine(64 * MIB, MmConfig::default(), |mm, _, env| {
        let pages = 3 * 512;
        let object = mm.object(ObjectConfig::new(pages * PAGE).huge()).unwrap();
        let spaces: Vec<_> = (0..3).map(|_| mm.space().unwrap()).collect();
        let places: Vec<_> = (0..3u64)
            .map(|i| {
                let addr = VirtAddr::new(0x4000_0000 + i * PAGE);
                let first = i * 100;
                let map = Map::shared(&object, first * PAGE, (pages - first) * PAGE, Prot::READ_WRITE);
                spaces[i as usize].map(map.at(addr)).unwrap();
                (addr, first)
            })
            .collect();
        let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (spaces, places, object, stop, seen) = (&spaces, &places, &object, &stop, &seen);
                scope.spawn(move || {
                    let mut random = Random(thread + 11);
                    while !stop.load(Ordering::Relaxed) {
                        let i = random.below(3) as usize;
                        let (space, (addr, first)) = (&spaces[i], places[i]);
                        let page = first + random.below(pages - first);
                        let at = addr.offset((page - first) * PAGE + 64 * thread);
                        // A word is the page's number or, after a hole, zero.
                        let mut found = [0; 8];
                        if space.read(at, &mut found).is_ok() {
                            let found = u64::from_le_bytes(found);
                            assert!(found == 0 || found == page, "page {page} has {found}");
                            seen.fetch_add(1, Ordering::Relaxed);
                        }
                        let _ = space.write(at, &page.to_le_bytes());
                        if let Ok(place) = space.identify(at, Access::Read) {
                            let expected =
                                PageIdentity::Object { object: object.id(), index: page, writable: true };
                            assert_eq!(place, expected);
                        }
                        if random.below(4) == 0
                            && let Ok(pins) = space.pin_pages(at, 8, Access::Write)
                        {
                            pins.write(0, &page.to_le_bytes());
                        }
                    }
                });
            }
            let (spaces, places, object, stop) = (&spaces, &places, &object, &stop);
            scope.spawn(move || {
                let mut random = Random(1234);
                while !stop.load(Ordering::Relaxed) {
                    let i = random.below(3) as usize;
                    let page = random.below(pages - 300);
                    let at = places[i].0.offset(page * PAGE);
                    match random.below(6) {
                        0 => object.truncate(random.below(pages * PAGE)).unwrap(),
                        1 => object.truncate(pages * PAGE).unwrap(),
                        2 => object.punch_hole(page * PAGE..(page + random.below(300)) * PAGE),
                        3 => drop(spaces[i].split_page(at, Order::new(random.below(9) as u8).unwrap())),
                        4 => {
                            let at = places[0].0.offset(random.below(3) * HUGE);
                            let _ = spaces[0].collapse(at, CollapseLimits::NONE);
                        }
                        _ => drop(spaces[i].split_mapping(at)),
                    }
                }
            });
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    drop(spaces[1].fork());
                }
            });
            fail_now_and_then(env, Random(7));
            stop.store(true, Ordering::Relaxed);
        });
        assert!(seen.load(Ordering::Relaxed) > 0, "nothing happened");
    });
}
