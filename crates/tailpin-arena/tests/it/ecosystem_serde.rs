//! Slices written as bytes, and read back on the heap.

#![cfg(feature = "serde")]

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{BytesDeserializer, Error, SeqDeserializer, StrDeserializer};
use tailpin_arena::{Arena, Kept, Policy};

#[test]
fn a_slice_is_written_as_bytes_and_read_back() {
    let arena = Arena::builder().size(4 << 20).build().unwrap();
    let mut buffer = arena.alloc(9000).unwrap();
    buffer.fill(7);
    let whole = buffer.freeze();
    for part in [whole.slice(..0), whole.slice(..1), whole.clone()] {
        let text = serde_json::to_string(&part).unwrap();
        assert_eq!(text, serde_json::to_string(&part.clone().keep(Policy::CopyBelow(usize::MAX))).unwrap());
        let back: Kept = serde_json::from_str(&text).unwrap();
        assert_eq!((back, text.len()), (Kept::from(part.clone()), 2 + (2 * part.len()).saturating_sub(1)));
    }
    assert!(serde_json::from_str::<Kept>("[1, 256]").is_err());
}

#[test]
fn bytes_are_read_in_whichever_way_a_format_has_them() {
    let bytes: BytesDeserializer<'_, Error> = b"abc"[..].into_deserializer();
    let text: StrDeserializer<'_, Error> = "abc".into_deserializer();
    let list: SeqDeserializer<_, Error> = SeqDeserializer::new(b"abc".iter().copied());
    assert_eq!(Kept::deserialize(bytes).unwrap(), b"abc");
    assert_eq!(Kept::deserialize(text).unwrap(), b"abc");
    assert_eq!(Kept::deserialize(list).unwrap(), b"abc");
    // A length that a format only claims.
    let claims = SeqDeserializer::<_, Error>::new(Claims(2));
    assert_eq!(Kept::deserialize(claims).unwrap(), [1, 0]);
}

/// A list of so many bytes that says that it has as many as there can be.
struct Claims(u8);

impl Iterator for Claims {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        self.0 = self.0.checked_sub(1)?;
        Some(self.0)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, Some(usize::MAX))
    }
}
