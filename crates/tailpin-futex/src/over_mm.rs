//! Futexes over the address spaces of [`tailpin_mm`].
//!
//! Identities are those of one [`Mm`](tailpin_mm::Mm): a table of futexes serves the spaces of one.

use tailpin::Pfn;
use tailpin_mm::{BasePage, Env, FaultError, PageIdentity, Space, VirtAddr};

use crate::memory::{Access, Address, Fault, Memory, NotPresent, ObjectId, PageOwner, SpaceId};

fn access(access: Access) -> tailpin_mm::Access {
    match access {
        Access::Read => tailpin_mm::Access::Read,
        Access::Write => tailpin_mm::Access::Write,
    }
}

fn addr(at: Address) -> VirtAddr {
    VirtAddr::new(at.get())
}

impl From<tailpin_mm::NotPresent> for NotPresent {
    fn from(_: tailpin_mm::NotPresent) -> Self {
        Self
    }
}

impl From<FaultError> for Fault {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::Unmapped { .. }
            | FaultError::NotReadable { .. }
            | FaultError::NotExecutable { .. }
            | FaultError::Foreign { .. } => Self::Unmapped,
            FaultError::NotWritable { .. } => Self::NotWritable,
            FaultError::BeyondEnd { .. } => Self::BeyondEnd,
            // A page that can't be counted once more can't be had either.
            FaultError::OutOfMemory { .. } | FaultError::CountLimit { .. } => Self::OutOfMemory,
        }
    }
}

impl<'z, E: Env> Memory for Space<'z, E> {
    type Page = BasePage<'z>;
    type PageName = Pfn;

    fn space(&self) -> SpaceId {
        SpaceId(self.id().get())
    }

    fn pin(&self, at: Address, wanted: Access) -> Result<BasePage<'z>, NotPresent> {
        Ok(self.pin_base_page(addr(at), access(wanted))?)
    }

    fn unpin(&self, page: BasePage<'z>) {
        drop(page);
    }

    fn name(&self, page: &BasePage<'z>) -> Pfn {
        page.frame()
    }

    fn owner(&self, page: &BasePage<'z>) -> PageOwner {
        match self.identify_base_page(page) {
            PageIdentity::Anonymous { .. } => PageOwner::Anonymous,
            PageIdentity::Object { object, .. } => PageOwner::Object(ObjectId(object.get())),
            PageIdentity::Special => PageOwner::Special,
        }
    }

    fn index(&self, page: &BasePage<'z>) -> u64 {
        match self.identify_base_page(page) {
            PageIdentity::Object { index, .. } => index,
            PageIdentity::Anonymous { .. } | PageIdentity::Special => 0,
        }
    }

    fn fault(&self, at: Address, wanted: Access) -> Result<(), Fault> {
        Ok(self.fault_in(addr(at), access(wanted))?)
    }

    fn load(&self, at: Address) -> Result<u32, NotPresent> {
        Ok(self.load_u32(addr(at))?)
    }

    fn compare_exchange(&self, at: Address, old: u32, new: u32) -> Result<Result<u32, u32>, NotPresent> {
        Ok(self.compare_exchange_u32(addr(at), old, new)?)
    }
}
