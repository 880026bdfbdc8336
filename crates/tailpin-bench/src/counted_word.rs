//! A word that counts the cache lines which CPUs take from each other, for as many CPUs as one
//! likes: the allocator's own code runs over it on one thread, in the name of one CPU after the
//! other.
//!
//! A line is fetched when a CPU writes to it and another CPU wrote to it last. That is what a
//! machine of many sockets pays for; how long it takes is the machine's, how often it happens is
//! the code's.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::AtomicWord;

/// Words to a cache line.
pub(crate) const LINE_WORDS: usize = 8;

/// What is known of one line.
#[derive(Clone, Copy)]
struct Line {
    /// The CPU that wrote to it last.
    writer: usize,
    fetches: u64,
}

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
    static LINES: RefCell<HashMap<usize, Line>> = RefCell::new(HashMap::new());
}

/// The CPU in whose name the calling thread acts.
pub(crate) fn cpu() -> usize {
    CPU.get()
}

/// Acts in the name of this CPU from here on.
pub(crate) fn act_as(cpu: usize) {
    CPU.set(cpu);
}

/// Forgets the fetches so far, and not which CPU wrote to which line.
pub(crate) fn start_counting() {
    LINES.with_borrow_mut(|lines| lines.values_mut().for_each(|line| line.fetches = 0));
}

/// Fetches since then: of all lines, and of the one with the most.
pub(crate) fn fetches() -> (u64, u64) {
    LINES.with_borrow(|lines| {
        lines.values().fold((0, 0), |(all, most), line| (all + line.fetches, most.max(line.fetches)))
    })
}

/// Forgets everything: the words are going to be others.
pub(crate) fn forget() {
    LINES.with_borrow_mut(HashMap::clear);
}

/// The word.
#[derive(Default)]
pub(crate) struct CountedWord(AtomicU64);

impl CountedWord {
    fn written(&self) {
        let cpu = cpu();
        let address = std::ptr::from_ref(self).addr() / (LINE_WORDS * size_of::<Self>());
        LINES.with_borrow_mut(|lines| {
            let line = lines.entry(address).or_insert(Line { writer: cpu, fetches: 0 });
            line.fetches += u64::from(line.writer != cpu);
            line.writer = cpu;
        });
    }
}

impl AtomicWord for CountedWord {
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }
    fn store(&self, value: u64, order: Ordering) {
        self.written();
        self.0.store(value, order);
    }
    fn compare_exchange(&self, current: u64, new: u64, ok: Ordering, err: Ordering) -> Result<u64, u64> {
        self.written();
        self.0.compare_exchange(current, new, ok, err)
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.written();
        self.0.fetch_add(value, order)
    }
    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        self.written();
        self.0.fetch_sub(value, order)
    }
    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.written();
        self.0.fetch_and(value, order)
    }
    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.written();
        self.0.fetch_or(value, order)
    }
    fn fence(order: Ordering) {
        AtomicU64::fence(order);
    }
    fn relax() {}
}

/// Zero-filled words, for a slice that begins with a line.
pub(crate) struct CountedWords(Vec<CountedWord>);

impl CountedWords {
    pub(crate) fn new(n: usize) -> Self {
        let n = n + LINE_WORDS - 1;
        Self((0..n).map(|_| CountedWord::default()).collect())
    }

    pub(crate) fn words(&self) -> &[CountedWord] {
        let skip = self.0.as_ptr().align_offset(LINE_WORDS * size_of::<CountedWord>());
        &self.0[skip..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_fetched_when_the_last_writer_was_another_cpu() {
        forget();
        let words = CountedWords::new(2 * LINE_WORDS);
        let [first, second] = [0, LINE_WORDS].map(|at| &words.words()[at]);
        act_as(0);
        first.store(1, Ordering::Relaxed);
        act_as(1);
        second.store(1, Ordering::Relaxed);
        first.load(Ordering::Relaxed);
        assert_eq!(fetches(), (0, 0), "each line has one writer");
        words.words()[1].store(1, Ordering::Relaxed);
        assert_eq!(fetches(), (1, 1), "another word of the first line");
        first.fetch_add(1, Ordering::Relaxed);
        assert_eq!(fetches(), (1, 1), "it is there by now");
        act_as(0);
        assert!(first.compare_exchange(9, 0, Ordering::Relaxed, Ordering::Relaxed).is_err());
        second.fetch_or(1, Ordering::Relaxed);
        assert_eq!(fetches(), (3, 2), "also for what changes nothing");
        start_counting();
        second.fetch_sub(1, Ordering::Relaxed);
        assert_eq!(fetches(), (0, 0));
        forget();
        act_as(0);
    }
}
