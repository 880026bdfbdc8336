//! Frame numbers, block orders and ranges of frames: the indices everything else speaks in.

use core::fmt;

/// Bytes of a page, the memory of one frame.
pub const PAGE_SIZE: usize = 4096;

/// Bytes in one frame as a `u64`, which addresses are on every machine.
pub const PAGE_BYTES: u64 = PAGE_SIZE as u64;

/// Frames in one 2 MiB pageblock, the unit in which the allocator and the page map are organised.
pub const PAGEBLOCK_FRAMES: usize = 1 << Order::HUGE.get();

/// Number of one 4 KiB page frame: its physical address divided by 4096.
///
/// ```
/// use tailpin::{Order, Pfn};
/// let tail = Pfn::new(0x12345);
/// assert_eq!(tail.head(Order::HUGE), Pfn::new(0x12200));
/// assert!(tail.head(Order::HUGE).is_aligned(Order::HUGE));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pfn(u64);

impl Pfn {
    /// The frame with this number.
    #[inline]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The frame number as an integer.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// First frame of the naturally aligned block of `order` that this frame lies in.
    #[inline]
    pub const fn head(self, order: Order) -> Self {
        Self(self.0 & !order.mask())
    }

    /// Whether a block of `order` may start here.
    #[inline]
    pub const fn is_aligned(self, order: Order) -> bool {
        self.0 & order.mask() == 0
    }

    /// The frame `frames` further on.
    ///
    /// # Panics
    /// If its number does not fit into 64 bits, also in release builds; see
    /// [`Pfn::checked_offset`].
    #[inline]
    pub const fn offset(self, frames: u64) -> Self {
        match self.checked_offset(frames) {
            Some(frame) => frame,
            None => beyond_64_bits(),
        }
    }

    /// The frame `frames` further on, `None` if its number does not fit into 64 bits.
    #[inline]
    pub const fn checked_offset(self, frames: u64) -> Option<Self> {
        match self.0.checked_add(frames) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

#[cold]
#[inline(never)]
const fn beyond_64_bits() -> ! {
    panic!("a frame number does not fit into 64 bits")
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pfn({:#x})", self.0)
    }
}

/// Size of a block as a power of two of 4 KiB frames: 0 (4 KiB) to 18 (1 GiB).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Order(u8);

impl Order {
    /// One page, 4 KiB.
    pub const PAGE: Self = Self(0);
    /// One row, 256 KiB: 64 frames, whose bits are one word of the allocator.
    pub const ROW: Self = Self(6);
    /// One pageblock, 2 MiB.
    pub const HUGE: Self = Self(9);
    /// The largest block, 1 GiB.
    pub const MAX: Self = Self(18);

    /// The order `order`, or `None` above 18.
    #[inline]
    pub const fn new(order: u8) -> Option<Self> {
        if order <= Self::MAX.0 { Some(Self(order)) } else { None }
    }

    /// For values that are in range by construction (a field of a page word, a loop up to `MAX`).
    #[inline]
    pub(crate) const fn wrap(order: u8) -> Self {
        debug_assert!(order <= Self::MAX.0);
        Self(order)
    }

    /// The exponent, 0 to 18.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Frames in a block of this order: 1 to 262,144.
    #[inline]
    pub const fn frames(self) -> u64 {
        1 << self.0
    }

    /// What the numbers of a block's frames differ in.
    #[inline]
    const fn mask(self) -> u64 {
        !(!0 << self.0)
    }

    /// Bytes in a block of this order: 4 KiB to 1 GiB.
    #[inline]
    pub const fn bytes(self) -> u64 {
        (PAGE_SIZE as u64) << self.0
    }

    /// All orders, smallest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..=Self::MAX.0).map(Self)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Order({})", self.0)
    }
}

/// A run of frames, `start` included, `end` excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameRange {
    /// First frame.
    pub start: Pfn,
    /// First frame after the range.
    pub end: Pfn,
}

impl FrameRange {
    /// `frames` frames from `start`.
    ///
    /// # Panics
    /// If the end does not fit into 64 bits, also in release builds.
    #[inline]
    pub const fn new(start: Pfn, frames: u64) -> Self {
        Self { start, end: start.offset(frames) }
    }

    /// The frames of the block of `order` at `head`.
    ///
    /// # Panics
    /// If the end does not fit into 64 bits, also in release builds.
    #[inline]
    pub const fn block(head: Pfn, order: Order) -> Self {
        Self::new(head, order.frames())
    }

    /// Whether a block of `order` at `head` lies in the range.
    pub(crate) fn holds_block(self, head: Pfn, order: Order) -> bool {
        self.start <= head && head.checked_offset(order.frames()).is_some_and(|end| end <= self.end)
    }

    /// Whether all frames of `other`, which has some, lie in the range.
    pub(crate) fn holds(self, other: Self) -> bool {
        self.start <= other.start && other.start < other.end && other.end <= self.end
    }

    /// The order of the aligned block that the range is, if it is one.
    pub(crate) fn as_order(self) -> Option<Order> {
        let frames = self.frames();
        let order = Order::new(u8::try_from(frames.trailing_zeros()).ok()?)?;
        (order.frames() == frames && self.start.is_aligned(order)).then_some(order)
    }

    /// The range that these ranges are together, if each begins where the one before it ends and
    /// there is one.
    pub(crate) fn of_row(mut ranges: impl Iterator<Item = Self>) -> Option<Self> {
        let first = ranges.next()?;
        ranges.try_fold(first, |row, next| {
            (row.end == next.start).then_some(Self { start: row.start, end: next.end })
        })
    }

    /// How many frames the range has.
    pub const fn frames(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Whether `pfn` is one of them.
    #[inline]
    pub const fn contains(self, pfn: Pfn) -> bool {
        self.start.0 <= pfn.0 && pfn.0 < self.end.0
    }

    /// Every frame of the range in turn.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Pfn> + Clone {
        (self.start.0..self.end.0).map(Pfn)
    }
}

const _: () = assert!(PAGEBLOCK_FRAMES == 512);
const _: () = assert!(Order::HUGE.bytes() == 2 << 20 && Order::MAX.bytes() == 1 << 30);
