//! Arenas that several processes use at once, and that outlive any of them.
mod arena;
mod error;
mod handles;
mod journal;
mod ledger;
mod memory;
mod operation;
mod owners;
mod recover;
mod scribe;
mod stop;
mod token;
mod word;

#[cfg(test)]
mod tests;

pub use arena::SharedArena;
pub use error::{RecoverError, SharedError};
pub use handles::{SharedBlock, SharedBuffer, SharedSlice};
pub use owners::OwnerId;
pub use recover::Recovered;
pub use token::Token;

/// Handles go to other threads.
const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<SharedArena>();
    shared::<SharedBuffer>();
    shared::<SharedBlock>();
    shared::<SharedSlice>();
};
