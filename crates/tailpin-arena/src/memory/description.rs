//! What an arena tells a reader in another process: where its words are.
//!
//! A description is a mapping of its own, found by its name in `/proc/PID/maps`. It is private, so
//! a forked child that has a copy of the arena has a copy of its description too. The arena writes
//! it when it is built, and again only when a tag is made; no one who looks writes to it.
//!
//! ```text
//! words   0  MAGIC, written last
//!         1  FORMAT
//!         2  how many fields follow
//!         3  sum over the fields
//!         4  fields, three words each: a name of up to 16 letters, and a number
//!       511  bytes that may be in use, and 1 more; 0 without a limit
//!       512  words used behind this one, for the names of tags, in the order in which tags
//!            are made: number | length << 16, and the letters
//! ```
//!
//! A reader knows the arena's words only if it was compiled from the same [`LAYOUT`] of the same
//! version; the description says both.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backing::{Backing, HugeSize, Reason};
use crate::memory::mapping::{Advice, Mapping, Source};
use crate::memory::memory_file::{self, FileError};
use crate::memory::system::{self, Errno};
use crate::memory::{Data, WordCounts, Words};

/// What the mapping is called.
pub(crate) const NAME: &str = "tailpin-description";

/// Counted up when the meaning or the place of any word of an arena changes: the test of that name
/// notices.
const LAYOUT: u64 = 2;

/// The way in which this page is written.
const FORMAT: u64 = 1;

const MAGIC: u64 = u64::from_le_bytes(*b"tailpin\x01");

const PAGE_WORDS: usize = 512;
/// Where the names of tags begin.
const NAMES: usize = PAGE_WORDS;
/// All words of a description.
const WORDS: usize = 16 * PAGE_WORDS;
/// Bytes of a description, and where in it the names of tags begin.
pub(crate) const BYTES: u64 = (WORDS * size_of::<u64>()) as u64;
pub(crate) const NAMES_AT: u64 = (NAMES * size_of::<u64>()) as u64;
const FIRST_FIELD: usize = 4;
const FIELD_WORDS: usize = 3;
const MOST_FIELDS: usize = (LIMIT - FIRST_FIELD) / FIELD_WORDS;
/// Where the limit is told, the one number that changes.
const LIMIT: usize = NAMES - 1;

/// Letters of a tag's name that are told.
const MOST_LETTERS: usize = 64;

/// The version of this crate.
const VERSION: u64 = version_number(env!("CARGO_PKG_VERSION"));

/// `1.2.3` as `1 << 32 | 2 << 16 | 3`.
const fn version_number(text: &str) -> u64 {
    let (bytes, mut i, mut number, mut part) = (text.as_bytes(), 0, 0, 0);
    while i < bytes.len() && (bytes[i] == b'.' || bytes[i].is_ascii_digit()) {
        if bytes[i] == b'.' {
            number = (number | part) << 16;
            part = 0;
        } else {
            part = part * 10 + (bytes[i] - b'0') as u64;
        }
        i += 1;
    }
    number | part
}

/// What a description says of its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Address of the data.
    pub(crate) data: u64,
    /// Pages of it, and the frame of the first.
    pub(crate) pages: u64,
    pub(crate) first: u64,
    /// Address of the words.
    pub(crate) words: u64,
    /// Where among the words those of pages, of history, of residency and of notes begin, in bytes.
    pub(crate) parts: [u64; 4],
    /// Bytes of all words, those of the CPUs included.
    pub(crate) metadata: u64,
    /// When the arena was built, on the machine's monotonic clock.
    pub(crate) built_ns: u64,
    /// When the arena was built, in ticks of the processor, in which ages are noted.
    pub(crate) built_ticks: u64,
    pub(crate) backing: Backing,
}

const BACKINGS: [Backing; 7] = [
    Backing::Anonymous,
    Backing::HugeTlb(HugeSize::Mib2),
    Backing::HugeTlb(HugeSize::Gib1),
    Backing::Memfd { huge: false },
    Backing::Memfd { huge: true },
    Backing::Plain,
    Backing::Heap,
];

/// More pages than any arena has (64 TiB), and more bytes than all words of so many.
const MOST_PAGES: u64 = 1 << 34;
const MOST_WORD_BYTES: u64 = 64 * MOST_PAGES;
/// Where the addresses of programs end, at the latest.
const ADDRESSES_END: u64 = 1 << 63;

/// What the parts are called.
const PARTS: [&str; 4] = ["page_words_at", "history_at", "residency_at", "notes_at"];

impl Facts {
    fn fields(&self) -> [(&'static str, u64); 14] {
        let backing = BACKINGS.iter().position(|backing| *backing == self.backing).unwrap_or(BACKINGS.len());
        [
            ("version", VERSION),
            ("layout", LAYOUT),
            ("data", self.data),
            ("pages", self.pages),
            ("first_frame", self.first),
            ("words", self.words),
            (PARTS[0], self.parts[0]),
            (PARTS[1], self.parts[1]),
            (PARTS[2], self.parts[2]),
            (PARTS[3], self.parts[3]),
            ("metadata", self.metadata),
            ("built_ns", self.built_ns),
            ("built_ticks", self.built_ticks),
            ("backing", backing as u64),
        ]
    }
}

fn name_words(name: &str) -> [u64; 2] {
    let mut letters = [0; 16];
    letters[..name.len()].copy_from_slice(name.as_bytes());
    let half = |at| u64::from_le_bytes(std::array::from_fn(|i| letters[at + i]));
    [half(0), half(8)]
}

/// FNV-1a over words.
fn sum(words: &[u64]) -> u64 {
    words
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Why a description tells this reader nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is being written at this moment, or is none.
    Unfinished,
    /// A program with another version of this crate wrote it: with this one, if it can be told.
    OtherVersion { version: Option<[u16; 3]> },
    /// Its sum is wrong, or a number is impossible.
    Damaged,
}

impl Facts {
    /// The facts in the words of a description, which may be anything.
    pub(crate) fn read(words: &[u64; PAGE_WORDS]) -> Result<Self, Unreadable> {
        let [magic, format, fields, told, ..] = *words;
        if magic != MAGIC {
            return Err(Unreadable::Unfinished);
        }
        if format != FORMAT {
            return Err(Unreadable::OtherVersion { version: None });
        }
        let fields = usize::try_from(fields).ok().filter(|n| *n <= MOST_FIELDS).ok_or(Unreadable::Damaged)?;
        let fields = &words[FIRST_FIELD..][..fields * FIELD_WORDS];
        if sum(fields) != told {
            return Err(Unreadable::Damaged);
        }
        let (fields, _) = fields.as_chunks::<FIELD_WORDS>();
        let field = |name: &str| {
            let [low, high] = name_words(name);
            fields.iter().find(|field| field[..2] == [low, high]).map(|field| field[2])
        };
        let version = field("version").unwrap_or(0);
        if (version, field("layout")) != (VERSION, Some(LAYOUT)) {
            let version = [32, 16, 0].map(|shift| (version >> shift) as u16);
            return Err(Unreadable::OtherVersion { version: Some(version) });
        }
        let number = |name| field(name).ok_or(Unreadable::Damaged);
        let backing = usize::try_from(number("backing")?).ok().and_then(|i| BACKINGS.get(i).copied());
        // What follows computes with these, unchecked.
        let up_to =
            |name, most| number(name).and_then(|n| if n > most { Err(Unreadable::Damaged) } else { Ok(n) });
        let part = |name| up_to(name, MOST_WORD_BYTES);
        Ok(Self {
            data: up_to("data", ADDRESSES_END)?,
            pages: up_to("pages", MOST_PAGES)?,
            first: up_to("first_frame", MOST_PAGES)?,
            words: up_to("words", ADDRESSES_END)?,
            parts: [part(PARTS[0])?, part(PARTS[1])?, part(PARTS[2])?, part(PARTS[3])?],
            metadata: number("metadata")?,
            built_ns: number("built_ns")?,
            built_ticks: number("built_ticks")?,
            backing: backing.ok_or(Unreadable::Damaged)?,
        })
    }
}

/// The limit in the words of a description, in bytes.
pub(crate) fn read_limit(words: &[u64; PAGE_WORDS]) -> Option<usize> {
    words[LIMIT].checked_sub(1).map(|bytes| bytes as usize)
}

/// The names of tags behind the first page of a description, by number; what can't be read ends
/// them.
pub(crate) fn read_names(words: &[u64]) -> Vec<(u16, String)> {
    let mut names = Vec::new();
    let Some((used, rest)) = words.split_first() else { return names };
    let mut rest = &rest[..rest.len().min(usize::try_from(*used).unwrap_or(usize::MAX))];
    while let Some((head, letters)) = rest.split_first() {
        let length = (head >> 16) as usize & 0xffff;
        let Some((name, next)) = letters.split_at_checked(length.div_ceil(8)) else { break };
        let bytes: Vec<u8> = name.iter().flat_map(|word| word.to_le_bytes()).take(length).collect();
        names.push((*head as u16, String::from_utf8_lossy(&bytes).into_owned()));
        rest = next;
    }
    names
}

/// Where the names of tags are written.
#[derive(Clone, Copy)]
pub(crate) struct TagNames(&'static [AtomicU64]);

impl TagNames {
    /// Names that no reader sees.
    pub(crate) const UNTOLD: Self = Self(&[]);

    /// One more name. One thread at a time. Where no more fit, the tag is told by its number alone.
    pub(crate) fn add(self, number: u16, name: &str) {
        let Some((used, rest)) = self.0.split_first() else { return };
        // Relaxed: the caller's lock orders it after the last name.
        let begin = used.load(Ordering::Relaxed) as usize;
        let mut length = name.len().min(MOST_LETTERS);
        while !name.is_char_boundary(length) {
            length -= 1;
        }
        let letters = name.as_bytes()[..length]
            .chunks(8)
            .map(|letters| u64::from_le_bytes(std::array::from_fn(|i| letters.get(i).copied().unwrap_or(0))));
        let entry: Vec<u64> =
            std::iter::once(u64::from(number) | (length as u64) << 16).chain(letters).collect();
        let Some(place) = rest.get(begin..).and_then(|rest| rest.get(..entry.len())) else { return };
        for (word, value) in place.iter().zip(&entry) {
            // Relaxed: published by the next line.
            word.store(*value, Ordering::Relaxed);
        }
        // Release: a reader that finds the number finds the name, as far as a copy of memory from
        // another process keeps to any order; a name that it finds half is a wrong name, no more.
        used.store((begin + entry.len()) as u64, Ordering::Release);
    }
}

/// A description, there for readers until it is dropped.
pub(crate) struct Description {
    mapping: Mapping,
    words: &'static [AtomicU64],
}

/// Describes an arena that is being built; where the system refuses it, why.
pub(crate) fn describe(
    backing: Backing,
    data: &Data,
    words: &Words,
    counts: WordCounts,
    built_ticks: u64,
) -> Result<Description, Reason> {
    let refused = |errno: Errno| Reason::NotDescribed { errno: errno.raw_os_error() };
    let parts = counts.observed().ok_or(refused(Errno::OVERFLOW))?;
    let facts = Facts {
        data: data.base.addr().get() as u64,
        pages: data.pages,
        first: data.first.get(),
        words: words.all.as_ptr().addr() as u64,
        parts: parts.map(|part| part.start),
        metadata: words.bytes() as u64,
        built_ns: system::clock_ns(),
        built_ticks,
        backing,
    };
    Description::new(&facts).map_err(refused)
}

impl Description {
    /// Writes one.
    fn new(facts: &Facts) -> Result<Self, Errno> {
        let bytes = WORDS * size_of::<u64>();
        let file = memory_file::create(NAME, bytes as u64).map_err(|error| match error {
            FileError::Limit { .. } => Errno::FBIG,
            FileError::System { errno, .. } => errno,
        })?;
        let mapping = Mapping::new(Source::CopyOf(file.as_fd()), bytes, crate::memory::PAGE_SIZE)?;
        // SAFETY: the mapping is zeroed, aligned, this long, and used as atomic words only. It goes
        // with this value, which its owner keeps longer than the names that it gave out.
        let words = unsafe { mapping.words() };
        let this = Self { mapping, words };
        let fields: Vec<u64> = facts
            .fields()
            .iter()
            .flat_map(|(name, value)| {
                let [low, high] = name_words(name);
                [low, high, *value]
            })
            .collect();
        let header = [FORMAT, (fields.len() / FIELD_WORDS) as u64, sum(&fields)];
        for (word, value) in this.words[1..].iter().zip(header.iter().chain(&fields)) {
            // Relaxed: published by the next line.
            word.store(*value, Ordering::Relaxed);
        }
        // Release: for a reader in this process; any other checks the sum.
        this.words[0].store(MAGIC, Ordering::Release);
        Ok(this)
    }

    /// Where the names of tags go. Not to be used after the description is gone.
    pub(crate) fn names(&self) -> TagNames {
        TagNames(&self.words[NAMES..])
    }

    /// Bytes that may be in use from here on, if there is a limit.
    pub(crate) fn set_limit(&self, bytes: Option<usize>) {
        // Relaxed: a number complete in itself.
        self.words[LIMIT].store(bytes.map_or(0, |bytes| (bytes as u64).saturating_add(1)), Ordering::Relaxed);
    }

    /// A forked child has no part in the arena, so it doesn't get the description.
    pub(crate) fn keep_from_children(&self) -> Result<(), Errno> {
        self.mapping.advise(0..self.mapping.len(), Advice::DontFork)
    }

    /// Leaves the description mapped when this is dropped.
    pub(crate) fn disown(&mut self) {
        self.mapping.disown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailpin::{Order, PageWord};

    const FACTS: Facts = Facts {
        data: 0x7000_0000_0000,
        pages: 512,
        first: 7,
        words: 0x7100_0000_0000,
        parts: [0, 4096, 9000, 10_000],
        metadata: 12_288,
        built_ns: 99,
        built_ticks: 7,
        backing: Backing::Memfd { huge: true },
    };

    fn written(description: &Description) -> [u64; PAGE_WORDS] {
        std::array::from_fn(|i| description.words[i].load(Ordering::Relaxed))
    }

    #[test]
    fn what_is_written_is_read() {
        for backing in BACKINGS {
            let facts = Facts { backing, ..FACTS };
            let description = Description::new(&facts).unwrap();
            assert_eq!(Facts::read(&written(&description)), Ok(facts));
            for limit in [Some(0), Some(5 << 40), None] {
                description.set_limit(limit);
                assert_eq!(read_limit(&written(&description)), limit);
            }
            assert_eq!(Facts::read(&written(&description)), Ok(facts));
        }
    }

    /// Each bit of what is told, changed alone.
    #[test]
    fn a_description_that_is_not_whole_is_refused() {
        let whole = written(&Description::new(&FACTS).unwrap());
        let used = FIRST_FIELD + FACTS.fields().len() * FIELD_WORDS;
        for bit in 0..used * 64 {
            let mut words = whole;
            words[bit / 64] ^= 1 << (bit % 64);
            assert!(Facts::read(&words).is_err(), "bit {bit}");
        }
        assert_eq!(Facts::read(&[0; PAGE_WORDS]), Err(Unreadable::Unfinished));
        assert_eq!(Facts::read(&[!0; PAGE_WORDS]), Err(Unreadable::Unfinished));
    }

    /// A sum says that a description was written as it is, not that what it says can be.
    #[test]
    fn impossible_numbers_are_refused() {
        let read = |facts| Facts::read(&written(&Description::new(&facts).unwrap()));
        let most = [u64::MAX, u64::MAX - 4095, ADDRESSES_END + 1];
        for wrong in most.into_iter().chain([MOST_WORD_BYTES + 1]) {
            for part in 0..4 {
                let mut facts = FACTS;
                facts.parts[part] = wrong;
                assert_eq!(read(facts), Err(Unreadable::Damaged), "part {part}: {wrong:#x}");
            }
            assert_eq!(read(Facts { pages: wrong, ..FACTS }), Err(Unreadable::Damaged));
            assert_eq!(read(Facts { first: wrong, ..FACTS }), Err(Unreadable::Damaged));
        }
        for wrong in most {
            assert_eq!(read(Facts { data: wrong, ..FACTS }), Err(Unreadable::Damaged));
            assert_eq!(read(Facts { words: wrong, ..FACTS }), Err(Unreadable::Damaged));
        }
        let last = Facts { pages: MOST_PAGES, parts: [MOST_WORD_BYTES; 4], data: ADDRESSES_END, ..FACTS };
        assert_eq!(read(last), Ok(last));
    }

    #[test]
    fn another_version_is_named() {
        let mut words = written(&Description::new(&FACTS).unwrap());
        words[FIRST_FIELD + 2] = version_number("9.8.7-rc.1");
        let end = FIRST_FIELD + FACTS.fields().len() * FIELD_WORDS;
        words[3] = sum(&words[FIRST_FIELD..end]);
        assert_eq!(Facts::read(&words), Err(Unreadable::OtherVersion { version: Some([9, 8, 7]) }));
    }

    #[test]
    fn names_are_told_until_no_more_fit() {
        let description = Description::new(&FACTS).unwrap();
        let read = || {
            read_names(
                &description.words[NAMES..].iter().map(|w| w.load(Ordering::Relaxed)).collect::<Vec<_>>(),
            )
        };
        assert_eq!(read(), []);
        let long = "ü".repeat(40);
        for (number, name) in (1..).zip(["a", "", "http-header", "12345678", &long]) {
            description.names().add(number, name);
        }
        let names = read();
        assert_eq!(
            names[..4],
            [(1, "a".into()), (2, String::new()), (3, "http-header".into()), (4, "12345678".into())]
        );
        assert_eq!(names[4], (5, "ü".repeat(32)));
        for number in 6..9000 {
            description.names().add(number, "another name");
        }
        let names = read();
        assert!(names.len() > 2000 && names[5..].iter().all(|(_, name)| name == "another name"));
        TagNames::UNTOLD.add(1, "nothing");
    }

    /// What a reader of another program takes for granted. If this fails, what an older or newer
    /// program has in its words would be misread: count `LAYOUT` up, and write the new sum here.
    #[test]
    fn the_layout_is_counted_up_when_words_change() {
        let mut told = Vec::new();
        for kind in 0..8_u64 {
            for bit in 0..61 {
                let state = PageWord::from_bits(kind << 61 | 1 << bit).decode();
                told.extend([state.kind as u64, u64::from(state.order.get()), state.pins, state.refs]);
                told.extend([u64::from(state.generation), u64::from(state.hwpoison)]);
            }
        }
        told.push(crate::history::Record::sample(Order::HUGE, 77));
        told.push(crate::page_notes::TagNumber::new(0x1234).get().into());
        told.push(crate::residency::Residency::words(1 << 20) as u64);
        assert_eq!((LAYOUT, sum(&told)), (2, 2_537_460_253_412_035_111));
    }
}
