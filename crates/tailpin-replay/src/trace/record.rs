//! One record: 16 bytes, decoded into a typed operation.

use tailpin::Order;

use super::error::RecordFault;
use super::format::{MAX_REFS, RECORD_BYTES};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A block was handed out.
    Alloc {
        /// First frame.
        pfn: u32,
        /// Size.
        order: Order,
    },
    /// A block was given back.
    Free {
        /// First frame.
        pfn: u32,
        /// Size.
        order: Order,
        /// How it came into the trace.
        kind: FreeKind,
    },
    /// A block was split; every piece has order `to`.
    Split {
        /// First frame.
        pfn: u32,
        /// Size before.
        order: Order,
        /// Size of every piece.
        to: Order,
    },
    /// References were taken on one frame, often a tail.
    Pin {
        /// The frame itself.
        pfn: u32,
        /// How many.
        refs: u16,
    },
    /// References on one frame were dropped.
    Unpin {
        /// The frame itself.
        pfn: u32,
        /// How many.
        refs: u16,
    },
    /// khugepaged looked at the pageblock of this frame; `None` if it found no page there.
    Collapse {
        /// Some frame of the pageblock.
        pfn: Option<u32>,
    },
    /// Only time passed.
    Time,
    /// Linux refused to split this block.
    SplitFail {
        /// First frame.
        pfn: u32,
        /// Size.
        order: Order,
    },
}

/// How a FREE came into the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeKind {
    /// The kernel reported it.
    Seen,
    /// Put in because an allocation came over the live block.
    Implied,
    /// The kernel freed more than this live block: everything live in the range goes.
    Larger,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds since the record before.
    pub dt: u32,
    /// What happened.
    pub op: Op,
}

impl Record {
    /// Nanoseconds since the record before, from the raw bytes.
    pub(crate) fn decode_dt(raw: &[u8; RECORD_BYTES]) -> u32 {
        u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]])
    }

    /// Decodes and checks one record.
    pub(crate) fn decode(raw: &[u8; RECORD_BYTES]) -> Result<Self, RecordFault> {
        let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let (pfn, aux) = (word(4), word(8));
        let [op, _cpu, order, mt] = [raw[12], raw[13], raw[14], raw[15]];

        let order_of = |order: u8| Order::new(order).ok_or(RecordFault::BadOrder { order });
        let block = || {
            let order = order_of(order)?;
            // An aligned block ends within 32 bits too.
            match u64::from(pfn) & (order.frames() - 1) {
                0 => Ok(order),
                _ => Err(RecordFault::Unaligned { pfn, order }),
            }
        };
        let refs = || match aux {
            0 => Err(RecordFault::NoReferences),
            1..=MAX_REFS => Ok(aux as u16),
            _ => Err(RecordFault::TooManyReferences { refs: aux }),
        };

        let op = match op {
            1 => Op::Alloc { pfn, order: block()? },
            2 => {
                let kind = match aux {
                    0 => FreeKind::Seen,
                    1 => FreeKind::Implied,
                    2 => FreeKind::Larger,
                    _ => return Err(RecordFault::BadAux { op: "FREE", aux }),
                };
                Op::Free { pfn, order: block()?, kind }
            }
            3 => {
                let (order, to) = (block()?, order_of(mt)?);
                if to >= order {
                    return Err(RecordFault::SplitNotSmaller { order, to });
                }
                if aux > 1 {
                    return Err(RecordFault::BadAux { op: "SPLIT", aux });
                }
                Op::Split { pfn, order, to }
            }
            4 => Op::Pin { pfn, refs: refs()? },
            5 => Op::Unpin { pfn, refs: refs()? },
            6 => Op::Collapse { pfn: (pfn != u32::MAX).then_some(pfn) },
            7 => Op::Time,
            8 => match block()? {
                Order::PAGE => {
                    return Err(RecordFault::SplitNotSmaller { order: Order::PAGE, to: Order::PAGE });
                }
                order => Op::SplitFail { pfn, order },
            },
            op => return Err(RecordFault::UnknownOp { op }),
        };
        Ok(Self { dt: Self::decode_dt(raw), op })
    }
}
