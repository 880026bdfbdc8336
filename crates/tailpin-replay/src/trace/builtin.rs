//! The two traces that are built in, and finding a trace by its name or path.

use std::io;
use std::path::Path;

use super::read::{DEFAULT_LIMIT, open, read};
use super::{Trace, TraceError};

/// A trace that is part of the program.
pub struct Builtin {
    /// What it is called on the command line.
    pub name: &'static str,
    compressed: &'static [u8],
}

static BUILTINS: [Builtin; 2] = [
    Builtin { name: "guest-pins", compressed: include_bytes!("../../traces/guest-pins.pft.zst") },
    Builtin { name: "node", compressed: include_bytes!("../../traces/node.pft.zst") },
];

/// All of them; the first is the one replayed when none is named.
pub fn builtins() -> &'static [Builtin] {
    &BUILTINS
}

impl Builtin {
    /// The one called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        BUILTINS.iter().find(|builtin| builtin.name == name)
    }

    /// Decompresses and checks it.
    ///
    /// # Errors
    /// None but by a damaged program.
    pub fn open(&self) -> Result<Trace, TraceError> {
        read(self.name.to_owned(), self.compressed, DEFAULT_LIMIT)
    }
}

/// The path that means standard input.
const STANDARD_INPUT: &str = "-";

/// Opens a built-in trace by its name, any other by its path; `-` is standard input.
///
/// # Errors
/// [`TraceError::NoSuchTrace`] if it is neither; else what [`open`] says.
pub fn find(path: &Path, limit: u64) -> Result<Trace, TraceError> {
    match path.to_str().and_then(Builtin::named) {
        Some(builtin) => builtin.open(),
        None if path == Path::new(STANDARD_INPUT) => {
            read("standard input".to_owned(), io::stdin().lock(), limit)
        }
        None => open(path, limit).map_err(|error| match error {
            TraceError::Io(source) if source.kind() == io::ErrorKind::NotFound => {
                TraceError::NoSuchTrace { builtins: builtins().iter().map(|builtin| builtin.name).collect() }
            }
            error => error,
        }),
    }
}
