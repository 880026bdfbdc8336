//! The sequential model: what every byte is, which space sees whose writes, and which accesses are
//! errors. No frames, no huge pages, no counts: a page is a shared cell, and to pin it is to have a
//! handle on the cell.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

pub use tailpin::PAGE_BYTES as PAGE;
use tailpin_mm::{Access, FaultError, Prot, VirtAddr};

/// Pages of a hugetlb block.
pub const UNIT: u64 = 512;

/// One page's bytes; nothing is all zeroes. Two places that have the same cell see each other's
/// writes for ever.
#[derive(Default)]
pub struct Page(RefCell<Option<Box<[u8; PAGE as usize]>>>);

pub type Cell = Rc<Page>;

impl Page {
    pub fn write(&self, at: u64, bytes: &[u8]) {
        let mut page = self.0.borrow_mut();
        let page = page.get_or_insert_with(|| Box::new([0; PAGE as usize]));
        page[at as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    pub fn clear(&self, bytes: Range<u64>) {
        if let Some(page) = self.0.borrow_mut().as_mut() {
            page[bytes.start as usize..bytes.end as usize].fill(0);
        }
    }

    pub fn bytes(&self) -> [u8; PAGE as usize] {
        self.0.borrow().as_deref().copied().unwrap_or([0; PAGE as usize])
    }

    /// Whether anything was ever written to it.
    pub fn is_touched(&self) -> bool {
        self.0.borrow().is_some()
    }

    fn copy(&self) -> Cell {
        Rc::new(Self(RefCell::new(self.0.borrow().clone())))
    }
}

/// What is behind a page of addresses. Objects are known by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    Anonymous,
    Shared(usize),
    Private(usize),
    Guard,
}

/// One page of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    pub back: Back,
    /// Which page of the object.
    pub index: u64,
    pub prot: Prot,
}

pub struct ModelObject {
    pub len: u64,
    /// Pages of which it is made: 1, or 512 for hugetlb.
    pub unit: u64,
    pub tracks_writes: bool,
    pub pages: BTreeMap<u64, Cell>,
}

#[derive(Default)]
pub struct ModelSpace {
    /// By page number.
    pub mapped: BTreeMap<u64, Mapped>,
    /// Pages that are the space's own.
    pub own: BTreeMap<u64, Cell>,
}

#[derive(Default)]
pub struct Model {
    pub objects: Vec<ModelObject>,
    pub spaces: Vec<Option<ModelSpace>>,
}

/// What an access needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Read,
    Write,
    /// Reading, and that the page stays the mapping's: a pin for reading.
    Own,
}

impl Need {
    pub fn of(access: Access) -> Self {
        if access == Access::Write { Self::Write } else { Self::Read }
    }

    pub fn pinned(access: Access) -> Self {
        if access == Access::Write { Self::Write } else { Self::Own }
    }
}

impl Model {
    pub fn space(&self, space: usize) -> &ModelSpace {
        self.spaces[space].as_ref().expect("the space is there")
    }

    pub fn space_mut(&mut self, space: usize) -> &mut ModelSpace {
        self.spaces[space].as_mut().expect("the space is there")
    }

    /// The page that an access at `addr` reaches, made the space's own if it has to be.
    pub fn page(&mut self, space: usize, addr: VirtAddr, need: Need) -> Result<Cell, FaultError> {
        let at = addr.page();
        let own = self.spaces[space].as_mut().expect("the space is there");
        let mapped = own.mapped.get(&at).copied().filter(|mapped| mapped.back != Back::Guard);
        let mapped = mapped.ok_or(FaultError::Unmapped { addr })?;
        if need == Need::Write && !mapped.prot.write {
            return Err(FaultError::NotWritable { addr });
        }
        if !mapped.prot.read && !mapped.prot.write {
            return Err(FaultError::NotReadable { addr });
        }
        if let Some(page) = own.own.get(&at) {
            return Ok(page.clone());
        }
        let object = match mapped.back {
            Back::Anonymous if need == Need::Read => return Ok(Cell::default()),
            Back::Anonymous | Back::Guard => return Ok(own.own.entry(at).or_default().clone()),
            Back::Shared(object) | Back::Private(object) => &mut self.objects[object],
        };
        if mapped.index >= object.len.div_ceil(PAGE) {
            return Err(FaultError::BeyondEnd { addr });
        }
        let unit = object.unit;
        let mut page_of = |index: u64| object.pages.entry(index).or_default().clone();
        if matches!(mapped.back, Back::Shared(_)) || need == Need::Read {
            return Ok(page_of(mapped.index));
        }
        // Hugetlb is copied by the block.
        let first = at - at % unit;
        for i in 0..unit {
            own.own.insert(first + i, page_of(mapped.index - at % unit + i).copy());
        }
        Ok(own.own[&at].clone())
    }

    pub fn fork(&self, space: usize) -> ModelSpace {
        let parent = self.space(space);
        let own = parent.own.iter().map(|(at, page)| (*at, page.copy())).collect();
        ModelSpace { mapped: parent.mapped.clone(), own }
    }

    pub fn truncate(&mut self, object: usize, len: u64) {
        let changed = &mut self.objects[object];
        let end = changed.len.min(len);
        if let Some(page) = changed.pages.get(&(end / PAGE)).filter(|_| !end.is_multiple_of(PAGE)) {
            page.clear(end % PAGE..PAGE);
        }
        changed.len = len;
        let first = len.div_ceil(PAGE * changed.unit) * changed.unit;
        changed.pages.retain(|index, _| *index < first);
        for space in self.spaces.iter_mut().flatten() {
            let ModelSpace { mapped, own } = space;
            own.retain(|at, _| mapped[at].back != Back::Private(object) || mapped[at].index < first);
        }
    }

    pub fn punch_hole(&mut self, object: usize, bytes: Range<u64>) {
        let object = &mut self.objects[object];
        let unit = object.unit * PAGE;
        let whole = bytes.start.next_multiple_of(unit)..bytes.end / unit * unit;
        object.pages.retain(|index, page| {
            let start = index * PAGE;
            let from = bytes.start.clamp(start, start + PAGE);
            let to = bytes.end.clamp(from, start + PAGE);
            if whole.contains(&start) {
                return false;
            }
            page.clear(from - start..to - start);
            true
        });
    }
}

impl ModelSpace {
    pub fn first_gap(&self, pages: Range<u64>) -> Option<u64> {
        pages.into_iter().find(|at| !self.mapped.contains_key(at))
    }

    pub fn first_mapped(&self, pages: Range<u64>) -> Option<u64> {
        self.mapped.range(pages).next().map(|(at, _)| *at)
    }

    /// Forgets the pages that are the space's own, so that the next access begins anew.
    pub fn discard(&mut self, pages: Range<u64>) {
        self.own.retain(|at, _| !pages.contains(at));
    }

    pub fn unmap(&mut self, pages: Range<u64>) {
        self.discard(pages.clone());
        self.mapped.retain(|at, _| !pages.contains(at));
    }

    pub fn protect(&mut self, pages: Range<u64>, prot: Prot) {
        self.mapped.range_mut(pages).for_each(|(_, mapped)| mapped.prot = prot);
    }

    pub fn remap(&mut self, pages: Range<u64>, to: u64) {
        for at in pages.clone() {
            let there = to + (at - pages.start);
            if let Some(mapped) = self.mapped.remove(&at) {
                self.mapped.insert(there, mapped);
            }
            if let Some(page) = self.own.remove(&at) {
                self.own.insert(there, page);
            }
        }
    }
}
