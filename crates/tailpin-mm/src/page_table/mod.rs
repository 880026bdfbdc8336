//! The page table: walks by software, what an entry counts, and the walk that pins without a lock.

pub(crate) mod bytes;
pub(crate) mod gup_fast;
pub(crate) mod refcount;
pub(crate) mod table;
pub(crate) mod walk;
