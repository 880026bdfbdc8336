//! Re-pinning under the model checker, beside the last drop of the whole, and buffers that get what
//! that frees. The words are loom's; the protocol and the look at the pages are what ships.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use tailpin::{
    BlockLife, BlockRefs, Class, FrameMask, FrameRange, FrameWords, FreeSink, Misuse, OneWord, Order,
    PagePin, Pfn, Pins,
};

use crate::loom_word::Word;

use super::are_frozen;

/// Pages of the block.
const PAGES: u64 = 2;
/// What is in a page that was read into, and in one that is a buffer's.
const READ: u64 = 7;
const WRITTEN: u64 = 9;

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn pin(page: Pfn) -> PagePin {
    PagePin { page, counted_at: page }
}

/// A frozen block, and what is in its pages.
struct Memory {
    words: Vec<Word>,
    /// For each page, whether the block that begins with it is frozen.
    frozen: Vec<AtomicU64>,
    bytes: Vec<UnsafeCell<u64>>,
}

// SAFETY: the cells are loom's, which finds accesses that nothing orders.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// A frozen block with one reference, and a pin on each of these pages.
    fn new(pinned: FrameRange) -> Arc<Self> {
        let all = 0..PAGES;
        let memory = Self {
            words: all.clone().map(|_| Word(AtomicU64::new(0))).collect(),
            frozen: all.clone().map(|page| AtomicU64::new(u64::from(page == 0))).collect(),
            bytes: all.map(|_| UnsafeCell::new(READ)).collect(),
        };
        memory.hand_out(Pfn::new(0), order(1));
        for page in pinned.iter() {
            memory.protocol().try_get(page, &memory).unwrap();
        }
        Arc::new(memory)
    }

    fn protocol(&self) -> OneWord<'_, Word> {
        OneWord::new(&self.words, Pfn::new(0))
    }

    fn hand_out(&self, head: Pfn, order: Order) {
        self.protocol().prepare(head, order).unwrap();
        self.protocol().publish(head, order, Class::Splittable);
    }

    /// A page that was freed is a buffer's at once, which is written to.
    fn reuse(&self, page: Pfn) {
        let at = page.get() as usize;
        self.bytes[at].with_mut(|bytes| {
            // SAFETY: the page is this thread's alone, or loom finds that it is not.
            unsafe { *bytes = WRITTEN }
        });
        // Release and Acquire, as the notes are.
        self.frozen[at].store(0, Ordering::Release);
        self.hand_out(page, Order::PAGE);
    }

    /// What `Slice::of` does with bytes of these pages, which the caller has pinned, and what a
    /// reader and its drop do then.
    fn pin_again(&self, pages: FrameRange) {
        let protocol = self.protocol();
        let is_frozen = |head: Pfn| self.frozen[head.get() as usize].load(Ordering::Acquire) != 0;
        assert!(are_frozen(&protocol, is_frozen, pages), "they are a slice's");
        for page in pages.iter() {
            protocol.try_get(page, self).expect("a pin keeps it in use");
            protocol.put(protocol.counted(pin(page)), self); // the one that was there before
        }
        for page in pages.iter() {
            // SAFETY: by the pin no thread writes here, or loom finds that one does.
            self.bytes[page.get() as usize].with(|bytes| assert_eq!(unsafe { *bytes }, READ));
            protocol.put(protocol.counted(pin(page)), self);
        }
    }
}

impl FreeSink for Memory {
    fn freed_block(&self, head: Pfn, order: Order) {
        FrameRange::block(head, order).iter().for_each(|page| self.reuse(page));
    }

    fn freed_frames(&self, pageblock: Pfn, frames: &FrameMask) {
        frames.iter().for_each(|index| self.reuse(pageblock.offset(index)));
    }

    fn freed_offline(&self, frame: Pfn) {
        panic!("{frame} was never misused");
    }

    fn misuse(&self, misuse: &Misuse) {
        panic!("{misuse}");
    }
}

/// Explores a thread that pins pages again beside one that drops the whole.
fn explore(pages: FrameRange) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let memory = Memory::new(pages);
        let of = Arc::clone(&memory);
        let pins = thread::spawn(move || of.pin_again(pages));
        let whole = Arc::clone(&memory);
        let drops = thread::spawn(move || whole.protocol().put_block(Pfn::new(0), order(1), &*whole));
        pins.join().unwrap();
        drops.join().unwrap();
        for page in (0..PAGES).map(Pfn::new) {
            let state = memory.protocol().state(page);
            assert_eq!((state.order, state.refs, state.pins), (Order::PAGE, 1, 0), "a buffer has it");
        }
    });
}

#[test]
fn a_tail_is_pinned_again_beside_the_last_drop_of_the_whole() {
    explore(FrameRange::new(Pfn::new(1), 1));
}

#[test]
fn the_head_is_pinned_again_beside_the_last_drop_of_the_whole() {
    explore(FrameRange::new(Pfn::new(0), 1));
}

#[test]
fn all_pages_are_pinned_again_beside_the_last_drop_of_the_whole() {
    explore(FrameRange::new(Pfn::new(0), PAGES));
}
