//! A base page pinned for a futex key: pin, identify and unpin are three calls, as in
//! `get_futex_key`.

use tailpin::{PageRef, Pfn};

use crate::addr::{Access, VirtAddr};
use crate::arch::Flags;
use crate::env::Env;
use crate::error::NotPresent;
use crate::frame_info::PageOwner;
use crate::object::config::ObjectId;
use crate::ops::access::PageIdentity;
use crate::ops::fault::Want;
use crate::space::Space;

/// A base page that was pinned by [`Space::pin_base_page`]. The pin is given back when this is
/// dropped.
///
/// ```
/// # use tailpin_mm::*;
/// # let ram = Ram::new(16 << 20);
/// # let zone = ram.zone()?;
/// # let mm = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default())?;
/// let object = mm.object(ObjectConfig::new(2 << 20).huge())?;
/// let space = mm.space()?;
/// let addr = space.map(Map::shared(&object, 0, 2 << 20, Prot::READ_WRITE))?.offset(0x7000);
/// assert!(space.pin_base_page(addr, Access::Write).is_err()); // nothing is there yet
/// space.fault(addr, Access::Write)?;
/// let page = space.pin_base_page(addr, Access::Write)?;
/// space.split_page(addr, tailpin::Order::PAGE)?;
/// object.truncate(0)?;
/// let found = space.identify_base_page(&page);                // still what it was
/// assert!(matches!(found, PageIdentity::Object { index: 7, .. }));
/// drop(page);                                                 // unpinned
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// There is one value for a pin, so it is given back once:
///
/// ```compile_fail,E0382
/// # use tailpin_mm::*;
/// fn twice(page: BasePage<'_>) {
///     drop(page);
///     drop(page);
/// }
/// ```
#[derive(Debug)]
pub struct BasePage<'z> {
    page: PageRef<'z>,
    writable: bool,
}

impl BasePage<'_> {
    /// Frame of the pinned page.
    pub fn frame(&self) -> Pfn {
        self.page.pfn()
    }
}

impl<'z, E: Env> Space<'z, E> {
    /// Pins the base page at `addr` if the page table allows `access` at this moment
    /// (`get_user_page_fast_only`). Takes no lock, never faults. Unlike pins that last it needs no
    /// exclusive page: one shared after a fork will do.
    ///
    /// # Errors
    /// [`NotPresent`] if the page table does not allow it, or another thread changed it during the
    /// call; [`Space::fault`] tells why.
    pub fn pin_base_page(&self, addr: VirtAddr, access: Access) -> Result<BasePage<'z>, NotPresent> {
        if addr >= <E::Arch as crate::arch::Arch>::USER_END {
            return Err(NotPresent { addr });
        }
        match self.inner.pin_page(addr, Want::of(access)) {
            Ok(Some((page, flags))) => Ok(BasePage { page, writable: flags.has(Flags::WRITE) }),
            _ => Err(NotPresent { addr }),
        }
    }

    /// What a base page is, read from the page itself. While it is pinned the answer does not
    /// change.
    pub fn identify_base_page(&self, page: &BasePage<'z>) -> PageIdentity {
        let (owner, index) = self.inner.core.infos.read(page.frame());
        match owner {
            PageOwner::Object(object) => {
                PageIdentity::Object { object: ObjectId(object), index, writable: page.writable }
            }
            PageOwner::Anonymous(_) => PageIdentity::Anonymous { writable: page.writable },
            PageOwner::None => PageIdentity::Special,
        }
    }
}
