//! `serde`: what an arena keeps, written as bytes. Read back it is [`Kept`] on the heap, as there
//! is no arena at hand then.

use ::serde::de::{Error, SeqAccess, Visitor};
use ::serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::handles::keep::Kept;
use crate::handles::slice::Slice;

/// Most bytes for which room is made because the data says that they follow.
const BELIEVED: usize = 1 << 20;

impl Serialize for Slice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

/// A copy on the heap.
///
/// ```
/// # use tailpin_arena::{Arena, Kept};
/// # let arena = Arena::builder().size(16 << 20).build()?;
/// let mut buffer = arena.alloc(3)?;
/// buffer.copy_from_slice(b"abc");
/// let text = serde_json::to_string(&buffer.freeze())?;
/// let back: Kept = serde_json::from_str(&text)?;
/// assert_eq!(back, b"abc");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// Takes bytes in whichever way a format has them.
struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Kept;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Kept, E> {
        Ok(Kept::Copied(Box::from(bytes)))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Kept, E> {
        Ok(Kept::Copied(bytes.into_boxed_slice()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Kept, E> {
        self.visit_bytes(text.as_bytes())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kept, A::Error> {
        let mut bytes = Vec::with_capacity(list.size_hint().unwrap_or(0).min(BELIEVED));
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        self.visit_byte_buf(bytes)
    }
}
