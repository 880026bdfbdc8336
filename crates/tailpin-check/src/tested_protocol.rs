//! The two protocols, as they ship and with one safeguard left out, over words of any engine.

use std::sync::atomic::Ordering;

use tailpin::one_word::Safeguard as OneWordSafeguard;
use tailpin::{
    AllSafeguards, AtomicWord, Attach, FrameWords, GetError, Kind, OneWord, Order, PIN_LIMIT, PageWord, Pfn,
    Safeguards,
};
use tailpin_classic::{Classic, Safeguard as ClassicSafeguard};
use tailpin_futex::Safeguard as FutexSafeguard;
use tailpin_mm::model::Safeguard as MmSafeguard;

use crate::protocol_kind::ProtocolKind;
use crate::safeguards::LessOne;

/// Name of a word of a frame, and what makes its value readable.
pub(crate) type Field = (&'static str, fn(u64) -> String);

/// A protocol, before it is put over words.
pub(crate) trait TestedProtocol<W: AtomicWord + 'static>: Send + Sync + 'static {
    /// The protocol over words.
    type Over<'m>: Attach<'m, Word = W>;
    /// Which it is.
    const KIND: ProtocolKind;
    /// Safeguards of the futexes over it: all of them, or all but the one that is left out.
    type Futex: Safeguards<FutexSafeguard>;
    /// Safeguards of pinning by address: all of them, or all but the one that is left out.
    type Entry: Safeguards<MmSafeguard>;
    /// Names and decoders of a frame's words.
    const FIELDS: &'static [Field];
    /// Pins to add to a fresh block so that there is room for exactly one more.
    const ALL_BUT_ONE: u64;
    /// Adds `n` pins to a frame without asking, for tests near the limit.
    fn force_pins(words: &[W], frame: u64, n: u64);
    /// One more reference on a block found by its number, if the protocol has such a look-up.
    fn find_block(protocol: &Self::Over<'_>, head: Pfn, order: Order) -> Result<(), GetError>;
    /// Whether the protocol says that pins on this tail are counted in the tail.
    fn counts_tail(protocol: &Self::Over<'_>, page: u64) -> bool;
}

/// [`OneWord`] with safeguards `S`.
pub(crate) struct TestedOneWord<S = AllSafeguards>(std::marker::PhantomData<fn() -> S>);
/// [`Classic`] with safeguards `S`.
pub(crate) struct TestedClassic<S = AllSafeguards>(std::marker::PhantomData<fn() -> S>);
/// [`OneWord`] with one safeguard left out.
pub(crate) type OneWordLessOne = TestedOneWord<LessOne>;
/// [`Classic`] with one safeguard left out.
pub(crate) type ClassicLessOne = TestedClassic<LessOne>;

impl<W: AtomicWord + 'static, S> TestedProtocol<W> for TestedOneWord<S>
where
    S: Safeguards<OneWordSafeguard> + Safeguards<FutexSafeguard> + Safeguards<MmSafeguard>,
{
    type Futex = S;
    type Entry = S;
    type Over<'m> = OneWord<'m, W, S>;
    const KIND: ProtocolKind = ProtocolKind::OneWord;
    const FIELDS: &'static [Field] = &[("", page_word)];

    const ALL_BUT_ONE: u64 = PIN_LIMIT - 1;

    fn counts_tail(protocol: &Self::Over<'_>, page: u64) -> bool {
        !protocol.state(Pfn::new(page)).unsplittable
    }

    fn find_block(protocol: &Self::Over<'_>, head: Pfn, order: Order) -> Result<(), GetError> {
        protocol.get_block_found(head, order)
    }

    fn force_pins(words: &[W], frame: u64, n: u64) {
        words[frame as usize].fetch_add(n, Ordering::Relaxed);
    }
}

impl<W: AtomicWord + 'static, S> TestedProtocol<W> for TestedClassic<S>
where
    S: Safeguards<ClassicSafeguard> + Safeguards<FutexSafeguard> + Safeguards<MmSafeguard>,
{
    type Futex = S;
    type Entry = S;
    type Over<'m> = Classic<'m, W, S>;
    const KIND: ProtocolKind = ProtocolKind::Classic;
    const FIELDS: &'static [Field] = &[
        ("count", number),
        ("mapcount", number),
        ("flags", page_flags),
        ("first_page", number),
        ("order", number),
    ];

    // The count of a fresh block is 1 already.
    const ALL_BUT_ONE: u64 = (1 << 31) - 2;

    fn counts_tail(protocol: &Self::Over<'_>, page: u64) -> bool {
        protocol.compound_tail_refcounted(Pfn::new(page))
    }

    fn find_block(_: &Self::Over<'_>, _: Pfn, _: Order) -> Result<(), GetError> {
        Err(GetError::NotInUse)
    }

    fn force_pins(words: &[W], frame: u64, n: u64) {
        words[frame as usize * Self::FIELDS_PER_FRAME].fetch_add(n, Ordering::Relaxed);
    }
}

impl<S> TestedClassic<S> {
    const FIELDS_PER_FRAME: usize = 5;
}

pub(crate) fn number(value: u64) -> String {
    if value > 1 << 20 { format!("{value:#x}") } else { value.to_string() }
}

/// A page word in the words of the field: what it is, its order, pins and references.
pub(crate) fn page_word(value: u64) -> String {
    let word = PageWord::from_bits(value);
    let state = word.decode();
    let mut text = match state.kind {
        Kind::Implicit => "free or implicit tail".to_owned(),
        kind => format!("{kind:?}").to_lowercase(),
    };
    if word.is_uncoalesced(state.order) {
        text += " uncoalesced";
    }
    if state.order.get() > 0 {
        text += &format!("/{}", state.order);
    }
    // A count that was given back too often is a little below what the field can hold.
    let (field, few) = (2 * PIN_LIMIT, 1 << 16);
    let signed = |n: u64| if n > field - few { n as i64 - field as i64 } else { n as i64 };
    for (n, one, more) in [(signed(state.pins), "pin", "pins"), (state.refs as i64, "ref", "refs")] {
        if n != 0 {
            text += &format!(", {n} {}", if n == 1 { one } else { more });
        }
    }
    if state.unsplittable {
        text += ", unsplittable";
    }
    if state.hwpoison {
        text += ", hwpoison";
    }
    text
}

fn page_flags(value: u64) -> String {
    const NAMES: [&str; 8] =
        ["head", "tail", "LOCK", "reserved", "hwpoison", "hugetlb", "uncoalesced", "uncoalesced pageblock"];
    let set: Vec<_> = (0..NAMES.len()).filter(|bit| value >> bit & 1 != 0).map(|bit| NAMES[bit]).collect();
    if set.is_empty() { "none".to_owned() } else { set.join("+") }
}
