//! Crate `memory_set`: memory areas over a space, which brings copy-on-write, huge pages and pins
//! along.

use core::fmt;
use core::marker::PhantomData;

use memory_addr::VirtAddr;
use memory_set::MappingBackend;
use tailpin_mm::{Env, Map, Prot, Space};

/// Anonymous memory of a space that is handed out as it is used: the areas say what is mapped, the
/// space what is there.
pub struct SpaceBackend<E>(PhantomData<fn() -> E>);

impl<E> SpaceBackend<E> {
    /// The backend. It has no state of its own: the areas' `PageTable` is the space.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E> Default for SpaceBackend<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Clone for SpaceBackend<E> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<E> fmt::Debug for SpaceBackend<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpaceBackend")
    }
}

/// An address as the space has it.
fn at(address: VirtAddr) -> tailpin_mm::VirtAddr {
    tailpin_mm::VirtAddr::new(address.as_usize() as u64)
}

impl<E: Env + 'static> MappingBackend for SpaceBackend<E> {
    type Addr = VirtAddr;
    type Flags = Prot;
    type PageTable = Space<'static, E>;

    fn map(&self, start: VirtAddr, size: usize, flags: Prot, space: &mut Self::PageTable) -> bool {
        space.map(Map::anonymous(size as u64, flags).at(at(start))).is_ok()
    }

    fn unmap(&self, start: VirtAddr, size: usize, space: &mut Self::PageTable) -> bool {
        space.unmap(at(start), size as u64).is_ok()
    }

    fn protect(&self, start: VirtAddr, size: usize, new_flags: Prot, space: &mut Self::PageTable) -> bool {
        space.protect(at(start), size as u64, new_flags).is_ok()
    }
}
