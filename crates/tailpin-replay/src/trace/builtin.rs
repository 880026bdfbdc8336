//! The two traces that are built in, and finding a trace by its name or path.

use std::io;
use std::path::Path;

use super::read::{DEFAULT_LIMIT, open, read};
use super::{Trace, TraceError};

/// A trace that is part of the program.
pub struct Builtin {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What was recorded, as the end of a sentence that begins "What was recorded: ".
    pub about: &'static str,
    compressed: &'static [u8],
}

static BUILTINS: [Builtin; 2] = [
    Builtin {
        name: "guest-pins",
        about: "everything that a Linux 6.1 virtual machine did with its memory in 40.8 s, while a \
                program had io_uring read into single pages of huge buffers, and unmapped the rest",
        compressed: include_bytes!("../../traces/guest-pins.pft.zst"),
    },
    Builtin {
        name: "node",
        about: "everything that Linux 6.18 did with its memory in 21 s for Node.js, whose garbage \
                collector was at work, and for Python with numpy beside it",
        compressed: include_bytes!("../../traces/node.pft.zst"),
    },
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
pub const STANDARD_INPUT: &str = "-";

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
