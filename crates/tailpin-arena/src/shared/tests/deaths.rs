//! What a process may be in the middle of when it dies.

use std::any::Any;

use super::super::SharedArena;
use super::super::operation::Operation;
use crate::memory::PAGE_SIZE;
use tailpin::{FrameRange, Order, Pfn};

pub(super) const BYTES: usize = 8 << 20;
pub(super) const PAGES: u64 = (BYTES / PAGE_SIZE) as u64;

pub(super) fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

/// What is there before a process begins the operation in which it dies: what the survivor holds,
/// and the operation.
pub(super) type Death = (Vec<Box<dyn Any>>, Operation);
pub(super) type Setup = fn(&SharedArena, &SharedArena) -> Death;

pub(super) fn did(arena: &SharedArena, operation: Operation) -> Pfn {
    arena.0.operate(operation).unwrap()
}

pub(super) fn pages(head: Pfn, first: u64, n: u64) -> FrameRange {
    FrameRange::new(head.offset(first), n)
}

/// A block of the doomed one's, and a slice of the survivor's of some pages of it. The reference to
/// the former has no handle, which would keep the mapping of the dead for as long as it is not
/// dropped.
fn block_with_pins(survivor: &SharedArena, doomed: &SharedArena, of: Order) -> (Pfn, Vec<Box<dyn Any>>) {
    let mut buffer = doomed.alloc(of.bytes() as usize).unwrap();
    buffer.fill(7);
    let block = buffer.freeze();
    let bytes = (of.bytes() as usize / 2 - 1).max(1)..of.bytes() as usize / 2 + 1;
    let own = block.slice(bytes).unwrap();
    let slice = survivor.adopt(own.token()).unwrap();
    assert!(slice.iter().all(|byte| *byte == 7));
    let head = own.block().0;
    did(doomed, Operation::Get(head, of));
    drop((own, block));
    (head, vec![Box::new(slice)])
}

fn alone(_: &SharedArena, doomed: &SharedArena, of: Order) -> Pfn {
    did(doomed, Operation::Alloc(of))
}

/// Everything a process may die in, small enough for every place to be tried.
pub(super) const DEATHS: &[(&str, Setup)] = &[
    ("alloc of a page", |_, _| (vec![], Operation::Alloc(order(0)))),
    ("alloc of a page at hand", |_, d| {
        let page = did(d, Operation::Alloc(order(0)));
        did(d, Operation::Put(page, order(0)));
        (vec![], Operation::Alloc(order(0)))
    }),
    ("alloc of eight", |_, _| (vec![], Operation::Alloc(order(3)))),
    ("alloc of a word", |_, _| (vec![], Operation::Alloc(order(6)))),
    ("alloc of a pageblock", |_, _| (vec![], Operation::Alloc(order(9)))),
    ("first pin of a tail", |s, d| (vec![], Operation::Pin(pages(alone(s, d, order(3)), 5, 1)))),
    ("pins of many", |s, d| (vec![], Operation::Pin(pages(alone(s, d, order(3)), 0, 8)))),
    ("pins beyond what is in use", |s, d| (vec![], Operation::Pin(pages(alone(s, d, order(1)), 0, 8)))),
    ("one more pin", |s, d| {
        let head = alone(s, d, order(3));
        did(d, Operation::Pin(pages(head, 5, 1)));
        (vec![], Operation::Pin(pages(head, 5, 1)))
    }),
    ("unpin", |s, d| {
        let head = alone(s, d, order(3));
        did(d, Operation::Pin(pages(head, 5, 1)));
        did(d, Operation::Pin(pages(head, 5, 1)));
        (vec![], Operation::Unpin(pages(head, 5, 1)))
    }),
    ("last unpin of a tail", |s, d| {
        let head = alone(s, d, order(3));
        did(d, Operation::Pin(pages(head, 4, 2)));
        (vec![], Operation::Unpin(pages(head, 4, 2)))
    }),
    ("last unpin of pages by themselves", |s, d| {
        let head = alone(s, d, order(3));
        did(d, Operation::Pin(pages(head, 0, 8)));
        did(d, Operation::Put(head, order(3)));
        (vec![], Operation::Unpin(pages(head, 0, 8)))
    }),
    ("one more reference", |s, d| {
        let (head, kept) = block_with_pins(s, d, order(3));
        (kept, Operation::Get(head, order(3)))
    }),
    ("one more reference on pieces", |s, d| {
        let (head, kept) = block_with_pins(s, d, order(3));
        did(d, Operation::Split(head, order(3), order(1)));
        (kept, Operation::Get(head, order(3)))
    }),
    ("one reference less", |s, d| {
        let head = alone(s, d, order(3));
        did(d, Operation::Get(head, order(3)));
        (vec![], Operation::Put(head, order(3)))
    }),
    ("last reference to a page", |s, d| (vec![], Operation::Put(alone(s, d, order(0)), order(0)))),
    ("last reference to a block", |s, d| (vec![], Operation::Put(alone(s, d, order(5)), order(5)))),
    ("last reference to a pageblock", |s, d| (vec![], Operation::Put(alone(s, d, order(9)), order(9)))),
    ("last reference to a block with pins", |s, d| {
        let (head, kept) = block_with_pins(s, d, order(4));
        did(d, Operation::Pin(pages(head, 0, 3)));
        (kept, Operation::Put(head, order(4)))
    }),
    ("last reference to pieces with pins", |s, d| {
        let (head, kept) = block_with_pins(s, d, order(4));
        did(d, Operation::Split(head, order(4), order(2)));
        (kept, Operation::Put(head, order(4)))
    }),
    ("clean split", |s, d| (vec![], Operation::Split(alone(s, d, order(4)), order(4), order(2)))),
    ("split of a block with pins", |s, d| {
        let (head, kept) = block_with_pins(s, d, order(4));
        did(d, Operation::Pin(pages(head, 0, 3)));
        (kept, Operation::Split(head, order(4), order(0)))
    }),
    ("split to pieces of a block with pins", |s, d| {
        let (head, kept) = block_with_pins(s, d, order(4));
        did(d, Operation::Pin(pages(head, 3, 3)));
        (kept, Operation::Split(head, order(4), order(2)))
    }),
    ("merge", |s, d| {
        let head = alone(s, d, order(4));
        did(d, Operation::Split(head, order(4), order(0)));
        (vec![], Operation::Merge(head, order(4)))
    }),
    ("merge with pins", |s, d| {
        let (head, kept) = block_with_pins(s, d, order(4));
        did(d, Operation::Split(head, order(4), order(1)));
        did(d, Operation::Pin(pages(head, 3, 3)));
        (kept, Operation::Merge(head, order(4)))
    }),
    ("drain", |_, d| {
        let some: Vec<Pfn> = (0..70).map(|_| did(d, Operation::Alloc(order(0)))).collect();
        for page in some.iter().step_by(3) {
            did(d, Operation::Put(*page, order(0)));
        }
        (vec![], Operation::Drain)
    }),
    // What the allocator has at hand, and does not.
    ("a free page far from those at hand", |_, d| {
        let far = scattered(d, 64, 63);
        (vec![], Operation::Unpin(FrameRange::new(far[63], 1)))
    }),
    ("a free page beside the last of many at hand", |_, d| {
        let far = scattered(d, 64, 63);
        let beside = did(d, Operation::Alloc(order(0)));
        did(d, Operation::Unpin(FrameRange::new(far[63], 1)));
        (vec![], Operation::Put(beside, order(0)))
    }),
    ("alloc of a page with many at hand", |_, d| {
        scattered(d, 64, 64);
        (vec![], Operation::Alloc(order(0)))
    }),
    ("alloc of a block of what is at hand", |_, d| {
        scattered(d, 64, 64);
        (vec![], Operation::Alloc(order(9)))
    }),
    ("alloc of a pageblock where none is whole", |_, d| {
        let mut heads = Vec::new();
        while let Ok(head) = d.0.operate(Operation::Alloc(order(9))) {
            did(d, Operation::Pin(pages(head, 77, 1)));
            heads.push(head);
        }
        for head in heads {
            did(d, Operation::Put(head, order(9)));
        }
        (vec![], Operation::Alloc(order(9)))
    }),
    ("the last frames of a word", |s, d| {
        let (one, other) = (alone(s, d, order(5)), alone(s, d, order(5)));
        did(d, Operation::Put(one, order(5)));
        (vec![], Operation::Put(other, order(5)))
    }),
    ("the last frames of a pageblock", |s, d| {
        let (one, other) = (alone(s, d, order(8)), alone(s, d, order(8)));
        did(d, Operation::Put(other, order(8)));
        (vec![], Operation::Put(one, order(8)))
    }),
];

/// So many pages far from each other; the first `freed` of them are free again, one by one.
fn scattered(of: &SharedArena, n: usize, freed: usize) -> Vec<Pfn> {
    let blocks: Vec<Pfn> = (0..n).map(|_| did(of, Operation::Alloc(order(5)))).collect();
    let one = |block: &Pfn| FrameRange::new(block.offset(3), 1);
    for block in &blocks {
        did(of, Operation::Pin(one(block)));
        did(of, Operation::Put(*block, order(5)));
    }
    for block in &blocks[..freed] {
        did(of, Operation::Unpin(one(block)));
    }
    blocks.iter().map(|block| block.offset(3)).collect()
}

/// Large ones, of which some places are tried.
pub(super) const LARGE: &[(&str, Setup)] = &[
    ("split of a pageblock with pins", |s, d| {
        let (head, kept) = block_with_pins(s, d, order(9));
        did(d, Operation::Pin(pages(head, 100, 60)));
        (kept, Operation::Split(head, order(9), order(0)))
    }),
    ("last reference to a pageblock with pins", |s, d| {
        let (head, kept) = block_with_pins(s, d, order(9));
        did(d, Operation::Pin(pages(head, 100, 60)));
        (kept, Operation::Put(head, order(9)))
    }),
    ("merge of a pageblock with pins", |s, d| {
        let (head, kept) = block_with_pins(s, d, order(9));
        did(d, Operation::Split(head, order(9), order(0)));
        did(d, Operation::Pin(pages(head, 100, 60)));
        (kept, Operation::Merge(head, order(9)))
    }),
    ("merge of a pageblock without", |s, d| {
        let head = alone(s, d, order(9));
        did(d, Operation::Split(head, order(9), order(0)));
        (vec![], Operation::Merge(head, order(9)))
    }),
];
