//! Tags: names that a program gives its buffers, made at run time, each with a budget of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::budget::Budget;
use crate::budget::counts::UNLIMITED;
use crate::memory::description::TagNames;
use crate::page_notes::{MOST_TAGS, TagNumber};

/// Buffers tagged by name alone, after as many tags were made as are told apart.
pub(crate) const OTHER: &str = "(other)";

/// Tags in one part of the table, which is made when the first of them is.
const PART: usize = 256;
const PARTS: usize = (MOST_TAGS as usize + 1) / PART;

/// A tag.
pub(crate) struct TagState {
    pub(crate) name: Arc<str>,
    /// The pages of its buffers. They are counted at the centre alone.
    pub(crate) budget: Budget,
}

type Part = [OnceLock<TagState>; PART];

/// The tags of an arena. A tag is never removed.
pub(crate) struct Tags {
    /// Read without a lock, by threads that free pages of a tag.
    parts: [OnceLock<Box<Part>>; PARTS],
    numbers: RwLock<HashMap<Arc<str>, TagNumber>>,
    /// The names once more, for readers in other processes. Written under the lock of `numbers`.
    told: TagNames,
    any: AtomicBool,
}

impl Tags {
    pub(crate) fn new(told: TagNames) -> Self {
        Self {
            parts: [const { OnceLock::new() }; PARTS],
            numbers: RwLock::new(HashMap::new()),
            told,
            any: AtomicBool::new(false),
        }
    }

    /// Whether there is any.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        // Relaxed: a page of a tag was handed out after the tag was made, and is freed by a thread
        // that got it from there.
        self.any.load(Ordering::Relaxed)
    }

    /// The tag of that number; `None` for no tag.
    pub(crate) fn get(&self, number: TagNumber) -> Option<&TagState> {
        if number == TagNumber::NONE {
            return None;
        }
        let number = usize::from(number.get());
        self.parts.get(number / PART)?.get()?.get(number % PART)?.get()
    }

    /// The number of a name, made now if it is new; `None` if there are as many as there may be.
    pub(crate) fn number(&self, name: &str) -> Option<TagNumber> {
        if let Some(known) = self.numbers.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Some(*known);
        }
        let mut numbers = self.numbers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = numbers.get(name) {
            return Some(*known);
        }
        // The last is left for those that are not told apart; 0 is no tag.
        let last = usize::from(MOST_TAGS);
        let number = if name == OTHER { last } else { numbers.len() + 1 };
        if number >= last && name != OTHER {
            return None;
        }
        let number = TagNumber::new(number as u16);
        self.told.add(number.get(), name);
        let name: Arc<str> = Arc::from(name);
        let tag = TagState { name: Arc::clone(&name), budget: Budget::at_centre(UNLIMITED) };
        let part = &self.parts[usize::from(number.get()) / PART];
        let part = part.get_or_init(|| Box::new([const { OnceLock::new() }; PART]));
        // The number is new, so its place is empty.
        part[usize::from(number.get()) % PART].get_or_init(|| tag);
        numbers.insert(name, number);
        self.any.store(true, Ordering::Relaxed);
        Some(number)
    }

    /// The number of a name, or of [`OTHER`].
    pub(crate) fn number_or_other(&self, name: &str) -> TagNumber {
        self.number(name).or_else(|| self.number(OTHER)).unwrap_or_default()
    }

    /// All tags, in the order in which they were made.
    pub(crate) fn all(&self) -> impl Iterator<Item = &TagState> {
        self.parts.iter().filter_map(OnceLock::get).flat_map(|part| part.iter().filter_map(OnceLock::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_and_too_many_are_one() {
        let tags = Tags::new(TagNames::UNTOLD);
        assert!(!tags.any() && tags.get(TagNumber::default()).is_none());
        let last = u32::from(MOST_TAGS) - 1;
        for name in 1..=last {
            assert_eq!(tags.number(&name.to_string()).unwrap().get(), name as u16);
        }
        assert!(tags.any());
        assert_eq!(tags.number("7").unwrap().get(), 7);
        assert_eq!(tags.number("one more"), None);
        let other = tags.number_or_other("one more");
        assert_eq!((other.get(), &*tags.get(other).unwrap().name), (MOST_TAGS, OTHER));
        assert_eq!(tags.number_or_other("and another"), other);
        assert_eq!(&*tags.get(TagNumber::new(300)).unwrap().name, "300");
        assert_eq!(tags.all().count(), usize::from(MOST_TAGS));
    }
}
