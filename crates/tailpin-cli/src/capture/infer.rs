//! From what the kernel said to what a trace says: blocks whose beginning was not seen are left
//! out, and splits are told by the first smaller free.

use std::collections::BTreeMap;

use tailpin::Order;
use tailpin_replay::trace::{Circumstance, FreeKind, Op, Writer};

use super::ring::{Event, What};

/// How many of what there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) allocs: u64,
    pub(crate) frees: u64,
    pub(crate) splits: u64,
    /// Frees of frames that were allocated before the recording.
    pub(crate) unmatched: u64,
    /// Frees put in before an allocation over a live block.
    pub(crate) implied: u64,
    /// Frees of more than the live block.
    pub(crate) larger: u64,
    /// Events that say what can't be: a block that is not aligned, a number beyond 32 bits.
    pub(crate) impossible: u64,
}

impl Counts {
    pub(crate) fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("allocs", self.allocs),
            ("frees", self.frees),
            ("splits_inferred", self.splits),
            ("free_unmatched_dropped", self.unmatched),
            ("alloc_over_live_implied_free", self.implied),
            ("free_larger_than_live", self.larger),
            ("impossible_dropped", self.impossible),
        ]
    }
}

/// The blocks that are live, and the trace so far.
#[derive(Debug, Default)]
pub(crate) struct Inference {
    live: BTreeMap<u32, Order>,
    writer: Writer,
    counts: Counts,
}

/// A block that the kernel can have, or none.
fn block(pfn: u64, order: u64) -> Option<(u32, Order)> {
    let order = Order::new(u8::try_from(order).ok()?)?;
    let end = pfn.checked_add(order.frames())?;
    (pfn.is_multiple_of(order.frames()) && end <= 1 << 32).then_some((pfn as u32, order))
}

impl Inference {
    /// The next event, in order of time.
    pub(crate) fn take(&mut self, event: &Event) {
        let mut when = Circumstance { ns: event.ns, cpu: event.cpu, ..Circumstance::default() };
        match event.what {
            // An allocation that failed names no frame.
            What::Alloc { pfn: 0 | u64::MAX, .. } => {}
            What::Alloc { pfn, order, flags, migratetype } => {
                let Some((pfn, order)) = block(pfn, order) else { return self.counts.impossible += 1 };
                // What is still live there was freed when nothing was seen.
                for (head, order) in self.within(pfn, order) {
                    self.counts.implied += 1;
                    self.free(when, head, order, FreeKind::Implied);
                }
                when.flags = flags as u32;
                when.migratetype = migratetype as u8;
                self.counts.allocs += 1;
                self.live.insert(pfn, order);
                self.writer.add(when, Op::Alloc { pfn, order });
            }
            What::Free { pfn, order } => {
                let Some((pfn, order)) = block(pfn, order) else { return self.counts.impossible += 1 };
                self.freed(when, pfn, order);
            }
            What::Scan { pfn } => {
                let pfn = u32::try_from(pfn).ok().filter(|pfn| *pfn != u32::MAX);
                self.writer.add(when, Op::Collapse { pfn });
            }
        }
    }

    fn freed(&mut self, when: Circumstance, pfn: u32, order: Order) {
        match self.around(pfn) {
            Some((head, of)) if of > order => {
                self.counts.splits += 1;
                self.writer.add(when, Op::Split { pfn: head, order: of, to: order });
                let pieces = (of.frames() / order.frames()) as u32;
                let piece = |i: u32| head + i * order.frames() as u32;
                self.live.extend((0..pieces).map(|i| (piece(i), order)));
                self.counts.frees += 1;
                self.free(when, pfn, order, FreeKind::Seen);
            }
            Some((head, of)) if (head, of) == (pfn, order) => {
                self.counts.frees += 1;
                self.free(when, pfn, order, FreeKind::Seen);
            }
            _ => {
                let live = self.within(pfn, order);
                if live.is_empty() {
                    self.counts.unmatched += 1;
                } else {
                    self.counts.larger += 1;
                }
                for (head, order) in live {
                    self.free(when, head, order, FreeKind::Larger);
                }
            }
        }
    }

    fn free(&mut self, when: Circumstance, pfn: u32, order: Order, kind: FreeKind) {
        self.live.remove(&pfn);
        self.writer.add(when, Op::Free { pfn, order, kind });
    }

    /// The live block that a frame is in.
    fn around(&self, pfn: u32) -> Option<(u32, Order)> {
        let (head, order) = self.live.range(..=pfn).next_back()?;
        (u64::from(pfn - head) < order.frames()).then_some((*head, *order))
    }

    /// The live blocks that overlap one.
    fn within(&self, pfn: u32, order: Order) -> Vec<(u32, Order)> {
        let last = pfn + (order.frames() - 1) as u32;
        let first = self.around(pfn).map_or(pfn, |(head, _)| head);
        self.live.range(first..=last).map(|(head, order)| (*head, *order)).collect()
    }

    /// The trace, and what is in it.
    pub(crate) fn finish(self) -> (Writer, Counts) {
        (self.writer, self.counts)
    }
}

#[cfg(test)]
mod tests {
    use tailpin_replay::trace::{DEFAULT_LIMIT, Record, read};
    use tailpin_replay::{Reading, compile};

    use super::*;

    fn alloc(pfn: u64, order: u64) -> What {
        What::Alloc { pfn, order, flags: 0xcc0, migratetype: 1 }
    }

    /// The operations of the trace, which is one that replays.
    fn trace(events: &[What]) -> (Vec<Op>, Counts) {
        let mut inference = Inference::default();
        for (ns, what) in (1..).zip(events) {
            inference.take(&Event { ns, cpu: 0, thread: 1, what: *what });
        }
        let (writer, counts) = inference.finish();
        let trace = read("test".into(), &writer.finish("")[..], DEFAULT_LIMIT).unwrap();
        for as_recorded in [false, true] {
            compile(&trace, Reading { as_recorded, merges: true }).unwrap();
        }
        let ops: Result<Vec<Record>, _> = trace.records().collect();
        (ops.unwrap().into_iter().map(|record| record.op).collect(), counts)
    }

    fn order(order: u8) -> Order {
        Order::new(order).unwrap()
    }

    #[test]
    fn a_smaller_free_tells_a_split() {
        let free = |pfn, order| What::Free { pfn, order };
        let (ops, counts) = trace(&[alloc(512, 9), free(514, 1), free(513, 0), free(512, 1)]);
        let seen = |pfn, by| Op::Free { pfn, order: order(by), kind: FreeKind::Seen };
        let larger = Op::Free { pfn: 512, order: order(0), kind: FreeKind::Larger };
        assert_eq!(
            ops[1..],
            [
                Op::Split { pfn: 512, order: order(9), to: order(1) },
                seen(514, 1),
                Op::Split { pfn: 512, order: order(1), to: order(0) },
                seen(513, 0),
                larger,
            ]
        );
        assert_eq!((counts.splits, counts.frees, counts.larger), (2, 2, 1));
    }

    #[test]
    fn what_was_not_seen_is_left_out_or_put_in() {
        let (ops, counts) = trace(&[
            What::Free { pfn: 7, order: 0 },
            alloc(8, 3),
            alloc(12, 0),
            alloc(0, 0),
            alloc(u64::MAX, 0),
            alloc(3, 2),
            alloc(1 << 32, 0),
            alloc(4, 99),
            What::Scan { pfn: 512 },
            What::Scan { pfn: u64::MAX },
        ]);
        assert_eq!(
            ops,
            [
                Op::Alloc { pfn: 8, order: order(3) },
                Op::Free { pfn: 8, order: order(3), kind: FreeKind::Implied },
                Op::Alloc { pfn: 12, order: order(0) },
                Op::Collapse { pfn: Some(512) },
                Op::Collapse { pfn: None },
            ]
        );
        assert_eq!((counts.unmatched, counts.implied, counts.impossible), (1, 1, 3));
    }

    /// Any events at all make a trace that replays.
    #[test]
    fn whatever_the_kernel_says_the_trace_is_one_that_can_be() {
        let mut seed = 5_u64;
        for _ in 0..50 {
            let events: Vec<What> = (0..400)
                .map(|_| {
                    seed =
                        seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let order = (seed >> 40) % 5;
                    let pfn = ((seed >> 20) % 64) >> order << order;
                    if seed >> 62 < 2 { alloc(pfn, order) } else { What::Free { pfn, order } }
                })
                .collect();
            trace(&events);
        }
    }
}
