//! The two protocols by name.

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum ProtocolKind {
    /// One word per frame, lock-free.
    OneWord,
    /// The mail's, corrected.
    Classic,
}

impl ProtocolKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::OneWord, Self::Classic];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneWord => "one-word",
            Self::Classic => "classic",
        }
    }
}
