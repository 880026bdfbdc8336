//! Threads doing everything at once to the same blocks, with an audit at the end.

use crate::common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::{Block, MergeError, Order, PageRef, Pfn, Protocol, Request, SetAside, Zone};

const FRAMES: u64 = 8 * 512;

/// A plain generator, so that a run can be told apart by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }
}

struct Table<'z, P: Protocol> {
    blocks: Mutex<Vec<Block<'z, P>>>,
    pins: Mutex<Vec<PageRef<'z, P>>>,
}

fn take<T>(from: &Mutex<Vec<T>>, dice: &mut Dice) -> Option<T> {
    let mut all = from.lock().unwrap();
    let len = all.len() as u64;
    (len > 0).then(|| all.swap_remove(dice.roll(len) as usize))
}

fn play<'z, P: Protocol>(zone: &'z Zone<'z, P>, table: &Table<'z, P>, seed: u64, turns: u64) {
    let mut dice = Dice(seed);
    for _ in 0..turns {
        match dice.roll(13) {
            0 | 1 => {
                let order = [0, 0, 1, 3, 6, 9, 9, 9, 10][dice.roll(9) as usize];
                let request = Request::new(Order::new(order).unwrap());
                let request = if dice.roll(10) == 0 { request.unsplittable() } else { request };
                if let Ok(block) = zone.alloc_with(request) {
                    if dice.roll(2) == 0 {
                        table.blocks.lock().unwrap().push(block.clone());
                    }
                    table.blocks.lock().unwrap().push(block);
                }
            }
            2 | 3 => drop(take(&table.blocks, &mut dice)),
            4 => {
                if let Some(block) = take(&table.blocks, &mut dice) {
                    let pin = block.pin(dice.roll(block.order().frames())).unwrap();
                    table.pins.lock().unwrap().push(pin);
                    let copy = block.clone();
                    table.blocks.lock().unwrap().push(block);
                    drop(copy);
                }
            }
            5 | 6 => drop(take(&table.pins, &mut dice)),
            7 | 8 => {
                if let Ok(pin) = zone.try_pin(Pfn::new(dice.roll(FRAMES))) {
                    let copy = pin.clone();
                    drop(pin);
                    if dice.roll(4) == 0 {
                        table.pins.lock().unwrap().push(copy);
                    }
                }
            }
            9 => {
                if let Some(block) = take(&table.blocks, &mut dice) {
                    let order = Order::new(dice.roll(5) as u8 * 2).unwrap();
                    match block.split_to(order) {
                        Ok(pieces) => {
                            table.blocks.lock().unwrap().extend(pieces.take(dice.roll(16) as usize))
                        }
                        Err((block, _)) => table.blocks.lock().unwrap().push(block),
                    }
                }
            }
            10 => {
                if let Some(block) = take(&table.blocks, &mut dice) {
                    let index = dice.roll(block.order().frames());
                    match block.split_around(index, Order::PAGE) {
                        Ok(pieces) => table.blocks.lock().unwrap().extend(pieces),
                        Err((block, _)) => table.blocks.lock().unwrap().push(block),
                    }
                }
            }
            11 => {
                // Splits its own and merges it again, with pins of everybody coming and going.
                let order = Order::new([3, 9, 9, 10][dice.roll(4) as usize]).unwrap();
                if P::REARRANGES
                    && let Ok(block) = zone.alloc(order)
                {
                    let target = Order::new(dice.roll(u64::from(order.get())) as u8).unwrap();
                    let pieces = block.split_to(target).expect("a splittable block splits");
                    match pieces.merge() {
                        Ok(block) => table.blocks.lock().unwrap().push(block),
                        Err((_, error)) => panic!("the only owner merges: {error}"),
                    }
                }
            }
            _ => {
                let frame = Pfn::new(dice.roll(FRAMES));
                if let Some((head, order)) = zone.head_of(frame) {
                    assert!(head <= frame && frame.get() < head.get() + order.frames());
                }
            }
        }
    }
}

fn stress<'z, P: Protocol>(zone: &'z Zone<'z, P>, heard: &common::Heard, threads: u64, turns: u64) {
    let table = Table { blocks: Mutex::default(), pins: Mutex::default() };
    for round in 0..4 {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let table = &table;
                scope.spawn(move || play(zone, table, round * 1000 + thread, turns));
            }
        });
        let audit = zone.audit();
        assert_eq!(audit.violations(), 0, "{audit}");
    }
    drop(table);
    let audit = zone.audit();
    assert_eq!((audit.violations(), audit.free, heard.count()), (0, FRAMES, 0), "{audit}");
    assert_eq!(zone.free_pageblocks(), FRAMES / 512);
}

#[test]
fn one_word_under_stress() {
    on_one!(OneWord, FRAMES, stress, 4, 200_000);
}

#[test]
fn classic_under_stress() {
    on_one!(Classic, FRAMES, stress, 4, 20_000);
}

/// Threads split and merge blocks of their own, and others find pieces by their numbers at
/// the same time.
fn found_beside_merges<'z>(zone: &'z Zone<'z>, heard: &common::Heard, rounds: u64) {
    let merge = |seed: u64| {
        let mut dice = Dice(seed);
        let (mut merged, mut shared) = (0_u64, 0_u64);
        for _ in 0..rounds {
            let order = Order::new([2, 3, 4, 9][dice.roll(4) as usize]).unwrap();
            let Ok(block) = zone.alloc(order) else { continue };
            let target = Order::new(dice.roll(u64::from(order.get())) as u8).unwrap();
            let mut pieces = block.split_to(target).expect("a splittable block splits");
            for _ in 0..3 {
                pieces = match pieces.merge() {
                    Ok(block) => {
                        assert_eq!(block.order(), order);
                        merged += 1;
                        break;
                    }
                    Err((pieces, MergeError::Shared { .. })) => {
                        shared += 1;
                        std::thread::yield_now();
                        pieces
                    }
                    Err((_, error)) => panic!("the pieces are a block's: {error}"),
                };
            }
        }
        (merged, shared)
    };
    let find = |seed: u64| {
        let mut dice = Dice(seed);
        for _ in 0..rounds * 20 {
            let order = Order::new([0, 0, 0, 1, 2, 8][dice.roll(6) as usize]).unwrap();
            let head = Pfn::new(dice.roll(FRAMES)).head(order);
            let Ok(found) = zone.try_block(head, order) else { continue };
            // What was found stays in use, whatever the owner of the rest does.
            let frame = head.offset(dice.roll(order.frames()));
            let pin = zone.try_pin(frame).expect("a reference keeps each page");
            drop(found);
            assert!(zone.head_of(frame).is_some());
            drop(pin);
        }
    };
    std::thread::scope(|scope| {
        let finders: Vec<_> = (0..2).map(|thread| scope.spawn(move || find(thread))).collect();
        let mergers: Vec<_> = (10..12).map(|thread| scope.spawn(move || merge(thread))).collect();
        let merged: u64 = mergers.into_iter().map(|thread| thread.join().unwrap().0).sum();
        finders.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(merged > 0);
    });
    let audit = zone.audit();
    assert_eq!((audit.violations(), audit.free, heard.count()), (0, FRAMES, 0), "{audit}");
}

#[test]
fn blocks_are_found_beside_merges() {
    on_one!(OneWord, FRAMES, found_beside_merges, 20_000);
}

/// Frames are set aside while others are at work. What a thread was told is out of service before
/// its request began, the request is not served with; in the end all that was set aside is out.
fn set_aside_under_load<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard, turns: u64) {
    const LEAVE: u64 = 200;
    // When each frame was out of service, 0 if it is not; and the time.
    let out: Vec<AtomicU64> = (0..FRAMES).map(|_| AtomicU64::new(0)).collect();
    let clock = AtomicU64::new(1);
    let work = |seed: u64| {
        let mut dice = Dice(seed);
        let mut kept: Vec<Block<'_, P>> = Vec::new();
        for _ in 0..turns {
            if kept.len() > 60 || dice.roll(3) == 0 && !kept.is_empty() {
                drop(kept.swap_remove(dice.roll(kept.len() as u64) as usize));
                continue;
            }
            let order = Order::new([0, 0, 0, 1, 3, 6, 9][dice.roll(7) as usize]).unwrap();
            let began = clock.load(Ordering::SeqCst);
            let Ok(block) = zone.alloc(order) else {
                kept.clear();
                continue;
            };
            for frame in block.frames().iter() {
                let since = out[frame.get() as usize].load(Ordering::SeqCst);
                assert!(since == 0 || since > began, "{frame} was out of service before the request");
            }
            match dice.roll(4) {
                0 => kept.extend(block.split_to(Order::PAGE).expect("it splits").take(5)),
                1 => {
                    let pin = block.pin(dice.roll(order.frames())).unwrap();
                    drop((block, pin));
                }
                _ => kept.push(block),
            }
        }
    };
    let mut told = Vec::new();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || work(thread));
        }
        let mut dice = Dice(99);
        while (told.len() as u64) < LEAVE {
            let frame = Pfn::new(dice.roll(FRAMES));
            let (mut asked, mut said) = (false, zone.set_aside(frame));
            while said == SetAside::AskAgain {
                std::thread::yield_now();
                (asked, said) = (true, zone.set_aside(frame));
            }
            match said {
                SetAside::Done => {
                    let now = clock.fetch_add(1, Ordering::SeqCst) + 1;
                    out[frame.get() as usize].store(now, Ordering::SeqCst);
                    told.push(frame);
                }
                SetAside::NotInService if !told.contains(&frame) => {
                    assert!(asked, "{frame} was in service");
                    told.push(frame);
                }
                SetAside::WhenFreed if !told.contains(&frame) => told.push(frame),
                _ => {}
            }
            std::thread::yield_now();
        }
    });
    zone.drain();
    let pages: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::PAGE).ok()).collect();
    assert!(pages.iter().all(|page| !told.contains(&page.pfn())), "a frame that was set aside is handed out");
    assert_eq!((pages.len() as u64, zone.set_aside_frames()), (FRAMES - LEAVE, LEAVE));
    drop(pages);
    let audit = zone.audit();
    assert_eq!((audit.violations(), audit.set_aside, heard.count()), (0, LEAVE, 0), "{audit}");
}

#[test]
fn frames_leave_service_under_load() {
    on_one!(OneWord, FRAMES, set_aside_under_load, 30_000);
    on_one!(Classic, FRAMES, set_aside_under_load, 3_000);
}
