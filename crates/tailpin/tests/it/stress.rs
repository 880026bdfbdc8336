//! Threads doing everything at once to the same blocks, with an audit at the end.

use crate::common;

use std::sync::Mutex;

use tailpin::{Block, Order, PageRef, Pfn, Protocol, Request, Zone};

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
    assert_eq!(zone.free_areas(), FRAMES / 512);
}

#[test]
fn one_word_under_stress() {
    on_one!(OneWord, FRAMES, stress, 4, 200_000);
}

#[test]
fn classic_under_stress() {
    on_one!(Classic, FRAMES, stress, 4, 20_000);
}
