//! The page table: the walk by software, changes of entries, what a leaf counts, taking
//! entries out, and fast GUP, which pins without a lock.

pub(crate) mod absent;
pub(crate) mod bytes;
pub(crate) mod gup_fast;
pub(crate) mod refcount;
pub(crate) mod table;
pub(crate) mod take_out;
pub(crate) mod walk;
