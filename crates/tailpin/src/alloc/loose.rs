//! Where loose frames are: pages and whole areas that are free, outside the store, and there for
//! whoever claims them by their own words.
//!
//! A page that is freed becomes loose in that very step, and is claimed in the very step that hands
//! it out, so its life is two atomic steps on one word. All that is kept here is how to find it: a
//! hint to each group of 64 pages with a loose one in it, unless a CPU's [slot](super::slot)
//! answers for the group; for each group, which of its pages may be loose; and a hint to each area
//! that is loose as a whole. Runs of pages come together only in the store, so loose ones are
//! [gathered](Zone::drain) into it when they are missed there.
//!
//! No loose page is forgotten: who makes one loose looks whether its group has it down, and for a
//! hint or a slot that leads to the group, *after* that; and who takes any of these away looks for
//! loose pages after *that*. Each writes first and looks then, all of it SeqCst, so one of the two
//! sees the other. What is noted and no longer so costs a look at a word, and is taken away by who
//! had that look.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::finally::Finally;
use crate::frame::{AREA_FRAMES, Order, Pfn};
use crate::protocol::Protocol;

use super::layout::ZoneLayout;
use super::slot::{GROUP_PAGES, Slot, first_of, group_of};
use super::tree::{Hint, Tree};
use super::zone::Zone;

const GROUPS_IN_AREA: usize = AREA_FRAMES / GROUP_PAGES as usize;

const _: () = assert!(GROUP_PAGES == 64, "a group of pages is a word of the store");

/// The hints.
pub(crate) struct Loose<'m, W> {
    /// For each group, the pages that may be loose; those that are loose are among them.
    pages: &'m [W],
    groups: Tree<'m, W>,
    areas: Tree<'m, W>,
}

/// Words of metadata for the hints over so many areas.
pub(super) const fn loose_words<W: AtomicWord>(areas: usize) -> usize {
    let groups = areas * GROUPS_IN_AREA;
    groups + Tree::<W>::words(groups) + Tree::<W>::words(areas)
}

impl<'m, W: AtomicWord> Loose<'m, W> {
    pub(crate) fn new(layout: &ZoneLayout<'_>, words: &'m [W]) -> Self {
        let areas = layout.areas();
        let (pages, rest) = words[layout.loose_at()..].split_at(areas * GROUPS_IN_AREA);
        let (groups, rest) = rest.split_at(Tree::<W>::words(areas * GROUPS_IN_AREA));
        Self {
            pages,
            groups: Tree::new(groups, areas * GROUPS_IN_AREA, Hint::One),
            areas: Tree::new(rest, areas, Hint::One),
        }
    }

    /// The pages of a group that may be loose. SeqCst: after one became loose, or after a hint to
    /// the group was taken away.
    #[inline]
    fn pages(&self, group: usize) -> u64 {
        self.pages[group].load(Ordering::SeqCst)
    }

    /// Groups of which something is noted.
    fn noted(&self) -> impl Iterator<Item = usize> {
        // Relaxed: what is noted of each is looked at by `pages`.
        (0..self.pages.len()).filter(|group| self.pages[*group].load(Ordering::Relaxed) != 0)
    }

    /// Notes that pages of a group may be loose. SeqCst: after they became loose.
    #[inline]
    pub(super) fn note(&self, group: usize, pages: u64) {
        self.pages[group].fetch_or(pages, Ordering::SeqCst);
    }

    /// Notes that they are not. SeqCst: before one more look at them.
    fn strike(&self, group: usize, pages: u64) {
        self.pages[group].fetch_and(!pages, Ordering::SeqCst);
    }
}

impl<'m, P: Protocol> Zone<'m, P> {
    /// Sees to it that a page which has just become loose is found.
    #[inline(always)]
    pub(super) fn lead_to_page(&self, page: Pfn) {
        // Which slot it is the caller's code says, which may panic.
        let unwinds = Finally(|| self.lead_by_hint(page));
        let slot = self.slot();
        core::mem::forget(unwinds);
        let number = self.store.number(page);
        let group = group_of(number);
        if self.loose.pages(group) >> (number % GROUP_PAGES) & 1 == 0 {
            self.loose.note(group, 1 << (number % GROUP_PAGES));
        }
        let own = slot.group() == Some(group);
        // Beyond the own group a sparse area is left alone, so that it becomes whole.
        if own || !self.store.is_sparse(group / GROUPS_IN_AREA) {
            slot.remember(number);
        }
        if !own {
            self.loose.groups.mark(group);
        }
    }

    /// The same where no slot is known.
    #[cold]
    fn lead_by_hint(&self, page: Pfn) {
        let number = self.store.number(page);
        self.loose.note(group_of(number), 1 << (number % GROUP_PAGES));
        self.loose.groups.mark(group_of(number));
    }

    /// The same for a whole area.
    #[inline(always)]
    pub(super) fn lead_to_area(&self, head: Pfn) {
        let area = self.store.area_of(head);
        self.loose.areas.mark(area);
        self.slot().set_next_area(area);
    }

    /// A loose page: where the slot remembers one, of the group that it answers for, or of the
    /// lowest that is hinted at.
    pub(super) fn claim_page(&self, slot: &Slot<'m, P::Word>) -> Option<Pfn> {
        // A place that was in vain is forgotten, so this ends unless others remember more in the
        // same slot.
        while let Some(number) = slot.next_page() {
            let page = self.store.frame(number);
            if self.protocol.claim(page, Order::PAGE) {
                slot.went();
                return Some(page);
            }
            slot.forget_next();
        }
        if let Some(group) = slot.group() {
            if let Some(page) = self.claim_in(self.loose_in(group), group, slot) {
                return Some(page);
            }
            self.answer_for(slot, Some(group), None);
        }
        // Each turn takes away a hint, so it goes round only as long as pages become loose.
        loop {
            let group = self.next_group()?;
            let loose = self.loose_hinted(group);
            // With more than one the slot answers for them; with one, which is taken, there is
            // nothing to answer for.
            if loose.count_ones() > 1 && !self.answer_for(slot, slot.group(), Some(group)) {
                self.loose.groups.mark(group);
            }
            if let Some(page) = self.claim_in(loose, group, slot) {
                return Some(page);
            }
        }
    }

    /// Page `nth` of a group.
    #[inline]
    pub(super) fn page_of(&self, group: usize, nth: u32) -> Pfn {
        self.store.frame(first_of(group) + u64::from(nth))
    }

    /// Claims one of these pages of a group, and has the slot remember the others.
    fn claim_in(&self, loose: u64, group: usize, slot: &Slot<'m, P::Word>) -> Option<Pfn> {
        let mut rest = loose;
        while rest != 0 {
            let page = self.page_of(group, rest.trailing_zeros());
            rest &= rest - 1;
            if self.protocol.claim(page, Order::PAGE) {
                slot.remember_all(group, rest);
                return Some(page);
            }
        }
        None
    }

    /// Has the slot answer for `new` instead of the `old` group, and hints at what is left there.
    /// False if somebody else came first.
    pub(super) fn answer_for(
        &self,
        slot: &Slot<'m, P::Word>,
        old: Option<usize>,
        new: Option<usize>,
    ) -> bool {
        let changed = slot.change_group(old, new);
        if changed && let Some(old) = old.filter(|old| new != Some(*old) && self.loose_in(*old) != 0) {
            self.loose.groups.mark(old);
        }
        changed
    }

    /// The lowest group that a hint leads to, which is taken away. What is loose in sparse areas
    /// goes to the store.
    fn next_group(&self) -> Option<usize> {
        loop {
            let group = self.loose.groups.next(0)?;
            self.loose.groups.clear(group, || false);
            if !self.store.is_sparse(group / GROUPS_IN_AREA) {
                return Some(group);
            }
            self.gather(group);
        }
    }

    /// The lowest group with loose pages that a hint leads to, and these pages, for which the
    /// caller answers now.
    pub(super) fn loose_group(&self) -> Option<(usize, u64)> {
        // As in `claim_page`.
        loop {
            let group = self.next_group()?;
            let pages = self.loose_in(group);
            if pages != 0 {
                return Some((group, pages));
            }
        }
    }

    /// Has a hint lead to a group, as nobody answers for its loose pages any more.
    pub(super) fn hint_at_group(&self, group: usize) {
        self.loose.groups.mark(group);
    }

    /// The loose pages of a group.
    fn loose_in(&self, group: usize) -> u64 {
        self.loose_of(group, self.loose.pages(group))
    }

    /// The same where a hint led to the group: what is noted of other pages is taken away, so that
    /// the next one who is led here finds loose ones sooner.
    fn loose_hinted(&self, group: usize) -> u64 {
        let noted = self.loose.pages(group);
        let loose = self.loose_of(group, noted);
        let other = noted & !loose;
        if other == 0 {
            return loose;
        }
        self.loose.strike(group, other);
        let meanwhile = self.loose_of(group, other);
        if meanwhile != 0 {
            self.loose.note(group, meanwhile);
        }
        loose | meanwhile
    }

    /// Which of these pages of a group are loose.
    fn loose_of(&self, group: usize, pages: u64) -> u64 {
        self.protocol.uncoalesced_among(self.page_of(group, 0), pages)
    }

    /// A loose area: the first from `from` on, else the first of all.
    pub(super) fn claim_area_from(&self, from: usize) -> Option<Pfn> {
        let head = |area: usize| self.store.first_frame(area);
        let worth = |area: usize| self.protocol.is_uncoalesced(head(area), Order::HUGE);
        let claim = |area: usize| self.protocol.claim(head(area), Order::HUGE).then(|| head(area));
        let search = |from| self.loose.areas.search(from, worth, claim);
        search(from).or_else(|| search(0))
    }

    /// Brings loose pages and areas into the store, where they come together to larger blocks.
    ///
    /// Progress: lock-free; it looks once at each group and area that is hinted at.
    pub fn drain(&self) {
        for slot in self.all_slots() {
            if let Some(group) = slot.group()
                && slot.change_group(Some(group), None)
            {
                self.gather(group);
            }
        }
        self.gather_hinted(usize::MAX);
        for area in self.loose.areas.iter() {
            self.loose.areas.clear(area, || false);
            let head = self.store.first_frame(area);
            if self.protocol.claim(head, Order::HUGE) {
                self.give(head, Order::HUGE);
            }
        }
    }

    /// The same wherever a loose page is noted or an area is loose, whether or not a hint leads
    /// there.
    pub(super) fn drain_unhinted(&self) {
        // What is noted stays: most pages that are in use will be loose again.
        self.loose.noted().for_each(|group| self.gather_pages(group, self.loose_in(group)));
        for head in (0..self.store.areas()).map(|area| self.store.first_frame(area)) {
            if self.protocol.claim(head, Order::HUGE) {
                self.give(head, Order::HUGE);
            }
        }
    }

    /// The same for the lowest of the groups that are hinted at, an area's worth of them; false if
    /// there is none.
    pub(super) fn gather_some(&self) -> bool {
        self.gather_hinted(GROUPS_IN_AREA) > 0
    }

    fn gather_hinted(&self, most: usize) -> usize {
        let gather = |group| {
            self.loose.groups.clear(group, || false);
            self.gather(group);
        };
        self.loose.groups.iter().take(most).map(gather).count()
    }

    fn gather(&self, group: usize) {
        self.gather_pages(group, self.loose_hinted(group));
    }

    fn gather_pages(&self, group: usize, loose: u64) {
        let (mut rest, mut pages) = (loose, 0);
        while rest != 0 {
            let lowest = rest & rest.wrapping_neg();
            if self.protocol.claim(self.page_of(group, rest.trailing_zeros()), Order::PAGE) {
                pages |= lowest;
            }
            rest ^= lowest;
        }
        if pages != 0 {
            self.give_pages(group, pages);
        }
    }

    /// Loose frames, by a look from outside.
    pub(super) fn loose_frames(&self) -> u64 {
        let named = |slots: usize| self.all_slots().take(slots).filter_map(|slot| slot.group());
        // Groups that a slot answers for may be hinted at too, and two slots may answer for one.
        let unhinted = self.all_slots().enumerate().filter_map(|(index, slot)| {
            let group = slot.group()?;
            let new = !self.loose.groups.leads_to(group) && named(index).all(|earlier| earlier != group);
            new.then_some(group)
        });
        let groups = self.loose.groups.iter().chain(unhinted);
        let pages: u64 = groups.map(|group| u64::from(self.loose_in(group).count_ones())).sum();
        pages + self.loose_areas() * AREA_FRAMES as u64
    }

    /// Areas that are loose as a whole.
    pub(super) fn loose_areas(&self) -> u64 {
        let is_uncoalesced =
            |area: &usize| self.protocol.is_uncoalesced(self.store.first_frame(*area), Order::HUGE);
        self.loose.areas.iter().filter(is_uncoalesced).count() as u64
    }
}
