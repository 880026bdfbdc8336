#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![deny(unsafe_code)]
// No sum or product overflows; where a bound says so, the reason stands there.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]
#![doc = include_str!("readme_links.md")]
#![doc = include_str!("../README.md")]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

mod batch;
mod bucket;
mod derive;
mod error;
mod exit;
mod futex;
mod futexes;
mod key;
mod list;
mod lock;
mod memory;
#[cfg(feature = "model")]
#[expect(clippy::arithmetic_side_effects, reason = "a memory of a few frames, for model checkers")]
pub mod model;
#[cfg(feature = "mm")]
mod over_mm;
mod pi;
mod pi_table;
mod raw;
mod requeue;
mod requeue_pi;
mod retry_limit;
mod robust;
mod safeguards;
mod scheduler;
#[cfg(feature = "std")]
mod std_scheduler;
mod wait;
mod waiter;
mod waitv;
mod wake;
mod wake_op;
mod word;

pub use derive::{Derived, derive};
pub use error::{Error, Invalid};
pub use exit::ExitReport;
pub use futex::{Futex, Scope};
pub use futexes::Futexes;
pub use key::{Key, KeyKind};
pub use memory::{Access, Address, Fault, Memory, NotPresent, ObjectId, PageOwner, SpaceId};
pub use pi::{Acquired, OWNER_DIED, TID_MASK, WAITERS};
pub use raw::{Call, Operation, RawEntry};
pub use requeue::Requeued;
pub use robust::{ROBUST_LIMIT, RobustEnd};
pub use safeguards::{AllSafeguards, Safeguard, Safeguards};
pub use scheduler::{Clock, Deadline, Priority, Scheduler, Tid, Timeout};
#[cfg(feature = "std")]
pub use std_scheduler::{StdScheduler, StdThread};
pub use waiter::Waiter;
pub use waitv::{Expect, MAX_WAITV};
pub use wake_op::{Compare, Modify, WakeOp};
pub use word::{Part, QueueWord};
