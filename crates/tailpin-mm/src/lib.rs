#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![deny(unsafe_code)]
// No sum or product overflows; where a bound says so, the reason stands there.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]
#![doc = include_str!("readme_links.md")]
#![doc = include_str!("../README.md")]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

mod addr;
pub mod arch;
mod block_guard;
mod env;
mod error;
mod frame_info;
mod mm;
mod object;
mod ops;
mod page_table;
mod rmap;
mod root;
mod space;

pub use addr::{Access, CacheType, Level, PAGE_BYTES, Prot, SpaceId, VirtAddr, VirtRange};
#[cfg(feature = "std")]
pub use env::std_env::{Ram, StdEnv, StdSection};
pub use env::{DirectMap, Env, ReadSide, Stale, Tlb};
pub use error::{CollapseError, FaultError, MapError, MmError, NotPresent, PageSplitError, PinError};
pub use frame_info::{FrameInfo, FrameInfos};
pub use mm::{Cow, HugePages, Mm, MmConfig};
pub use object::Object;
pub use object::config::{ObjectConfig, ObjectId, ObjectSource};
pub use ops::access::PageIdentity;
pub use ops::advise::{Advice, AdviseError};
pub use ops::base_page::BasePage;
pub use ops::collapse::{CollapseLimits, CollapseOutcome};
pub use ops::pin::Pins;
pub use space::{Map, MappedPage, RootRef, Space, Usage};

/// The pin's walk and second look over other words than a page table's, for model checkers. No
/// stable interface.
#[doc(hidden)]
pub mod model {
    pub use crate::page_table::gup_fast::{AllSafeguards, Safeguard, Safeguards, change_barrier, gup_fast};
    pub use crate::page_table::walk::{Entries, EntrySlot, LocklessWalk, WalkEnd};
}

/// Spaces, objects and pins may be sent to and shared with other threads.
#[cfg(feature = "std")]
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Mm<'_, StdEnv>>();
    shared::<Space<'_, StdEnv>>();
    shared::<Object<'_, StdEnv>>();
    shared::<Pins<'_, StdEnv>>();
};
