//! What comes back: into the CPU's pockets or the store, after the last reference.

use crate::frame::{Order, Pfn};
use crate::protocol::{Owner, Protocol};
use crate::report::Misuse;

use super::Zone;
use crate::alloc::slot::Put;

impl<P: Protocol> Zone<'_, P> {
    /// Moves every cached page back to the store.
    ///
    /// Progress: lock-free; a cache is taken by one step, nobody is ever inside of it.
    pub fn drain(&self) {
        for pocket in self.all_slots().flat_map(|slot| slot.drain()) {
            self.give_pages(pocket.first(), pocket.pages());
        }
    }

    #[inline(never)]
    pub(super) fn give(&self, head: Pfn, order: Order) {
        self.given(order.frames(), self.store.give(head, order));
    }

    /// Gives back pages from number `first` on, as bits; not beyond a multiple of 32.
    #[inline(never)]
    pub(super) fn give_pages(&self, first: u64, pages: u32) {
        self.given(u64::from(pages.count_ones()), self.store.give_pages(first, pages));
    }

    /// Notes what the store was given, or that it has it already.
    #[inline]
    pub(super) fn given(&self, frames: u64, given: Result<(), Pfn>) {
        if self.config.low_watermark != 0 {
            self.slot().note_taken(-(frames as i64));
        }
        if let Err(frame) = given {
            self.refuse_free_frame(frame);
        }
    }
}

impl<P: Protocol> Owner for Zone<'_, P> {
    #[inline]
    fn freed_page(&self, page: Pfn) {
        if let Some(hooks) = self.config.hooks {
            hooks.after_last_reference(page, Order::PAGE);
        }
        let number = self.store.number(page);
        match self.slot().put(number) {
            Put::Kept => {}
            Put::Refused => self.give_pages(number, 1),
            Put::Displaced(others) => self.give_pages(others.first(), others.pages()),
            Put::AlreadyFree => self.refuse_free_frame(page),
        }
    }

    #[inline]
    fn freed_block(&self, head: Pfn, order: Order) {
        if order == Order::PAGE {
            return self.freed_page(head);
        }
        if let Some(hooks) = self.config.hooks {
            hooks.after_last_reference(head, order);
        }
        match order {
            Order::HUGE => {
                let area = self.store.area_of(head);
                self.slot().set_last_area(area);
                self.given(Order::HUGE.frames(), self.store.give_whole(area));
            }
            _ => self.give(head, order),
        }
    }

    fn freed_frames(&self, area: Pfn, frames: &[u64; 8]) {
        if let Some(hooks) = self.config.hooks {
            let freed = |i: &u64| frames[(i / 64) as usize] >> (i % 64) & 1 != 0;
            for index in (0..Order::HUGE.frames()).filter(freed) {
                hooks.after_last_reference(area.offset(index), Order::PAGE);
            }
        }
        let n: u32 = frames.iter().map(|word| word.count_ones()).sum();
        self.given(u64::from(n), self.store.give_area(area, frames));
    }

    fn retired(&self, _frame: Pfn) {
        self.count_set_aside(1);
    }

    #[cold]
    fn misuse(&self, misuse: Misuse) {
        self.tell(&misuse);
        self.set_aside(misuse.frame);
    }
}
