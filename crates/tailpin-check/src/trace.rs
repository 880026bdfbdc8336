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
    /// Whether it is a word of the allocator's, not of a page protocol's.
    pub(crate) fn is_of_allocator(&self) -> bool {
        ALLOCATORS.contains(&self.field)
    }
}

/// The allocator's words: an area's bits and home, the hints, a CPU's slot.
pub(crate) const ALLOCATORS: [&str; 4] = ["bits", "home", "hint", "slot"];

/// One operation on a shared word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Index of the thread, [`MAIN`](crate::engine::MAIN) for set-up and audit.
    pub(crate) thread: usize,
    /// The word.
    pub(crate) name: Name,
    /// What was done: `load`, `store`, `cas`, `cas fails`, `add`, `sub`, `and`, `or`.
    pub(crate) operation: &'static str,
    /// What was read; for a store, what the checker last saw there.
    pub(crate) before: u64,
    /// What is there afterwards.
    pub(crate) after: u64,
}

/// A line of a trace.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// An operation on a word.
    Word(Step),
    /// Something a thread says about itself, or a frame changing hands.
    Note(usize, String),
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
        if recorder.events.len() < LONGEST {
            recorder.events.push(event);
        } else {
            recorder.dropped += 1;
        }
    });
}

/// Notes an operation.
pub(crate) fn step(name: Name, operation: &'static str, before: u64, after: u64) {
    push(Event::Word(Step { thread: current_thread(), name, operation, before, after }));
}

/// Notes something that is no operation on a word.
pub(crate) fn note(text: impl FnOnce() -> String) {
    push(Event::Note(current_thread(), text()));
}

/// Ends the execution: this must not happen.
pub(crate) fn violation(what: String) -> ! {
    RECORDER.with_borrow_mut(|recorder| {
        recorder.broke.get_or_insert_with(|| what.clone());
    });
    panic!("{what}")
}

/// The events of the last execution, and what broke if the model said so itself.
pub(crate) fn take() -> (Vec<Event>, Option<String>) {
    RECORDER.with_borrow_mut(|recorder| (std::mem::take(&mut recorder.events), recorder.broke.take()))
}
