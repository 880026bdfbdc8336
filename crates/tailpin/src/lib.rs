#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]
// No sum or product overflows; where a bound says so, the reason stands there.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]
#![doc = include_str!("readme_links.md")]
#![doc = include_str!("../README.md")]

#[cfg(any(test, feature = "std"))]
extern crate std;

mod alloc;
mod atomic;
mod error;
mod finally;
mod frame;
mod frame_mask;
pub mod one_word;
mod page_state;
pub mod page_word;
mod protocol;
mod report;
mod safeguards;
mod zone;

pub use alloc::config::{Request, ZoneConfig};
pub use alloc::hooks::Hooks;
pub use alloc::layout::ZoneLayout;
pub use alloc::run_request::RunRequest;
pub use alloc::set_aside::SetAside;
pub use atomic::AtomicWord;
pub use error::{AddError, AllocError, GetError, MergeError, RunError, SplitError, TokenError, ZoneError};
#[doc(hidden)]
pub use finally::{Finally, to_the_end};
pub use frame::{FrameRange, Order, PAGE_BYTES, PAGE_SIZE, PAGEBLOCK_FRAMES, Pfn};
pub use frame_mask::{FrameMask, RowMask};
pub use one_word::{LastPut, OneWord};
pub use page_state::{Class, Kind, PageState};
pub use page_word::{PIN_LIMIT, PageWord, REF_LIMIT};
pub use protocol::{
    Attach, BlockLife, BlockRefs, Checked, CountedPin, FrameWords, FreeSink, PagePin, Pins, Protocol,
    RawBlock, Rearrange,
};
#[doc(hidden)]
pub use protocol::{ParkingPlace, sealed};
pub use report::{Cause, Misuse, Operation, Sink};
pub use safeguards::{AllSafeguards, Safeguards};
pub use zone::Zone;
pub use zone::audit::{Audit, Finding};
pub use zone::claim::Claimed;
pub use zone::handle;
pub use zone::handle::{Block, PageRef, PageRow, Pieces, PinnedRange, Raw, Run};
pub use zone::local::Local;
pub use zone::many::Blocks;
#[cfg(feature = "std")]
pub use zone::memory::ZoneMemory;
pub use zone::nodes::Nodes;
