//! The two traces that are built in.

use super::{DEFAULT_LIMIT, Trace, TraceError, read};

/// A trace that is part of the program.
pub struct Builtin {
    /// What it is called on the command line.
    pub name: &'static str,
    compressed: &'static [u8],
}

static BUILTINS: [Builtin; 2] = [
    Builtin { name: "guest-pins", compressed: include_bytes!("../../../../traces/guest-pins.pft.zst") },
    Builtin { name: "node", compressed: include_bytes!("../../../../traces/node.pft.zst") },
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
