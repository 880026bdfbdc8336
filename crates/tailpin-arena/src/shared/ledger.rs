//! The ledger: what each owner holds, by page. It is written by the operations themselves, so that at the end of each,
//! whoever brought it there, it is right.

use tailpin::{Order, Pfn};

use super::word::Word;

const ONE_PIN: u64 = 1;
const BLOCKS_SHIFT: u32 = 32;
const ONE_BLOCK: u64 = 1 << BLOCKS_SHIFT;
const ORDER_SHIFT: u32 = 56;
const COUNTS: u64 = (1 << ORDER_SHIFT) - 1;

/// What one owner holds at one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// Pins on it.
    pub(super) pins: u64,
    /// References to the block of this order that was handed out here.
    pub(super) blocks: u64,
    pub(super) order: Order,
}

/// One word for each page and owner.
#[derive(Clone, Copy)]
pub(super) struct Ledger {
    pub(super) words: &'static [Word],
    /// Pages of each owner.
    pub(super) pages: usize,
}

impl Ledger {
    fn word(&self, owner: usize, page: Pfn) -> &'static Word {
        &self.words[owner * self.pages + page.get() as usize]
    }

    pub(super) fn pinned(&self, owner: usize, page: Pfn) {
        self.word(owner, page).change(|seen| seen + ONE_PIN);
    }

    pub(super) fn unpinned(&self, owner: usize, page: Pfn) {
        self.word(owner, page).change(|seen| seen - ONE_PIN);
    }

    /// One more reference to a block. All that an owner has at one page at the same time are to the same block.
    pub(super) fn got(&self, owner: usize, head: Pfn, order: Order) {
        let order = u64::from(order.get()) << ORDER_SHIFT;
        self.word(owner, head).change(|seen| order | (seen & COUNTS) + ONE_BLOCK);
    }

    pub(super) fn put(&self, owner: usize, head: Pfn) {
        self.word(owner, head).change(|seen| seen - ONE_BLOCK);
    }

    /// A look from outside of operations.
    pub(super) fn entry(&self, owner: usize, page: Pfn) -> Entry {
        let word = self.word(owner, page).value();
        Entry {
            pins: word & (ONE_BLOCK - 1),
            blocks: (word & COUNTS) >> BLOCKS_SHIFT,
            order: Order::new((word >> ORDER_SHIFT) as u8).unwrap_or(Order::MAX),
        }
    }
}
