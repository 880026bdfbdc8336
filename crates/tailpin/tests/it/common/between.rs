//! A second operation from beginning to end before a chosen access that the first one makes to
//! shared memory.
#![allow(dead_code, unreachable_pub)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::hooked::{Access, Hook, Word, words};
use tailpin::{Attach, FrameRange, OneWord, Order, Pfn, RawBlock, Request, Zone, ZoneConfig, ZoneLayout};
use tailpin_classic::Classic;

pub const FRAMES: u64 = 4 * 512;

/// What is run, and how many accesses before it.
type Script = Option<(u64, Box<dyn FnOnce()>)>;

thread_local! {
    static SCRIPT: RefCell<Script> = const { RefCell::new(None) };
    /// The CPU cache that this thread uses.
    pub static CPU: Cell<usize> = const { Cell::new(0) };
}

/// Runs the script's other half in front of a word.
pub struct Interrupts;

impl Hook for Interrupts {
    fn before(_: Access, _: usize) {
        let interrupt = SCRIPT.with_borrow_mut(|script| match script {
            Some((0, _)) => script.take().map(|(_, interrupt)| interrupt),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        });
        if let Some(interrupt) = interrupt {
            interrupt();
        }
    }
}

pub type TestWord = Word<Interrupts>;
pub type Locked = Classic<'static, TestWord>;
pub type LockFree = OneWord<'static, TestWord>;

/// The words of a zone, over which a zone is put anew for each step: all its state is in them.
pub struct World {
    pages: Vec<TestWord>,
    allocator: Vec<TestWord>,
    pub kept: RefCell<Vec<RawBlock>>,
}

/// The protocols of these tests, for zones that live as long as a step.
pub trait Tested {
    type Over<'m>: Attach<'m, Word = TestWord>;
}

impl Tested for LockFree {
    type Over<'m> = OneWord<'m, TestWord>;
}

impl Tested for Locked {
    type Over<'m> = Classic<'m, TestWord>;
}

pub type ZoneOf<'m, T> = Zone<'m, <T as Tested>::Over<'m>>;

pub fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

impl World {
    pub fn new<T: Tested>() -> Rc<Self> {
        let ranges = [FrameRange::new(Pfn::new(0), FRAMES)];
        let layout = ZoneLayout::new(&ranges, 2).unwrap();
        let world = Self {
            pages: words(layout.page_words::<T::Over<'_>>()),
            allocator: words(layout.allocator_words()),
            kept: RefCell::default(),
        };
        ZoneOf::<'_, T>::with_protocol(layout, ZoneConfig::default(), &world.pages, &world.allocator)
            .unwrap();
        Rc::new(world)
    }

    pub fn with<T: Tested, R>(&self, act: impl FnOnce(&ZoneOf<'_, T>) -> R) -> R {
        act(&self.zone::<T>())
    }

    pub fn zone<T: Tested>(&self) -> ZoneOf<'_, T> {
        let ranges = [FrameRange::new(Pfn::new(0), FRAMES)];
        let layout = ZoneLayout::new(&ranges, 2).unwrap();
        let config = ZoneConfig::default().cpu(|| CPU.get());
        Zone::attach_with_protocol(layout, config, &self.pages, &self.allocator).unwrap()
    }

    pub fn take<T: Tested>(&self, orders: &[u8]) {
        for wanted in orders {
            let block = self.with::<T, _>(|zone| zone.raw().alloc(Request::new(order(*wanted))).unwrap());
            self.kept.borrow_mut().push(block);
        }
    }

    /// Gives back the block that was taken last.
    pub fn give<T: Tested>(&self) {
        let block = self.kept.borrow_mut().pop();
        if let Some(block) = block {
            self.with::<T, _>(|zone| zone.raw().put_many(block, 1).unwrap());
        }
    }
}

/// `first`, with `then` before its access `k` to shared memory. False if there are not so many:
/// then `then` was not run.
pub fn with_before(k: u64, first: impl FnOnce(), then: impl FnOnce() + 'static) -> bool {
    SCRIPT.set(Some((k, Box::new(then))));
    first();
    SCRIPT.take().is_none()
}

/// From inside such a `then`: `next` before access `k` of those that are left of the first one.
pub fn and_before(k: u64, next: impl FnOnce() + 'static) {
    SCRIPT.set(Some((k, Box::new(next))));
}

/// Acts as another CPU.
pub fn on_cpu<R>(cpu: usize, act: impl FnOnce() -> R) -> R {
    let before = CPU.replace(cpu);
    let result = act();
    CPU.set(before);
    result
}
