//! A memory small enough to be explored by a model checker: frames under the shipped page protocol,
//! objects in them, and address spaces that map objects by pages or by whole blocks.
//!
//! Other threads may split, collapse, move and truncate while a page is pinned and a word is used,
//! as a real system does. Frames that are freed are used again, with another owner. What is not
//! here is what futexes don't see.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use tailpin::{
    Attach, BlockLife, BlockRefs, Class, FrameMask, FrameRange, FrameWords, FreeSink, Misuse, OneWord, Order,
    Pfn, Rearrange,
};

use crate::memory::ObjectId;
use crate::word::{Part, QueueWord};

mod space;

pub use space::ModelMemory;
use space::{BY_PAGES, FRAME, PRESENT, Tables};

/// How large a model is: its frames and blocks, the pages of a space, the words of a page.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Frames there are.
    pub frames: usize,
    /// Order of a block.
    pub order: u8,
    /// Pages in an address space, counted from address 0.
    pub pages: usize,
    /// Words that a page has, from its beginning on.
    pub words: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { frames: 64, order: 3, pages: 32, words: 16 }
    }
}

/// Frames and objects: what address spaces share.
pub struct Model<W = AtomicU64> {
    size: Size,
    /// The page protocol's words.
    frames: Vec<W>,
    /// Per frame, whose it is: [`NO_OWNER`] and so on, or the object's number.
    owners: Vec<W>,
    /// Per frame, its index in its object.
    indexes: Vec<W>,
    values: Vec<W>,
    /// Held by the thread that changes mappings, objects or frames.
    changing: W,
    /// Where freed frames wait for the next owner: what was done to them before is seen by the
    /// owner that gets them.
    free_list: W,
    state: Mutex<State<W>>,
}

const NO_OWNER: u64 = 0;
const ANONYMOUS: u64 = 1;
const SPECIAL: u64 = 2;
const FIRST_OBJECT: u64 = 16;

struct State<W> {
    used: Vec<bool>,
    objects: BTreeMap<u64, Vec<Option<u64>>>,
    spaces: Vec<Arc<Tables<W>>>,
    next: u64,
}

/// An object: a file, shared memory, or what is behind anonymous memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object(u64);

impl Object {
    /// The object's identity in keys.
    pub fn id(self) -> ObjectId {
        ObjectId(self.0)
    }
}

/// What is mapped somewhere.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// First page in the space.
    pub page: usize,
    /// How many.
    pub pages: usize,
    /// What.
    pub object: Object,
    /// The first page's index in the object.
    pub index: usize,
    /// Whether it may be written.
    pub writable: bool,
    /// Whether writing makes a copy for this space alone.
    pub private: bool,
    /// Whether a block is mapped as one.
    pub huge: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that failed with it held left it as it was.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Model {
    /// Free frames and no object.
    pub fn new(size: Size) -> Arc<Self> {
        Self::with_words(size)
    }
}

impl<W: QueueWord> Model<W> {
    /// Free frames and no object, of a checker's words.
    pub fn with_words(size: Size) -> Arc<Self> {
        let words = |name, count| (0..count).map(|index| W::new(Part::Of(name, index))).collect::<Vec<W>>();
        Arc::new(Self {
            frames: words("page", size.frames),
            owners: words("owner", size.frames),
            indexes: words("index", size.frames),
            values: words("word", size.frames * size.words),
            changing: W::new(Part::Of("mmap_lock", 0)),
            free_list: W::new(Part::Of("shelf", 0)),
            state: Mutex::new(State {
                used: std::vec![false; size.frames],
                objects: BTreeMap::new(),
                spaces: Vec::new(),
                next: FIRST_OBJECT,
            }),
            size,
        })
    }

    fn protocol(&self) -> OneWord<'_, W> {
        OneWord::attach(&self.frames, Pfn::new(0))
    }

    fn state(&self) -> MutexGuard<'_, State<W>> {
        locked(&self.state)
    }

    fn order(&self) -> Order {
        Order::new(self.size.order).unwrap_or(Order::PAGE)
    }

    /// Pages in a block.
    fn block(&self) -> usize {
        1 << self.size.order
    }

    fn change<T>(&self, body: impl FnOnce() -> T) -> T {
        // Acquire and Release: one who changes after the other.
        while self.changing.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            W::relax();
        }
        let result = body();
        self.changing.store(0, Ordering::Release);
        result
    }

    /// A new object of so many pages, in blocks where whole ones fit and are wanted.
    ///
    /// # Panics
    /// If there are not enough frames.
    pub fn object(&self, pages: usize, huge: bool) -> Object {
        let number = self.number();
        self.object_of(number, pages, huge, number)
    }

    fn number(&self) -> u64 {
        let mut state = self.state();
        state.next += 1;
        state.next
    }

    fn object_of(&self, number: u64, pages: usize, huge: bool, owner: u64) -> Object {
        self.state().objects.insert(number, std::vec![None; pages]);
        let mut index = 0;
        while huge && index + self.block() <= pages {
            let head = self.allocate(self.order(), owner, index as u64).expect("the model has frames enough");
            self.enter(number, index, head, self.block());
            index += self.block();
        }
        for index in index..pages {
            let page = self.allocate(Order::PAGE, owner, index as u64).expect("the model has frames enough");
            self.enter(number, index, page, 1);
        }
        Object(number)
    }

    fn enter(&self, object: u64, index: usize, head: u64, pages: usize) {
        let mut state = self.state();
        let slots = state.objects.get_mut(&object).expect("objects are never removed");
        (0..pages).for_each(|page| slots[index + page] = Some(head + page as u64));
    }

    /// The frame of an object's page.
    pub fn frame(&self, object: Object, index: usize) -> Option<u64> {
        *self.state().objects.get(&object.0)?.get(index)?
    }

    /// Order of the block that an object's page is in.
    pub fn order_of(&self, object: Object, index: usize) -> Option<u8> {
        let frame = self.frame(object, index)?;
        self.protocol().head_of(Pfn::new(frame)).map(|(_, order)| order.get())
    }

    fn allocate(&self, order: Order, owner: u64, index: u64) -> Option<u64> {
        let pages = order.frames() as usize;
        let head = {
            let mut state = self.state();
            let used = &mut state.used;
            let head =
                (0..used.len() / pages).map(|n| n * pages).find(|&n| !used[n..n + pages].contains(&true))?;
            used[head..head + pages].fill(true);
            head as u64
        };
        // Acquire: pairs with the Release in `freed`.
        self.free_list.fetch_add(0, Ordering::Acquire);
        self.protocol().prepare(Pfn::new(head), order).expect("a free frame is clean");
        for page in 0..pages as u64 {
            let frame = (head + page) as usize;
            // Relaxed: published with the count.
            self.owners[frame].store(owner, Ordering::Relaxed);
            self.indexes[frame].store(index + page, Ordering::Relaxed);
            let words = frame * self.size.words..(frame + 1) * self.size.words;
            self.values[words].iter().for_each(|value| value.store(0, Ordering::Relaxed));
        }
        self.protocol().publish(Pfn::new(head), order, Class::Splittable);
        Some(head)
    }

    /// Splits the block that an object's page is in, however it is mapped or pinned.
    pub fn split(&self, object: Object, index: usize) {
        self.change(|| {
            let Some(frame) = self.frame(object, index) else { return };
            let Some((head, order)) = self.protocol().head_of(Pfn::new(frame)) else { return };
            if order > Order::PAGE {
                let first = index - (frame - head.get()) as usize;
                self.for_each_entry(object.0, first, self.block(), |tables, page| {
                    self.by_pages(tables, page)
                });
                let split = self.protocol().split(FrameRange::block(head, order), Order::PAGE, self);
                split.expect("no pin is in the way of a split");
            }
        });
    }

    /// Lets a block's addresses be mapped by pages. The block stays what it is.
    fn by_pages(&self, tables: &Tables<W>, page: usize) {
        let block = page / self.block();
        // Relaxed: changed only under the lock.
        let entry = tables.blocks[block].load(Ordering::Relaxed);
        if entry & PRESENT != 0 {
            for page in 0..self.block() {
                let word = entry + ((page as u64) << FRAME);
                tables.pages[block * self.block() + page].store(word, Ordering::Relaxed);
            }
        }
        if entry != BY_PAGES {
            // Release: pairs with the Acquire in `entry`.
            tables.blocks[block].store(BY_PAGES, Ordering::Release);
        }
    }

    /// Calls for each place where one of these pages of an object is mapped; copies are none of it.
    fn for_each_entry(
        &self,
        object: u64,
        index: usize,
        pages: usize,
        mut each: impl FnMut(&Tables<W>, usize),
    ) {
        let spaces = self.state().spaces.clone();
        for tables in spaces {
            let places: Vec<usize> = {
                let map = locked(&tables.map);
                let of = |mapping: &&Mapping| mapping.object.0 == object;
                let pages = map.mappings.iter().filter(of).flat_map(|mapping| {
                    let first = index.max(mapping.index);
                    let end = (index + pages).min(mapping.index + mapping.pages);
                    (first..end).map(|page| mapping.page + page - mapping.index)
                });
                pages.filter(|page| !map.copies.contains_key(page)).collect()
            };
            places.into_iter().for_each(|page| each(&tables, page));
        }
    }

    fn unmap(&self, object: u64, index: usize, pages: usize) {
        self.for_each_entry(object, index, pages, |tables, page| {
            let block = page / self.block();
            if tables.blocks[block].load(Ordering::Relaxed) & PRESENT != 0 {
                let whole = pages >= self.block();
                if whole {
                    tables.blocks[block].store(0, Ordering::Release);
                    return;
                }
                self.by_pages(tables, page);
            }
            // Release: pairs with the Acquire in `entry`.
            tables.pages[page].store(0, Ordering::Release);
        });
        // Pairs with the fence in `pin`: a thread that pinned one of the pages before is seen, or
        // sees that it is gone.
        W::fence(Ordering::SeqCst);
    }

    /// Moves pages `index` and on of an object to a fresh block of 2^`order`: a migration, or (of
    /// pages that are not one block) a collapse. Refused while one of them is pinned, or if there
    /// is no free block.
    pub fn relocate(&self, object: Object, index: usize, order: u8) -> bool {
        let order = Order::new(order).unwrap_or(Order::PAGE);
        let pages = order.frames() as usize;
        let first = index & !(pages - 1);
        self.change(|| {
            let old: Option<Vec<u64>> =
                (first..first + pages).map(|index| self.frame(object, index)).collect();
            let Some(old) = old else { return false };
            let whole = |frame: &u64| {
                self.protocol().head_of(Pfn::new(*frame)).is_some_and(|(_, found)| found <= order)
            };
            if !old.iter().all(whole) {
                return false;
            }
            let owner = self.owners[old[0] as usize].load(Ordering::Relaxed);
            self.unmap(object.0, first, pages);
            let pinned = |frame: &u64| self.protocol().state(Pfn::new(*frame)).pins > 0;
            if old.iter().any(pinned) {
                return false;
            }
            let Some(head) = self.allocate(order, owner, first as u64) else { return false };
            for (page, &frame) in old.iter().enumerate() {
                for word in 0..self.size.words {
                    let value = self.values[frame as usize * self.size.words + word].load(Ordering::Acquire);
                    let to = (head as usize + page) * self.size.words + word;
                    self.values[to].store(value, Ordering::Release);
                }
            }
            self.enter(object.0, first, head, pages);
            self.release(&old);
            true
        })
    }

    /// Takes everything from page `index` on out of an object.
    pub fn truncate(&self, object: Object, index: usize) {
        self.change(|| {
            let gone: Vec<u64> = {
                let mut state = self.state();
                let slots = state.objects.get_mut(&object.0).expect("objects are never removed");
                slots.drain(index.min(slots.len())..).flatten().collect()
            };
            // A block that reaches over the new end goes small first.
            if let Some(&frame) = gone.first()
                && let Some((head, order)) = self.protocol().head_of(Pfn::new(frame))
                && head != Pfn::new(frame)
            {
                let first = index - (frame - head.get()) as usize;
                self.for_each_entry(object.0, first, self.block(), |tables, page| {
                    self.by_pages(tables, page)
                });
                let split = self.protocol().split(FrameRange::block(head, order), Order::PAGE, self);
                split.expect("no pin is in the way of a split");
            }
            self.unmap(object.0, index, gone.len());
            self.release(&gone);
        });
    }

    /// Drops the object's reference to frames that are mapped nowhere.
    fn release(&self, frames: &[u64]) {
        for &frame in frames {
            // Release: a thread that has the page pinned and then sees its index has seen the owner
            // it had or this.
            self.owners[frame as usize].store(NO_OWNER, Ordering::Release);
        }
        let mut rest = frames;
        while let Some(&first) = rest.first() {
            let head = self.protocol().head_of(Pfn::new(first));
            let (head, order) = head.expect("the object has a reference to its frames");
            assert_eq!(head, Pfn::new(first), "an object lets go of whole blocks");
            self.protocol().put_block(head, order, self);
            rest = &rest[order.frames() as usize..];
        }
    }

    fn freed(&self, frame: usize) {
        self.owners[frame].store(NO_OWNER, Ordering::Relaxed);
        // Release: pairs with the Acquire in `allocate`.
        self.free_list.fetch_add(1, Ordering::Release);
        self.state().used[frame] = false;
    }
}

impl<W: QueueWord> FreeSink for Model<W> {
    fn freed_block(&self, head: Pfn, order: Order) {
        FrameRange::block(head, order).iter().for_each(|frame| self.freed(frame.get() as usize));
    }

    fn freed_frames(&self, pageblock: Pfn, frames: &FrameMask) {
        frames.iter().for_each(|index| self.freed((pageblock.get() + index) as usize));
    }

    fn freed_offline(&self, _frame: Pfn) {}

    fn misuse(&self, misuse: &Misuse) {
        panic!("the model does not misuse its frames: {misuse}");
    }
}
