//! From an address to its key: `get_futex_key`.
//!
//! A private key is made without touching the page. For a shared one the base page is pinned,
//! asked, and unpinned; then nothing of it is kept but what it said. Nothing here depends on the
//! page not being split, collapsed, moved or truncated meanwhile.
//!
//! Every new look has a reason (N10): a page that a fault had made present was gone again, or a
//! page belonged to nobody any more, or it was anonymous and only readable where an anonymous page
//! is refused. The last two are answered with an error when two looks in a row say the same of the
//! same page. So with `c` changes of the mapping by others there are at most `2 + c` looks, each
//! with at most two attempts to pin plus one for each change.

use crate::error::Error;
use crate::futexes::{Futex, Scope};
use crate::key::Key;
use crate::memory::{Access, Address, Fault, Memory, Owner};
use crate::steps::Steps;

/// A key and what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derived {
    /// The key.
    pub key: Key,
    /// How often the page was looked at: 0 for a private key, 1 if nobody interfered.
    pub looks: u32,
}

/// Makes the key of a futex, for an operation that needs `access` to the word.
///
/// Writing is asked for first even by those who only read, since a private mapping that may be
/// written has an anonymous key, and waiter and waker must agree.
///
/// `give_up` is asked before each attempt but the first, with their number; it may end an otherwise
/// unbounded chase after a mapping that others go on changing.
///
/// # Errors
/// [`Error::Misaligned`], [`Error::Fault`], [`Error::ReadOnlyAnonymous`],
/// [`Error::SpecialMapping`], and what `give_up` says.
pub fn derive<M: Memory, P: Steps>(
    futex: &Futex<'_, M>,
    access: Access,
    mut give_up: impl FnMut(u32) -> Option<Error>,
) -> Result<Derived, Error> {
    let Futex { memory, at, scope } = *futex;
    if !at.is_aligned() {
        return Err(Error::Misaligned { at });
    }
    if scope == Scope::Private {
        return Ok(Derived { key: Key::private(memory.space(), at), looks: 0 });
    }
    let mut look = Look { memory, at, access, asks: Access::Write, attempts: 0 };
    let mut refused = None;
    for looks in 1_u32.. {
        look.asks = P::asks_afresh(look.asks);
        let page = look.pin::<P>(&mut give_up)?;
        let (owner, index) = P::before_unpin(
            || {
                // The index first: if the owner is known after it, the page was the object's all
                // the time.
                let index = memory.index(P::whose_index(page, || memory.head(page)));
                (memory.owner(P::whose_owner(page, || memory.head(page))), index)
            },
            || memory.unpin(page),
        );
        let refusal = match owner {
            Owner::Object(object) => return Ok(Derived { key: Key::object(object, index, at), looks }),
            Owner::Anonymous if look.asks == Access::Write => {
                return Ok(Derived { key: Key::anonymous(memory.space(), at), looks });
            }
            Owner::Anonymous => Error::ReadOnlyAnonymous { at },
            Owner::Special | Owner::Nobody => Error::SpecialMapping { at },
        };
        if refused == Some((page, refusal)) {
            return Err(refusal);
        }
        refused = Some((page, refusal));
    }
    Err(Error::Restless { at, looks: u32::MAX })
}

/// One look at an address after the other.
struct Look<'m, M> {
    memory: &'m M,
    at: Address,
    /// What the operation can't do without.
    access: Access,
    /// What is asked for now.
    asks: Access,
    attempts: u32,
}

impl<M: Memory> Look<'_, M> {
    /// Pins the page, for writing if that is possible at all.
    fn pin<P: Steps>(&mut self, give_up: &mut impl FnMut(u32) -> Option<Error>) -> Result<M::Page, Error> {
        loop {
            if self.attempts > 0
                && let Some(error) = give_up(self.attempts)
            {
                return Err(error);
            }
            self.attempts = self.attempts.saturating_add(1);
            if let Ok(page) = self.memory.pin(self.at, self.asks) {
                return Ok(page);
            }
            match self.memory.fault(self.at, self.asks) {
                Err(Fault::NotWritable) if self.asks == Access::Write && self.access == Access::Read => {
                    self.asks = Access::Read;
                    self.memory.fault(self.at, Access::Read).map_err(|fault| self.error(fault))?;
                }
                done => done.map_err(|fault| self.error(fault))?,
            }
            self.asks = P::asks_next(self.asks);
        }
    }

    fn error(&self, fault: Fault) -> Error {
        Error::Fault { at: self.at, fault }
    }
}
