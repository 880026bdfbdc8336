//! Objects: files, shared memory, hugetlb, each with a page cache.

pub(crate) mod page_cache;
pub(crate) mod truncate;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use tailpin::{Order, Pfn};

use crate::addr::PAGE_BYTES;
use crate::env::Env;
use crate::error::MmError;
use crate::mm::Mm;
use crate::object::page_cache::ObjectPages;

/// Identity of an object; never used for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub(crate) u64);

impl ObjectId {
    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Where an object's contents come from when they are first used: a file system.
pub trait Source: Send + Sync {
    /// Fills page `index`, which is all zeroes before. The object's page cache is locked during the
    /// call, which must not use the object or a space that maps it. It is called again for a page
    /// that went with a hole or a truncation: a file system knows of both, and leaves such a page
    /// as it is.
    fn fill(&self, index: u64, page: &mut [u8; PAGE_BYTES as usize]);
}

/// Settings of an object to be made.
#[derive(Clone)]
pub struct ObjectConfig<'z> {
    pub(crate) len: u64,
    pub(crate) unit: Order,
    pub(crate) huge: bool,
    pub(crate) tracks_writes: bool,
    pub(crate) source: Option<Arc<dyn Source + 'z>>,
}

impl<'z> ObjectConfig<'z> {
    /// `len` bytes of zeroes in pages of 4 KiB.
    pub const fn new(len: u64) -> Self {
        Self { len, unit: Order::PAGE, huge: false, tracks_writes: false, source: None }
    }

    /// With blocks (folios) of 2 MiB in the page cache wherever they fit, also beyond the end.
    #[must_use]
    pub fn huge(mut self) -> Self {
        self.huge = true;
        self
    }

    /// Of the hugetlb class: made of blocks of 2 MiB ([`Order::HUGE`]) or 1 GiB ([`Order::MAX`])
    /// that never split; every address and length of a mapping is a multiple of that.
    #[must_use]
    #[doc(alias = "hugetlbfs")]
    pub fn hugetlb(mut self, unit: Order) -> Self {
        self.unit = if unit > Order::HUGE { Order::MAX } else { Order::HUGE };
        self
    }

    /// Every write has to be noticed (a file system that writes back): long-term pins for writing
    /// are refused.
    #[must_use]
    pub fn tracks_writes(mut self) -> Self {
        self.tracks_writes = true;
        self
    }

    /// With contents from this source.
    #[must_use]
    pub fn source(mut self, source: Arc<dyn Source + 'z>) -> Self {
        self.source = Some(source);
        self
    }
}

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
    /// A new object.
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
