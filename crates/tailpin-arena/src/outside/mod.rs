//! A running program's arenas, seen from another process.
//!
//! The program does nothing for it: an arena that is built leaves a description, which is found by
//! its name among the program's mappings. A [`Look`] copies the words that say what becomes of each
//! page (8 bytes per 4 KiB, and as many for tags and ages; only those that were ever touched), and
//! reads the copy. Nothing in the program is stopped, locked or written to.
//!
//! ```
//! use tailpin_arena::{Arena, outside};
//!
//! let arena = Arena::builder().size(64 << 20).build()?;
//! let kept = arena.alloc_tagged(2 << 20, "http-header")?.freeze().slice(100..300);
//! // In any other process of the same user:
//! let arenas = outside::arenas_of(std::process::id())?;
//! let look = arenas[0].look()?;
//! assert_eq!(look.stats().pinned_by_last_slice, 4096);
//! let holder = &look.holders()[0];
//! assert_eq!((holder.tag.as_deref(), holder.pins, holder.kept_bytes), (Some("http-header"), 1, 4096));
//! # drop(kept);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Consistency.** A copy is not made at one moment. Each look copies the page words until two
//! copies are the same, four times at most, and says in [`Look::changed_pageblocks`] how many 2 MiB
//! pageblocks differed between the last two. Zero means that each page was in the state told at two
//! moments, the same for none of them. Else each page was in that state at one moment at least. The
//! sums are of the pages as copied: they always add up to the size, and are off by what changed
//! hands during the copy.
//!
//! What a copy says is never believed: words that a program has scribbled over make a wrong
//! picture, no more.

mod copy;
mod error;
mod find;
mod look;
mod process;
mod shared_file;
mod source;

pub use error::LookError;
pub use find::{OutsideArena, Program, arenas_of, programs, shared_file};
pub use look::{Contents, Holder, Look, PageContents, Pageblock, TagUse};
