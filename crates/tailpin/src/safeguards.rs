//! Whether the steps that prevent races are in place, so that a model checker can leave one out.
//!
//! Each crate with races names its steps in an enum of its own.

/// Which safeguards of the enum `S` are in place: all but one, or all.
pub trait Safeguards<S: PartialEq>: Send + Sync + 'static {
    /// The one that is left out.
    const WITHOUT: Option<S> = None;

    /// Whether a safeguard is in place. A model checker, which leaves out another one in each run,
    /// answers for itself.
    #[inline(always)]
    fn keeps(safeguard: S) -> bool {
        Self::WITHOUT != Some(safeguard)
    }

    /// Does `first` and then `second`; without the safeguard, the other way round.
    #[inline(always)]
    fn in_order(safeguard: S, first: impl FnOnce(), second: impl FnOnce()) {
        if Self::keeps(safeguard) {
            first();
            second();
        } else {
            second();
            first();
        }
    }
}

/// Every safeguard in place: what ships.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllSafeguards;

impl<S: PartialEq> Safeguards<S> for AllSafeguards {}
