//! Bytes are compared, ordered and hashed as bytes, whatever keeps them.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::handles::keep::Kept;
use crate::handles::scattered::slices::Scattered;
use crate::handles::slice::Slice;

macro_rules! compared_as_bytes {
    ($kind:ty) => {
        impl AsRef<[u8]> for $kind {
            fn as_ref(&self) -> &[u8] {
                self
            }
        }

        impl Borrow<[u8]> for $kind {
            fn borrow(&self) -> &[u8] {
                self
            }
        }

        impl PartialEq for $kind {
            fn eq(&self, other: &Self) -> bool {
                **self == **other
            }
        }

        impl Eq for $kind {}

        impl PartialOrd for $kind {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $kind {
            fn cmp(&self, other: &Self) -> Ordering {
                (**self).cmp(other)
            }
        }

        impl Hash for $kind {
            fn hash<H: Hasher>(&self, state: &mut H) {
                (**self).hash(state);
            }
        }

        compared_as_bytes!($kind, [u8], |other| other);
        compared_as_bytes!($kind, &[u8], |other| *other);
        compared_as_bytes!($kind, Vec<u8>, |other| other);

        impl<const N: usize> PartialEq<[u8; N]> for $kind {
            fn eq(&self, other: &[u8; N]) -> bool {
                **self == *other
            }
        }

        impl<const N: usize> PartialEq<&[u8; N]> for $kind {
            fn eq(&self, other: &&[u8; N]) -> bool {
                **self == **other
            }
        }
    };
    ($kind:ty, $other:ty, |$name:ident| $bytes:expr) => {
        impl PartialEq<$other> for $kind {
            fn eq(&self, $name: &$other) -> bool {
                let bytes: &[u8] = $bytes;
                **self == *bytes
            }
        }

        impl PartialEq<$kind> for $other {
            fn eq(&self, other: &$kind) -> bool {
                other == self
            }
        }
    };
}

compared_as_bytes!(Slice);
compared_as_bytes!(Kept);

/// The bytes, however they are cut into pieces.
impl PartialEq<[u8]> for Scattered {
    fn eq(&self, mut other: &[u8]) -> bool {
        self.len() == other.len()
            && self.chunks().all(|chunk| {
                let (same, rest) = other.split_at(chunk.len());
                other = rest;
                chunk == same
            })
    }
}

/// The bytes, however either is cut into pieces.
impl PartialEq for Scattered {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.chunks().flatten().eq(other.chunks().flatten())
    }
}

impl Eq for Scattered {}
