#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![deny(unsafe_code)]
#![doc = include_str!("../README.md")]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

mod access;
mod addr;
mod advise;
pub mod arch;
mod base_page;
mod bytes;
mod cache;
mod collapse;
mod collapse_object;
mod count;
mod env;
mod error;
mod fault;
mod fork;
mod frame_info;
mod look_twice;
mod mm;
mod object;
mod pin;
mod protect;
mod region;
mod remap;
mod reverse;
mod space;
mod split;
#[cfg(feature = "std")]
mod std_env;
mod sync;
mod table;
mod truncate;
mod unmap;

pub use access::Place;
pub use addr::{Access, Level, PAGE_BYTES, Prot, VirtAddr, VirtRange};
pub use advise::{Advice, AdviseError};
pub use base_page::BasePage;
pub use collapse::{CollapseLimits, Collapsed};
pub use env::{DirectMap, Env, Mark, Readers, Tlb};
pub use error::{CollapseError, FaultError, MapError, MmError, NotPresent, PageSplitError, PinError};
pub use frame_info::FrameInfo;
pub use mm::{Cow, Mm, MmConfig};
pub use object::{Object, ObjectConfig, ObjectId, Source};
pub use pin::Pins;
pub use region::HugePages;
pub use space::{Loaded, Map, Mapping, Space, SpaceId, Usage};
#[cfg(feature = "std")]
pub use std_env::{Ram, Section, StdEnv};

/// The pin's walk and second look over other words than a page table's, for model checkers. No stable interface.
#[doc(hidden)]
pub mod model {
    pub use crate::look_twice::{Complete, Entries, Steps};
    pub use crate::table::{Found, Slot};
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
