//! What waiters and wakers meet at.

use core::fmt;

use tailpin::PAGE_BYTES;

use crate::memory::{Address, ObjectId, SpaceId};

/// What a key is made from. Keys of different kinds never match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Address space and address; the page was not looked at.
    Private,
    /// Address space and address of a page that turned out to be anonymous.
    Anonymous,
    /// Object and index of the base page in it.
    Object,
}

/// Where a futex word is, independent of which frame holds it, of the size of the block around it
/// and of how it is mapped: a function of kind, identity, base page (index or address) and offset
/// only (N11).
///
/// ```
/// use tailpin_futex::{Address, Key, ObjectId, SpaceId};
/// let seen_here = Key::object(ObjectId(7), 3, Address::new(0x7f00_0010));
/// let seen_there = Key::object(ObjectId(7), 3, Address::new(0x5500_3010));
/// assert_eq!(seen_here, seen_there);
/// assert_ne!(seen_here, Key::object(ObjectId(7), 4, Address::new(0x7f00_1010)));
/// assert_ne!(Key::private(SpaceId(1), Address::new(16)), Key::anonymous(SpaceId(1), Address::new(16)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    identity: u64,
    /// Address of the base page, or its index.
    page: u64,
    offset: u16,
    kind: KeyKind,
}

impl Key {
    /// Key of a word that only this address space uses.
    #[inline]
    pub const fn private(space: SpaceId, at: Address) -> Self {
        Self { kind: KeyKind::Private, identity: space.0, page: at.page().get(), offset: at.offset() }
    }

    /// Key of a word in anonymous memory. Like the word, it does not match across a fork.
    pub const fn anonymous(space: SpaceId, at: Address) -> Self {
        Self { kind: KeyKind::Anonymous, identity: space.0, page: at.page().get(), offset: at.offset() }
    }

    /// Key of a word in base page `index` of an object; of `at` only the offset in the page is
    /// used.
    pub const fn object(object: ObjectId, index: u64, at: Address) -> Self {
        Self { kind: KeyKind::Object, identity: object.0, page: index, offset: at.offset() }
    }

    /// What the key is made from.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Offset of the word in its base page: 0 to 4092, a multiple of 4.
    pub const fn offset(&self) -> u16 {
        self.offset
    }

    /// A number in which neighbouring words, pages and objects differ in all bits.
    #[expect(clippy::arithmetic_side_effects, reason = "one of three kinds")]
    #[inline]
    pub(crate) const fn hash(&self) -> u64 {
        // Each step is a bijection of its own word, so two keys that differ in one field never
        // collide before the last fold: multiply by an odd number (the golden ratio's), fold the
        // upper half down.
        const fn mix(seed: u64, value: u64) -> u64 {
            let product = (seed ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            product ^ product >> 32
        }
        // Of an address or index the offset's bits are free, or unlike in nothing that exists.
        let place = self.page.rotate_left(PAGE_BYTES.trailing_zeros()) ^ self.offset as u64;
        mix(mix(self.kind as u64 + 1, self.identity), place)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            KeyKind::Private => write!(f, "private {}:{:#x}+{}", self.identity, self.page, self.offset),
            KeyKind::Anonymous => write!(f, "anonymous {}:{:#x}+{}", self.identity, self.page, self.offset),
            KeyKind::Object => write!(f, "object {} page {}+{}", self.identity, self.page, self.offset),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Key, ObjectId, SpaceId};

    /// Most keys in one of 4,096 buckets, for 4 keys per bucket.
    fn fullest(keys: impl Iterator<Item = Key>) -> u32 {
        let mut buckets = [0_u32; 4096];
        keys.take(4 * 4096).for_each(|key| buckets[key.hash() as usize % 4096] += 1);
        buckets.into_iter().max().unwrap_or(0)
    }

    #[test]
    fn keys_that_differ_in_little_spread_over_the_buckets() {
        let private = |n| Key::private(SpaceId(1), Address::new(n));
        let object = |object, index| Key::object(ObjectId(object), index, Address::new(64));
        // Were they spread by chance, the fullest of 4,096 buckets would have 14 or so.
        assert!(fullest((0..).map(|n| private(n * 4))) <= 16, "neighbouring words");
        assert!(fullest((0..).map(|n| private(n * 64))) <= 16, "neighbouring cache lines");
        assert!(fullest((0..).map(|n| private(n << 12))) <= 16, "neighbouring pages");
        assert!(fullest((0..).map(|n| private(n << 21))) <= 16, "neighbouring huge pages");
        assert!(fullest((0..).map(|n| object(9, n))) <= 16, "pages of an object");
        assert!(fullest((0..).map(|n| object(n, 3))) <= 16, "objects");
    }
}
