//! What happened in one execution, word by word, and what broke.

use std::cell::RefCell;

use crate::engine::current_thread;

/// Which word of the model an operation was on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    /// Frame that the word belongs to.
    pub(crate) frame: u32,
    /// Field of the frame; empty where a frame has one word.
    pub(crate) field: &'static str,
    /// Makes a value of this word readable.
    pub(crate) decode: fn(u64) -> String,
}

impl Name {
    /// How a person calls the word.
    pub(crate) fn told(&self) -> String {
        match self.field {
            "" => format!("page {}", self.frame),
            "count" | "mapcount" | "flags" | "first_page" | "order" => {
                format!("page {} {}", self.frame, self.field)
            }
            field => format!("{field}[{}]", self.frame),
        }
    }

    /// Whether it is the same word.
    pub(crate) fn is(&self, other: &Self) -> bool {
        (self.frame, self.field) == (other.frame, other.field)
    }

    /// Whether it is a word of the allocator's, not of a page protocol's.
    pub(crate) fn is_of_allocator(&self) -> bool {
        ALLOCATORS.contains(&self.field)
    }
}

/// The allocator's words: a pageblock's bits and row map, the hints, a CPU's cache.
pub(crate) const ALLOCATORS: [&str; 4] = ["bits", "row map", "hint", "cache"];

/// What was done to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Read it.
    Load,
    /// Read it as it was before a change that is not ordered before this step.
    LoadOld,
    /// Wrote it without reading it.
    Store,
    /// Compared and swapped it.
    Cas,
    /// Compared it, and found something else.
    CasFails,
    /// Added to it.
    Add,
    /// Subtracted from it.
    Sub,
    /// Cleared bits.
    And,
    /// Set bits.
    Or,
}

impl Operation {
    /// The name in a list of steps.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::LoadOld => "load (old value)",
            Self::Store => "store",
            Self::Cas => "cas",
            Self::CasFails => "cas fails",
            Self::Add => "add",
            Self::Sub => "sub",
            Self::And => "and",
            Self::Or => "or",
        }
    }

    /// Whether it only reads.
    pub(crate) fn only_reads(self) -> bool {
        matches!(self, Self::Load | Self::LoadOld | Self::CasFails)
    }
}

/// One operation on a shared word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Index of the thread, [`MAIN`](crate::engine::MAIN) for set-up and audit.
    pub(crate) thread: usize,
    /// The word.
    pub(crate) name: Name,
    /// What was done.
    pub(crate) operation: Operation,
    /// What was read; for a store, what the checker last saw there.
    pub(crate) before: u64,
    /// What is there afterwards, as far as this thread knows.
    pub(crate) after: u64,
}

/// One use of memory that the words protect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    /// Index of the thread, [`MAIN`](crate::engine::MAIN) for set-up and audit.
    pub(crate) thread: usize,
    /// Of what: `page`, `table`.
    pub(crate) of: &'static str,
    /// Which of them.
    pub(crate) number: u64,
    /// Whether it was written.
    pub(crate) writes: bool,
}

/// A line of a trace.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// An operation on a word.
    Word(Step),
    /// A use of memory.
    Memory(Use),
    /// Something a thread says about itself, or a frame changing hands.
    Note(usize, String),
    /// What broke was noticed by this thread.
    Broke(usize),
}

impl Event {
    /// Index of the thread that did it.
    pub(crate) fn thread(&self) -> usize {
        match self {
            Self::Word(step) => step.thread,
            Self::Memory(memory) => memory.thread,
            Self::Note(thread, _) | Self::Broke(thread) => *thread,
        }
    }
}

#[derive(Default)]
struct Recorder {
    events: Vec<Event>,
    broke: Option<String>,
    dropped: usize,
}

/// A run that goes on for longer is stuck, and its beginning tells why.
const LONGEST: usize = 4_000;

thread_local! {
    static RECORDER: RefCell<Recorder> = RefCell::default();
}

/// Forgets the execution before.
pub(crate) fn begin() {
    RECORDER.with_borrow_mut(|recorder| {
        recorder.events.clear();
        recorder.broke = None;
        recorder.dropped = 0;
    });
}

fn push(event: Event) {
    RECORDER.with_borrow_mut(|recorder| {
        // What comes after a violation is no part of what led to it.
        if recorder.broke.is_some() {
            return;
        }
        if recorder.events.len() < LONGEST {
            recorder.events.push(event);
        } else {
            recorder.dropped += 1;
        }
    });
}

/// Notes an operation.
pub(crate) fn step(name: Name, operation: Operation, before: u64, after: u64) {
    push(Event::Word(Step { thread: current_thread(), name, operation, before, after }));
}

/// Notes a use of memory.
pub(crate) fn memory(of: &'static str, number: u64, writes: bool) {
    push(Event::Memory(Use { thread: current_thread(), of, number, writes }));
}

/// Notes something that is no operation on a word.
pub(crate) fn note(text: impl FnOnce() -> String) {
    push(Event::Note(current_thread(), text()));
}

/// Ends the execution: this must not happen.
pub(crate) fn violation(what: String) -> ! {
    break_with(|| what.clone());
    panic!("{what}")
}

/// Notes what broke, unless that is known.
pub(crate) fn break_with(what: impl FnOnce() -> String) {
    push(Event::Broke(current_thread()));
    RECORDER.with_borrow_mut(|recorder| {
        recorder.broke.get_or_insert_with(what);
    });
}

/// What broke in this execution.
pub(crate) fn broke() -> Option<String> {
    RECORDER.with_borrow(|recorder| recorder.broke.clone())
}

/// Whether something broke in this execution.
pub(crate) fn is_broken() -> bool {
    RECORDER.with_borrow(|recorder| recorder.broke.is_some())
}

/// Looks at the events of this execution.
pub(crate) fn with(look: impl FnOnce(&[Event])) {
    RECORDER.with_borrow(|recorder| look(&recorder.events));
}

/// The events of the last execution, and what broke if the model said so itself.
pub(crate) fn take() -> (Vec<Event>, Option<String>) {
    RECORDER.with_borrow_mut(|recorder| (std::mem::take(&mut recorder.events), recorder.broke.take()))
}
