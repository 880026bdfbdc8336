//! From an address to its key: `get_futex_key`.
//!
//! A private key is made without touching the page. For a shared one the base page is pinned,
//! asked, and unpinned; of the page nothing is kept but what it said. Other threads may split,
//! collapse, move or truncate the page during all of it: nothing here depends on that.
//!
//! Every new attempt has a reason (N10): a page that a fault had made present was gone again, or a
//! page had been taken out of its object, or it was anonymous and only readable where an anonymous
//! page is refused. The last two are answered with an error when two attempts in a row say the same
//! of the same page. So with `c` changes of the mapping by other threads there are at most `2 + c`
//! attempts, each of which pins at most twice and once more for each change.

use crate::error::Error;
use crate::futex::{Futex, Scope};
use crate::key::Key;
use crate::memory::{Access, Address, Fault, Memory, PageOwner};
use crate::safeguards::{Safeguard, Safeguards};

/// A futex's key, and what it took to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derived {
    /// The key.
    pub key: Key,
    /// How often the page was looked at: 0 for a private key, 1 if no other thread interfered.
    pub attempts: u32,
}

/// Makes the key of a futex, for an operation that needs `access` to the word.
///
/// Writing is asked for first even by an operation that only reads, since a private mapping that
/// may be written has an anonymous key, and waiter and waker must agree.
///
/// `give_up` is asked before each attempt to pin but the first, with the number of attempts made;
/// what it returns ends an otherwise unbounded chase after a mapping that other threads go on
/// changing.
///
/// # Errors
/// [`Error::Misaligned`], [`Error::Fault`], [`Error::ReadOnlyAnonymous`],
/// [`Error::SpecialMapping`], and what `give_up` says.
#[doc(alias = "get_futex_key")]
#[inline] // A private key is a few instructions; through memory its result is as many again.
pub fn derive<M: Memory, G: Safeguards<Safeguard>>(
    futex: &Futex<'_, M>,
    access: Access,
    give_up: impl FnMut(u32) -> Option<Error>,
) -> Result<Derived, Error> {
    let Futex { memory, at, scope } = *futex;
    if !at.is_aligned() {
        return Err(Error::Misaligned { at });
    }
    match scope {
        Scope::Private => Ok(Derived { key: Key::private(memory.space(), at), attempts: 0 }),
        Scope::Shared => derive_shared::<M, G>(memory, at, access, give_up),
    }
}

/// Makes the key of an aligned word that any address space may use: asks the page it is in.
#[inline(never)]
fn derive_shared<M: Memory, G: Safeguards<Safeguard>>(
    memory: &M,
    at: Address,
    access: Access,
    mut give_up: impl FnMut(u32) -> Option<Error>,
) -> Result<Derived, Error> {
    let mut pages = PageLookup { memory, at, access, asks: Access::Write, pins_tried: 0 };
    let mut refused = None;
    for attempts in 1_u32.. {
        if G::keeps(Safeguard::H25) {
            pages.asks = Access::Write;
        }
        let page = pages.pin::<G>(&mut give_up)?;
        // While the page is pinned (H9). The index first: if the owner is known after it, the page
        // was the object's all the time.
        let index = memory.index(&page);
        let owner = memory.owner(&page);
        let name = memory.name(&page);
        memory.unpin(page);
        let refusal = match owner {
            PageOwner::Object(object) => {
                return Ok(Derived { key: Key::object(object, index, at), attempts });
            }
            PageOwner::Anonymous if pages.asks == Access::Write => {
                return Ok(Derived { key: Key::anonymous(memory.space(), at), attempts });
            }
            PageOwner::Anonymous => Error::ReadOnlyAnonymous { at },
            PageOwner::Special | PageOwner::Gone => Error::SpecialMapping { at },
        };
        if refused == Some((name, refusal)) {
            return Err(refusal);
        }
        refused = Some((name, refusal));
    }
    Err(Error::TooManyRetries { at, attempts: u32::MAX })
}

/// Finds the page at an address, again and again.
struct PageLookup<'m, M> {
    memory: &'m M,
    at: Address,
    /// What the operation can't do without.
    access: Access,
    /// What is asked for now.
    asks: Access,
    pins_tried: u32,
}

impl<M: Memory> PageLookup<'_, M> {
    /// Pins the page, for writing if that is possible at all.
    fn pin<G: Safeguards<Safeguard>>(
        &mut self,
        give_up: &mut impl FnMut(u32) -> Option<Error>,
    ) -> Result<M::Page, Error> {
        loop {
            if self.pins_tried > 0
                && let Some(error) = give_up(self.pins_tried)
            {
                return Err(error);
            }
            self.pins_tried = self.pins_tried.saturating_add(1);
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
            // The next attempt asks for what this fault has proved possible, and for no more.
            if !G::keeps(Safeguard::H8) {
                self.asks = Access::Write;
            }
        }
    }

    fn error(&self, fault: Fault) -> Error {
        Error::Fault { at: self.at, fault }
    }
}
