//! A futex word as an operation names it.

use crate::memory::{Address, Memory};

/// Who may use a futex word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Threads of one address space: cheapest, since the page is not looked at.
    Private,
    /// Threads of every address space that maps the page.
    Shared,
}

/// A futex word as one address space sees it.
#[derive(Debug)]
pub struct Futex<'m, M> {
    /// The address space.
    pub memory: &'m M,
    /// Address of the word, a multiple of 4.
    pub at: Address,
    /// Who may use it. Private and shared never meet, even at the same word.
    pub scope: Scope,
}

impl<'m, M: Memory> Futex<'m, M> {
    /// A word for threads of this address space alone. `at` is its address as a number: of a
    /// `tailpin_mm::VirtAddr`, what `get` returns.
    #[inline]
    pub const fn private(memory: &'m M, at: u64) -> Self {
        Self { memory, at: Address::new(at), scope: Scope::Private }
    }

    /// A word for threads of every address space that maps its page. `at` is its address as a
    /// number: of a `tailpin_mm::VirtAddr`, what `get` returns.
    #[inline]
    pub const fn shared(memory: &'m M, at: u64) -> Self {
        Self { memory, at: Address::new(at), scope: Scope::Shared }
    }
}

impl<M> Clone for Futex<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Futex<'_, M> {}
