//! Several threads at once, each of them one process after another that does anything at all until
//! it dies in the middle of it, and is recovered, at times by one that dies of it in turn.

use super::super::operation::{Operation, Refusal};
use super::super::{OwnerId, RecoverError, Recovered, SharedArena};
use super::deaths::order;
use super::{assert_clean, doomed, stops};
use tailpin::{FrameRange, Order, Pfn};

const WORKERS: u64 = 3;
const LIVES: u64 = 4;
const NEVER: u32 = u32::MAX;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % n
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.below(all.len() as u64) as usize])
    }

    /// Mostly small ones.
    fn order(&mut self) -> Order {
        let below = [1, 1, 1, 3, 5, 9][self.below(6) as usize];
        order(if self.below(12) == 0 { 9 } else { self.below(below) as u8 })
    }
}

/// What a process holds, as it knows itself.
#[derive(Default)]
struct Held {
    blocks: Vec<(Pfn, Order)>,
    pins: Vec<Pfn>,
}

impl Held {
    /// Something to do, most of the time.
    fn choose(&self, arena: &SharedArena, random: &mut Random) -> Option<Operation> {
        let block = random.of(&self.blocks);
        let one = |page| FrameRange::new(page, 1);
        if self.blocks.len() > 12 {
            return block.map(|(head, order)| Operation::Put(head, order));
        }
        match random.below(13) {
            0..=2 => Some(Operation::Alloc(random.order())),
            // Of any process, or free.
            3 | 4 => Some(Operation::Pin(one(Pfn::new(random.below(arena.size() >> 12))))),
            5 => block.map(|(head, order)| Operation::Pin(one(head.offset(random.below(order.frames()))))),
            6 => random.of(&self.pins).map(|page| Operation::Unpin(one(page))),
            7 => block.map(|(head, of)| Operation::Split(head, of, order(random.below(9) as u8))),
            8 => block.map(|(head, order)| Operation::Merge(head, order)),
            9 => block.map(|(head, order)| Operation::Get(head, order)),
            10 | 11 => block.map(|(head, order)| Operation::Put(head, order)),
            _ => (random.below(20) == 0).then_some(Operation::Drain),
        }
    }

    fn note(&mut self, operation: Operation, outcome: Result<Pfn, Refusal>) {
        match (operation, outcome) {
            (Operation::Alloc(order), Ok(head)) | (Operation::Get(head, order), Ok(_)) => {
                self.blocks.push((head, order));
            }
            (Operation::Put(head, order), Ok(_)) => {
                let at = self.blocks.iter().position(|block| *block == (head, order));
                self.blocks.swap_remove(at.unwrap());
            }
            (Operation::Pin(page), Ok(_)) => self.pins.push(page.start),
            (Operation::Unpin(page), Ok(_)) => {
                let at = self.pins.iter().position(|pin| *pin == page.start);
                self.pins.swap_remove(at.unwrap());
            }
            (_, Err(refusal @ Refusal::NotHeld)) => panic!("{refusal:?}"),
            _ => {}
        }
    }
}

/// One process until it dies.
fn live(arena: &SharedArena, random: &mut Random) -> OwnerId {
    let own = doomed(arena);
    let mut held = Held::default();
    let mut left = random.below(200);
    loop {
        let Some(operation) = held.choose(arena, random) else { continue };
        let places = [40, 200, 3000][random.below(3) as usize];
        let after = if left == 0 { random.below(places) as u32 } else { NEVER };
        left = left.saturating_sub(1);
        let mut outcome = None;
        if stops(after, || outcome = Some(own.0.operate(operation))) {
            return own.me();
        }
        held.note(operation, outcome.unwrap());
    }
}

fn recover(arena: &SharedArena, dead: OwnerId, random: &mut Random) -> Recovered {
    if random.below(3) == 0 {
        let second = doomed(arena);
        let mut recovered = None;
        if !stops(random.below(3000) as u32, || recovered = Some(second.recover(dead))) {
            return recovered.unwrap().unwrap();
        }
        // As if its process had not lived to give up the right to it.
        std::mem::forget(arena.0.owners.begin_recovery(dead, second.me().identity));
        let recovered = arena.recover(dead).unwrap();
        arena.recover(second.me()).unwrap();
        return recovered;
    }
    let recovered = arena.recover(dead).unwrap();
    assert_eq!(arena.recover(dead), Err(RecoverError::Gone(dead)));
    recovered
}

/// `TAILPIN_STORM` makes it so many times as long.
#[test]
fn lives_that_end_anywhere_among_others() {
    let times: u64 = std::env::var("TAILPIN_STORM").map_or(1, |times| times.parse().unwrap());
    let arena = SharedArena::create(8 << 20, 1 + 2 * WORKERS as usize).unwrap();
    for round in 0..100 * times {
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let arena = &arena;
                scope.spawn(move || {
                    let mut random =
                        Random((round * WORKERS + worker + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    for _ in 0..LIVES {
                        let dead = live(arena, &mut random);
                        assert_eq!(recover(arena, dead, &mut random).ambiguous, 0);
                    }
                });
            }
        });
        assert_clean(&arena, &format!("round {round}"));
    }
}
