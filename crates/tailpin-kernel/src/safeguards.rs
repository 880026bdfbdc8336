//! What each race of the shootdowns is prevented by, so that a model checker, and a kernel that is
//! broken on purpose, can leave one out.

pub use tailpin::{AllSafeguards, Safeguards};

/// A protective step of a shootdown, under its name in docs/races.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Safeguard {
    /// Other CPUs are asked to drop their translations.
    KAsk,
    /// A CPU that is asked drops its translations before it answers.
    KFlush,
    /// The CPU that asks waits for the answers.
    KWait,
    /// A CPU that waits for answers answers the rounds of others.
    KAnswer,
    /// A CPU is marked before it loads a table or begins a section, not after it has.
    KMark,
    /// A full barrier between the change of an entry and the look at the marks. Pairs with
    /// [`KLoad`](Self::KLoad): the look finds the mark, or the marked CPU finds the change.
    KShoot,
    /// A full barrier between a CPU's mark and its first look at the tables. Pairs with
    /// [`KShoot`](Self::KShoot).
    KLoad,
    /// Interrupts are off in a section, so that no round is answered in it.
    KSection,
}
