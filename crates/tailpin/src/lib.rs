#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

#[cfg(any(test, feature = "std"))]
extern crate std;

mod alloc;
mod atomic;
mod audit;
mod error;
mod finally;
mod frame;
pub mod handle;
pub mod one_word;
pub mod page_word;
mod protocol;
mod report;

pub use alloc::claim::Claimed;
pub use alloc::config::{Request, ZoneConfig};
pub use alloc::hooks::Hooks;
pub use alloc::layout::ZoneLayout;
pub use alloc::many::Blocks;
#[cfg(feature = "std")]
pub use alloc::memory::ZoneMemory;
pub use alloc::nodes::Nodes;
pub use alloc::zone::{SetAside, Zone};
pub use atomic::AtomicWord;
pub use audit::{Audit, Finding};
pub use error::{AllocError, GetError, MergeError, SplitError, TokenError, ZoneError};
#[doc(hidden)]
pub use finally::Finally;
pub use frame::{AREA_FRAMES, FrameRange, Order, Pfn};
pub use handle::{Block, PageRef, Pieces, PinnedRange, Raw};
pub use one_word::OneWord;
pub use page_word::{PIN_LIMIT, PageWord, REF_LIMIT};
pub use protocol::{Attach, Class, FreeSink, Kind, PagePin, PageState, Protocol, RawBlock};
pub use report::{Cause, Misuse, Operation, Sink};
