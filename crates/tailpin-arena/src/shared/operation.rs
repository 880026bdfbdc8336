//! What can be done to a shared arena, as programs over its words: the same program whether a
//! process runs it for itself or for one that did not get to the end.

use tailpin::{
    AllocError, BlockRefs, FrameRange, FrameWords, GetError, Hooks, MergeError, OneWord, Order, PagePin, Pfn,
    Pins, Rearrange, Request, SplitError, Zone,
};

use super::ledger::Ledger;
use super::step_recorder::StepRecorder;
use super::word::Word;

/// Most pages that one operation pins or unpins, so that it fits into its journal.
pub(super) const PAGES_AT_ONCE: u64 = 64;

/// An operation with its parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// A block with one reference.
    Alloc(Order),
    /// One more reference to a block that the owner has one of.
    Get(Pfn, Order),
    /// One reference less.
    Put(Pfn, Order),
    /// A pin on each page.
    Pin(FrameRange),
    /// One less on each.
    Unpin(FrameRange),
    /// Splits a block that the owner has a reference to into pieces of the second order.
    Split(Pfn, Order, Order),
    /// Makes a block of its pieces again.
    Merge(Pfn, Order),
    /// Gives pages at hand back to the store.
    Drain,
}

impl Operation {
    pub(super) fn encode(self) -> [u64; 3] {
        let of = |code: u64, head: Pfn, order: Order| [code | u64::from(order.get()) << 8, head.get(), 0];
        let on = |code, pages: FrameRange| [code, pages.start.get(), pages.end.get()];
        match self {
            Self::Alloc(order) => of(1, Pfn::new(0), order),
            Self::Get(head, order) => of(2, head, order),
            Self::Put(head, order) => of(3, head, order),
            Self::Pin(pages) => on(4, pages),
            Self::Unpin(pages) => on(5, pages),
            Self::Split(head, order, target) => {
                [6 | u64::from(order.get()) << 8, head.get(), target.get().into()]
            }
            Self::Merge(head, order) => of(7, head, order),
            Self::Drain => [8, 0, 0],
        }
    }

    /// Whether all it is about is within an arena of so many pages: what stands in a file may be
    /// anything.
    pub(super) fn is_within(self, pages: u64) -> bool {
        let block = |head: Pfn, order: Order| {
            let end = head.get().checked_add(order.frames());
            head.is_aligned(order) && end.is_some_and(|end| end <= pages)
        };
        match self {
            Self::Alloc(_) | Self::Drain => true,
            Self::Get(head, order) | Self::Put(head, order) | Self::Merge(head, order) => block(head, order),
            Self::Split(head, order, _) => block(head, order),
            Self::Pin(range) | Self::Unpin(range) => range.start <= range.end && range.end.get() <= pages,
        }
    }

    pub(super) fn decode([code, a, b]: [u64; 3]) -> Option<Self> {
        let (page, order) = (Pfn::new(a), Order::new((code >> 8) as u8)?);
        let pages = FrameRange { start: page, end: Pfn::new(b) };
        Some(match code & 0xff {
            1 => Self::Alloc(order),
            2 => Self::Get(page, order),
            3 => Self::Put(page, order),
            4 => Self::Pin(pages),
            5 => Self::Unpin(pages),
            6 => Self::Split(page, order, Order::new(b as u8)?),
            7 => Self::Merge(page, order),
            8 => Self::Drain,
            _ => return None,
        })
    }
}

/// Why an operation was not done; then nothing has changed, except after `NotHeld`,
/// which can't happen unless something else than this crate has written the words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    Alloc(AllocError),
    Get(GetError),
    Split(SplitError),
    Merge(MergeError),
    /// The ledger has nothing of the kind.
    NotHeld,
    /// The process is in the middle of an operation that panicked.
    Poisoned,
}

/// The zone in the shared words, and what each owner has of it.
pub(super) struct StateMachine {
    pub(super) zone: Zone<'static, OneWord<'static, Word>>,
    /// The protocol over the zone's words. The ledger has shown what may be done: handles' steps,
    /// which ask for no token and, of a process that died half way through, find what that left.
    pub(super) protocol: OneWord<'static, Word>,
    pub(super) ledger: Ledger,
}

impl StateMachine {
    /// Runs an operation for an owner. What is allocated is returned, or what was given.
    ///
    /// It reads nothing but its parameters and words, and does nothing that can't be done twice but
    /// to words.
    pub(super) fn run(&self, operation: Operation, owner: usize) -> Result<Pfn, Refusal> {
        let (raw, ledger) = (self.zone.raw(), &self.ledger);
        let (protocol, zone) = (&self.protocol, &self.zone);
        match operation {
            Operation::Alloc(order) => {
                let head = raw.alloc(Request::new(order)).map_err(Refusal::Alloc)?.pfn();
                ledger.got(owner, head, order);
                Ok(head)
            }
            Operation::Get(head, order) => {
                protocol.get_block(head, order, zone).map_err(Refusal::Get)?;
                ledger.got(owner, head, order);
                Ok(head)
            }
            Operation::Put(head, order) => {
                if !ledger.put(owner, head) {
                    return Err(Refusal::NotHeld);
                }
                protocol.put_block(head, order, zone);
                Ok(head)
            }
            Operation::Pin(pages) => {
                for page in pages.iter() {
                    if let Err(error) = raw.pin(page) {
                        self.unpin(FrameRange { start: pages.start, end: page }, owner)?;
                        return Err(Refusal::Get(error));
                    }
                    ledger.pinned(owner, page);
                }
                Ok(pages.start)
            }
            Operation::Unpin(pages) => self.unpin(pages, owner),
            Operation::Split(head, order, target) => {
                protocol.split(FrameRange::block(head, order), target, zone).map_err(Refusal::Split)?;
                Ok(head)
            }
            Operation::Merge(head, order) => {
                protocol.merge(head, order, zone).map_err(Refusal::Merge)?;
                Ok(head)
            }
            Operation::Drain => {
                self.zone.drain();
                Ok(Pfn::new(0))
            }
        }
    }

    fn unpin(&self, pages: FrameRange, owner: usize) -> Result<Pfn, Refusal> {
        for page in pages.iter() {
            if !self.ledger.unpinned(owner, page) {
                return Err(Refusal::NotHeld);
            }
            let pin = PagePin { page, counted_at: page };
            self.protocol.put(self.protocol.counted(pin), &self.zone);
        }
        Ok(pages.start)
    }
}

/// Begins the generations of pages, before any process can obtain one of them.
pub(super) struct NewGenerations;

impl Hooks for NewGenerations {
    fn before_publication(&self, head: Pfn, order: Order, _zero: bool) {
        if let Some((generations, operation)) = StepRecorder::generations() {
            generations.begin(FrameRange::block(head, order), operation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read_as_they_were_written() {
        let (head, of, to) = (Pfn::new(512), Order::HUGE, Order::new(3).unwrap());
        let pages = FrameRange::new(Pfn::new(7), 64);
        let all = [
            Operation::Alloc(of),
            Operation::Get(head, of),
            Operation::Put(head, Order::PAGE),
            Operation::Pin(pages),
            Operation::Unpin(pages),
            Operation::Split(head, of, to),
            Operation::Merge(head, of),
            Operation::Drain,
        ];
        for operation in all {
            assert_eq!(Operation::decode(operation.encode()), Some(operation));
        }
        assert_eq!(Operation::decode([99, 0, 0]), None);
        assert_eq!(Operation::decode([1 | 77 << 8, 0, 0]), None);
    }
}
