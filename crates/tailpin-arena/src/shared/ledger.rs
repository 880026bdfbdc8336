//! The ledger: what each owner holds, by page. It is written by the operations themselves, so that
//! at the end of each, whichever process brought it there, it is right.

use tailpin::{Order, PIN_LIMIT, Pfn, REF_LIMIT};

use super::word::Word;

const ONE_PIN: u64 = 1;
const ONE_BLOCK: u64 = 1 << BLOCKS_SHIFT;
const BLOCKS_SHIFT: u32 = 32;
const ORDER_SHIFT: u32 = 56;
const PINS: u64 = ONE_BLOCK - 1;
const BLOCKS: u64 = ((1 << ORDER_SHIFT) - 1) ^ PINS;
const _: () = assert!(PIN_LIMIT < PINS && REF_LIMIT < BLOCKS >> BLOCKS_SHIFT, "counts have room");

/// What one owner holds at one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LedgerEntry {
    /// Pins on it.
    pub(crate) pins: u64,
    /// References to the block of this order that was handed out here.
    pub(crate) blocks: u64,
    pub(crate) order: Order,
}

impl LedgerEntry {
    /// What a word of the ledger says.
    pub(crate) fn decode(word: u64) -> Self {
        Self {
            pins: word & PINS,
            blocks: (word & BLOCKS) >> BLOCKS_SHIFT,
            order: Order::new((word >> ORDER_SHIFT) as u8).unwrap_or(Order::MAX),
        }
    }
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

    /// One pin less. False, and nothing is changed, if there is none.
    pub(super) fn unpinned(&self, owner: usize, page: Pfn) -> bool {
        let less = |seen: u64| if seen & PINS > 0 { seen - ONE_PIN } else { seen };
        self.word(owner, page).change(less) & PINS > 0
    }

    /// One more reference to a block. All that an owner has at one page at the same time are to the
    /// same block.
    pub(super) fn got(&self, owner: usize, head: Pfn, order: Order) {
        let order = u64::from(order.get()) << ORDER_SHIFT;
        self.word(owner, head).change(|seen| order | ((seen & (PINS | BLOCKS)) + ONE_BLOCK));
    }

    /// One reference less. False, and nothing is changed, if there is none.
    pub(super) fn put(&self, owner: usize, head: Pfn) -> bool {
        let less = |seen: u64| if seen & BLOCKS > 0 { seen - ONE_BLOCK } else { seen };
        self.word(owner, head).change(less) & BLOCKS > 0
    }

    /// A look from outside of operations.
    pub(super) fn entry(&self, owner: usize, page: Pfn) -> LedgerEntry {
        LedgerEntry::decode(self.word(owner, page).value())
    }
}
