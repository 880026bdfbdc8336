//! What an object is made of: its settings, the source of its contents, its identity.

use alloc::sync::Arc;

use tailpin::Order;

use crate::addr::PAGE_BYTES;

/// Identity of an object; never used for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub(crate) u64);

impl ObjectId {
    /// The identity as a number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Where an object's contents come from when they are first used: a file system.
pub trait ObjectSource: Send + Sync {
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
    pub(crate) source: Option<Arc<dyn ObjectSource + 'z>>,
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
    pub fn source(mut self, source: Arc<dyn ObjectSource + 'z>) -> Self {
        self.source = Some(source);
        self
    }
}
