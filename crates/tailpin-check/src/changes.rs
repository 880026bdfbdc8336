//! Each distinct change of a page word that an exploration met, and the line of shipped code that
//! made it: what the steps of the proof are held against.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::trace::Name;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// File of the one-word protocol in which it is made, without its folder.
    pub file: String,
    /// Line of it.
    pub line: u32,
    /// The frame whose word changes.
    pub frame: u32,
    /// The words of all explored frames before the change.
    pub words: BTreeMap<u32, u64>,
    /// The word after it.
    pub after: u64,
}

/// Where changes are gathered, by all threads of a run.
#[derive(Clone, Debug, Default)]
pub struct Changes(Arc<Mutex<BTreeSet<Change>>>);

impl Changes {
    /// All that were met so far, each once, in order.
    pub fn all(&self) -> Vec<Change> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Gathers what the executions in `body` change.
    pub(crate) fn during<T>(&self, body: impl FnOnce() -> T) -> T {
        BOARD.with_borrow_mut(|board| board.gathered = Some(BTreeSet::new()));
        let result = body();
        let gathered = BOARD.with_borrow_mut(|board| board.gathered.take()).unwrap_or_default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(gathered);
        result
    }
}

#[derive(Default)]
struct Board {
    /// The words of this execution.
    words: BTreeMap<u32, u64>,
    gathered: Option<BTreeSet<Change>>,
}

thread_local! {
    static BOARD: RefCell<Board> = RefCell::default();
}

/// Forgets the execution before.
pub(crate) fn begin() {
    BOARD.with_borrow_mut(|board| board.words.clear());
}

/// Notes what a page word is at first, and when the threads start.
pub(crate) fn starts(name: &Name, value: u64) {
    BOARD.with_borrow_mut(|board| {
        if name.field.is_empty() && board.gathered.is_some() {
            board.words.insert(name.frame, value);
        }
    });
}

/// Notes what became of a word, at `place` in the code.
pub(crate) fn changed(name: &Name, after: u64, place: &Location<'_>) {
    BOARD.with_borrow_mut(|board| {
        let Board { words, gathered: Some(gathered) } = board else { return };
        // A page word of the one-word protocol has no field of that name.
        if !name.field.is_empty() || words.get(&name.frame) == Some(&after) {
            return;
        }
        let path = Path::new(place.file());
        if path.parent().is_some_and(|folder| folder.ends_with("one_word")) {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (line, frame) = (place.line(), name.frame);
            gathered.insert(Change { file, line, frame, words: words.clone(), after });
        }
        words.insert(name.frame, after);
    });
}
