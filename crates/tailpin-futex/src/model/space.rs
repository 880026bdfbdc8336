//! Address spaces of the model: page tables of two levels, mappings, faults.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use tailpin::{CountedPin, FrameWords, Order, PAGE_BYTES, PagePin, Pfn, Pins};

use super::{ANONYMOUS, Mapping, Model, NO_OWNER, Object, SPECIAL, Size, locked};
use crate::memory::{Access, Address, Fault, Memory, NotPresent, ObjectId, PageOwner, SpaceId};
use crate::word::{Part, QueueWord};

/// An address space: the page table and what may be in it.
pub(super) struct Tables<W> {
    pub(super) id: u64,
    /// One entry per block of addresses: absent, "by pages", or the block that is mapped.
    pub(super) blocks: Vec<W>,
    pub(super) pages: Vec<W>,
    pub(super) map: Mutex<Map>,
}

#[derive(Default)]
pub(super) struct Map {
    pub(super) mappings: Vec<Mapping>,
    /// Pages that were written through a private mapping.
    pub(super) copies: HashMap<usize, u64>,
}

/// An entry of a block that is mapped by pages.
pub(super) const BY_PAGES: u64 = 1;
pub(super) const PRESENT: u64 = 2;
const WRITABLE: u64 = 4;
pub(super) const FRAME: u32 = 3;

/// One address space over a [`Model`].
pub struct ModelMemory<W = AtomicU64> {
    model: Arc<Model<W>>,
    tables: Arc<Tables<W>>,
}

impl<W: QueueWord> Model<W> {
    /// An empty address space.
    pub fn space(self: &Arc<Self>) -> ModelMemory<W> {
        let words = |name, count| (0..count).map(|index| W::new(Part::Of(name, index))).collect();
        let mut state = self.state();
        let tables = Arc::new(Tables {
            id: state.spaces.len() as u64 + 1,
            blocks: words("block_entry", self.size.pages.div_ceil(self.block())),
            pages: words("page_entry", self.size.pages),
            map: Mutex::default(),
        });
        state.spaces.push(Arc::clone(&tables));
        drop(state);
        ModelMemory { model: Arc::clone(self), tables }
    }
}

impl ModelMemory {
    /// One address space with nothing but so many pages of anonymous memory, from address 0 on.
    pub fn anonymous(pages: usize) -> Self {
        let frames = pages.next_power_of_two().max(8);
        let memory = Model::new(Size { frames, pages, ..Size::default() }).space();
        memory.map_anonymous(0, pages, false);
        memory
    }
}

impl<W: QueueWord> ModelMemory<W> {
    /// The frames and objects below.
    pub fn model(&self) -> &Arc<Model<W>> {
        &self.model
    }

    /// Maps something where nothing is.
    pub fn map(&self, mapping: Mapping) {
        locked(&self.tables.map).mappings.push(mapping);
    }

    /// Maps a shared object, writable, from its beginning.
    pub fn map_shared(&self, page: usize, pages: usize, object: Object, huge: bool) {
        self.map(Mapping { page, pages, object, index: 0, writable: true, private: false, huge });
    }

    /// Maps new anonymous memory.
    pub fn map_anonymous(&self, page: usize, pages: usize, huge: bool) -> Object {
        let number = self.model.number();
        let object = self.model.object_of(number, pages, huge, ANONYMOUS);
        self.map_shared(page, pages, object, huge);
        object
    }

    /// Maps pages no futex may live on.
    pub fn map_special(&self, page: usize) {
        let number = self.model.number();
        let object = self.model.object_of(number, 1, false, SPECIAL);
        self.map_shared(page, 1, object, false);
    }

    /// Unmaps what was mapped from this page on, and maps it anew if something is given.
    pub fn remap(&self, page: usize, new: Option<Mapping>) {
        self.model.change(|| {
            let mut map = locked(&self.tables.map);
            let Some(at) = map.mappings.iter().position(|mapping| mapping.page == page) else { return };
            let old = map.mappings.swap_remove(at);
            map.copies.retain(|copy, _| !(old.page..old.page + old.pages).contains(copy));
            map.mappings.extend(new);
            drop(map);
            for page in old.page..old.page + old.pages {
                self.model.by_pages(&self.tables, page);
                self.tables.pages[page].store(0, Ordering::Release);
            }
            W::fence(Ordering::SeqCst);
        });
    }

    /// Frame and rights of a page, as the page table has them at this moment.
    fn entry(&self, at: Address) -> Option<(u64, bool)> {
        let page = usize::try_from(at.get() / PAGE_BYTES).ok()?;
        if page >= self.tables.pages.len() {
            return None;
        }
        let (block, within) = (page / self.model.block(), (page % self.model.block()) as u64);
        // Acquire, both: pair with the Release of the store that wrote the entry.
        let word = match self.tables.blocks[block].load(Ordering::Acquire) {
            BY_PAGES => self.tables.pages[page].load(Ordering::Acquire),
            0 => 0,
            leaf => leaf + (within << FRAME),
        };
        (word & PRESENT != 0).then_some((word >> FRAME, word & WRITABLE != 0))
    }

    fn value(&self, held: PagePin, at: Address) -> Option<&W> {
        let word = usize::from(at.offset() / 4);
        let size = self.model.size.words;
        (word < size).then(|| &self.model.values[held.page.get() as usize * size + word])
    }

    /// Uses a word under a pin.
    fn with_word<T>(&self, at: Address, access: Access, body: impl FnOnce(&W) -> T) -> Result<T, NotPresent> {
        let held = self.pin(at, access)?;
        let result = self.value(held, at).map(body);
        self.unpin(held);
        result.ok_or(NotPresent)
    }

    /// Writes a word, faulting its page in.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn store(&self, at: u64, value: u32) {
        let at = Address::new(at);
        // SeqCst: as a program that goes on to wake would have it; Release would do.
        while self
            .with_word(at, Access::Write, |word| word.store(u64::from(value), Ordering::SeqCst))
            .is_err()
        {
            self.fault(at, Access::Write).expect("the test maps what it writes");
        }
    }
}

impl<W: QueueWord> Memory for ModelMemory<W> {
    type Page = PagePin;
    type PageName = PagePin;

    fn space(&self) -> SpaceId {
        SpaceId(self.tables.id)
    }

    fn pin(&self, at: Address, access: Access) -> Result<PagePin, NotPresent> {
        loop {
            let found = self.entry(at);
            let (frame, writable) = found.ok_or(NotPresent)?;
            if access == Access::Write && !writable {
                return Err(NotPresent);
            }
            let protocol = self.model.protocol();
            let held = protocol.try_get(Pfn::new(frame), &*self.model).map(CountedPin::pin);
            // Pairs with the fence in `unmap`.
            W::fence(Ordering::SeqCst);
            match held {
                Ok(held) if self.entry(at) == found => return Ok(held),
                Ok(held) => self.unpin(held),
                Err(_) if self.entry(at) == found => return Err(NotPresent),
                Err(_) => {}
            }
        }
    }

    fn unpin(&self, page: PagePin) {
        let protocol = self.model.protocol();
        protocol.put(protocol.counted(page), &*self.model);
    }

    fn name(&self, page: &PagePin) -> PagePin {
        *page
    }

    fn owner(&self, page: &PagePin) -> PageOwner {
        // Acquire: pairs with the Release in `release`.
        match self.model.owners[page.page.get() as usize].load(Ordering::Acquire) {
            NO_OWNER => PageOwner::Gone,
            ANONYMOUS => PageOwner::Anonymous,
            SPECIAL => PageOwner::Special,
            number => PageOwner::Object(ObjectId(number)),
        }
    }

    fn index(&self, page: &PagePin) -> u64 {
        self.model.indexes[page.page.get() as usize].load(Ordering::Acquire)
    }

    fn fault(&self, at: Address, access: Access) -> Result<(), Fault> {
        let page = (at.get() / PAGE_BYTES) as usize;
        self.model.change(|| {
            let mut map = locked(&self.tables.map);
            let covers = |mapping: &&Mapping| (mapping.page..mapping.page + mapping.pages).contains(&page);
            let mapping = *map.mappings.iter().find(covers).ok_or(Fault::Unmapped)?;
            if access == Access::Write && !mapping.writable {
                return Err(Fault::NotWritable);
            }
            let index = mapping.index + page - mapping.page;
            let frame = self.model.frame(mapping.object, index).ok_or(Fault::BeyondEnd)?;
            let copy = map.copies.get(&page).copied();
            if mapping.private && access == Access::Write && copy.is_none() {
                let copy = self.model.allocate(Order::PAGE, ANONYMOUS, 0).ok_or(Fault::OutOfMemory)?;
                map.copies.insert(page, copy);
                drop(map);
                for word in 0..self.model.size.words {
                    let value = &self.model.values[frame as usize * self.model.size.words + word];
                    let to = copy as usize * self.model.size.words + word;
                    self.model.values[to].store(value.load(Ordering::Acquire), Ordering::Release);
                }
                self.set(page, copy, true);
                return Ok(());
            }
            drop(map);
            if let Some(copy) = copy {
                self.set(page, copy, true);
                return Ok(());
            }
            let writable = mapping.writable && !mapping.private;
            let head = self.model.protocol().head_of(Pfn::new(frame));
            let pages = self.model.block();
            let whole = mapping.huge
                && !mapping.private
                && head.is_some_and(|(_, order)| order == self.model.order())
                && page % pages == index % pages
                && page - page % pages >= mapping.page
                && page - page % pages + pages <= mapping.page + mapping.pages;
            match head {
                Some((head, _)) if whole => {
                    let word = head.get() << FRAME | PRESENT | if writable { WRITABLE } else { 0 };
                    // Release: pairs with the Acquire in `entry`.
                    self.tables.blocks[page / pages].store(word, Ordering::Release);
                }
                _ => self.set(page, frame, writable),
            }
            Ok(())
        })
    }

    fn load(&self, at: Address) -> Result<u32, NotPresent> {
        self.with_word(at, Access::Read, |word| word.load(Ordering::Acquire) as u32)
    }

    fn compare_exchange(&self, at: Address, old: u32, new: u32) -> Result<Result<u32, u32>, NotPresent> {
        self.with_word(at, Access::Write, |word| {
            let (old, new) = (u64::from(old), u64::from(new));
            let done = word.compare_exchange(old, new, Ordering::SeqCst, Ordering::Acquire);
            done.map(|found| found as u32).map_err(|found| found as u32)
        })
    }
}

impl<W: QueueWord> ModelMemory<W> {
    /// The head of the block that a page is in at this moment. The pin does not hold the page
    /// there: to ask the head for the page's index or owner is a race, which a checker shows.
    pub fn head_of(&self, page: PagePin) -> PagePin {
        let head = self.model.protocol().head_of(page.page).map_or(page.page, |(head, _)| head);
        PagePin { page: head, counted_at: head }
    }

    /// Maps one page.
    fn set(&self, page: usize, frame: u64, writable: bool) {
        self.model.by_pages(&self.tables, page);
        let word = frame << FRAME | PRESENT | if writable { WRITABLE } else { 0 };
        // Release: pairs with the Acquire in `entry`.
        self.tables.pages[page].store(word, Ordering::Release);
    }
}
