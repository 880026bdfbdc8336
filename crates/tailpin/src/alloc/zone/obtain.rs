//! Where the frames of a request come from: loose ones, the store, or what others can be made to give up.

use crate::error::AllocError;
use crate::frame::{Order, Pfn};
use crate::protocol::Protocol;

use super::Zone;
use crate::alloc::area::WORD_ORDER;
use crate::alloc::slot::{Slot, group_of};
use crate::alloc::store::Taken;

/// Times a request may call the reclaim hook before it fails, though the hook says it freed something.
const RECLAIM_ROUNDS: usize = 16;

/// The largest run that is less than a whole area.
const PART: Order = Order::wrap(Order::HUGE.get() - 1);
const _: () = assert!(PART.get() >= WORD_ORDER.get(), "an area has several words");

impl<'m, P: Protocol> Zone<'m, P> {
    /// A block of `order` from wherever there is one.
    pub(super) fn obtain(&self, order: Order) -> Result<Taken, AllocError> {
        self.try_obtain(order).map_or_else(|| self.obtain_hard(order), Ok)
    }

    fn try_obtain(&self, order: Order) -> Option<Taken> {
        match order {
            Order::PAGE => {
                let slot = self.slot();
                let page = self.claim_page(&slot).or_else(|| self.refill(&slot))?;
                Some(Taken::untouched(page))
            }
            Order::HUGE => self.obtain_area(),
            _ if order > Order::HUGE => self.store.take_row(order),
            _ => self.in_part_or_whole(|largest| self.store.take_part(order, largest)),
        }
    }

    /// What can be taken out of areas that are not whole, once loose pages have come together there if need be; else out
    /// of a whole one, and rather of one that was in use than of one that may never have been touched.
    fn in_part_or_whole<T>(&self, take: impl Fn(Order) -> Option<T>) -> Option<T> {
        // Each turn takes away hints, so it goes round only as long as pages become loose.
        loop {
            let taken = take(PART);
            if taken.is_some() || !self.gather_some() {
                break taken;
            }
        }
        .or_else(|| {
            if let Some(area) = self.claim_area_from(0) {
                self.give(area, Order::HUGE);
            }
            take(Order::HUGE)
        })
    }

    /// A whole area, if possible one that was freed lately.
    fn obtain_area(&self) -> Option<Taken> {
        let slot = self.slot();
        match self.claim_area_from(slot.next_area()) {
            Some(head) => {
                slot.set_next_area(self.store.area_after(self.store.area_of(head)));
                Some(Taken::untouched(head))
            }
            None => self.store.take_area(slot.first_area(self.store.areas())),
        }
    }

    /// Pages of one group from the store.
    pub(in crate::alloc) fn take_group(&self) -> Option<(usize, u64)> {
        let taken = self.in_part_or_whole(|largest| self.store.take_pages(largest));
        taken.map(|(first, pages)| (group_of(first), pages))
    }

    /// A page from the store; its neighbours become loose, and the slot answers for them.
    #[inline(never)]
    fn refill(&self, slot: &Slot<'m, P::Word>) -> Option<Pfn> {
        let (group, pages) = self.take_group()?;
        let (mut rest, mut loose) = (pages & (pages - 1), 0);
        while rest != 0 {
            let bit = rest.trailing_zeros();
            match self.protocol.loosen(self.page_of(group, bit), Order::PAGE) {
                Ok(()) => loose |= 1 << bit,
                Err(bad) => self.refuse_bad_frame(bad, Order::PAGE, bad),
            }
            rest &= rest - 1;
        }
        // The one that is handed out too: it is likely to be loose one day, and the step is taken anyhow.
        self.loose.note(group, pages);
        // Also where nothing is left over: the page that is handed out is likely to come back here. Goes round only because
        // somebody else had the slot answer for another one.
        while !self.answer_for(slot, slot.group(), Some(group)) {}
        slot.remember_all(group, loose);
        Some(self.page_of(group, pages.trailing_zeros()))
    }

    /// Gathers what is loose and asks the reclaim hook before it gives up.
    #[cold]
    fn obtain_hard(&self, order: Order) -> Result<Taken, AllocError> {
        for _ in 0..RECLAIM_ROUNDS {
            self.drain();
            if let Some(taken) = self.try_obtain(order) {
                return Ok(taken);
            }
            if !self.config.hooks.is_some_and(|hooks| hooks.reclaim(order, self.free_frames())) {
                break;
            }
        }
        Err(AllocError::Exhausted { order, free_frames: self.free_frames(), free_areas: self.free_areas() })
    }

    /// Notes what is about to be handed out, and has memory reclaimed when little is left.
    pub(super) fn watch(&self, order: Order) {
        if self.config.low_watermark == 0 {
            return;
        }
        self.slot().note_taken(order.frames() as i64);
        if let Some(hooks) = self.config.hooks {
            let taken: i64 = self.all_slots().map(|slot| slot.taken()).sum();
            let free = self.usable.saturating_sub(taken.max(0) as u64);
            if free < self.config.low_watermark {
                hooks.reclaim(order, free);
            }
        }
    }
}
