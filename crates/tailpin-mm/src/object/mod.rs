//! Objects: files, shared memory, hugetlb, each with a page cache.

pub(crate) mod config;
pub(crate) mod page_cache;
pub(crate) mod truncate;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use tailpin::{Order, Pfn};

use crate::env::Env;
use crate::error::MmError;
use crate::mm::Mm;
use crate::object::config::{ObjectConfig, ObjectId};
use crate::object::page_cache::ObjectPages;

/// A file, a piece of shared memory, a hugetlb object. Cheap to clone; all clones are the same
/// object. Its pages are free when the last clone and the last mapping are gone.
#[doc(alias = "page cache")]
#[doc(alias = "address_space")]
#[doc(alias = "folio")]
#[doc(alias = "hugetlb")]
pub struct Object<'z, E: Env> {
    pub(crate) pages: Arc<ObjectPages<'z, E>>,
}

impl<E: Env> Clone for Object<'_, E> {
    fn clone(&self) -> Self {
        Self { pages: self.pages.clone() }
    }
}

impl<'z, E: Env> Mm<'z, E> {
    /// A new object, with an empty page cache.
    ///
    /// # Errors
    /// [`MmError::Misaligned`] if a hugetlb object's length is no multiple of its unit.
    pub fn object(&self, config: ObjectConfig<'z>) -> Result<Object<'z, E>, MmError> {
        check_len(config.len, config.unit)?;
        Ok(Object { pages: Arc::new(ObjectPages::new(&self.core, config)) })
    }
}

pub(crate) fn check_len(len: u64, unit: Order) -> Result<(), MmError> {
    let bytes = if unit > Order::PAGE { unit.bytes() } else { 1 };
    if len.is_multiple_of(bytes) { Ok(()) } else { Err(MmError::Misaligned { value: len, unit: bytes }) }
}

impl<E: Env> Object<'_, E> {
    /// The object's identity, never used for another one.
    pub fn id(&self) -> ObjectId {
        ObjectId(self.pages.id)
    }

    /// The object's length in bytes.
    pub fn len(&self) -> u64 {
        self.pages.cache.read().len
    }

    /// Whether the object has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Order of the blocks that a hugetlb object is made of; for other objects that of a page.
    pub fn unit(&self) -> Order {
        self.pages.unit
    }

    /// The blocks in the object's page cache, by index: index of the first page, first frame,
    /// order. A snapshot.
    pub fn blocks(&self) -> Vec<(u64, Pfn, Order)> {
        let cache = self.pages.cache.read();
        cache.blocks.values().map(|block| (block.index, block.head, block.order)).collect()
    }
}

impl<E: Env> fmt::Debug for Object<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({}, {} bytes)", self.pages.id, self.len())
    }
}
