//! What the scenarios about page tables act on: tables of few entries over the checker's words, in
//! the format that ships, and what a space does with them.
//!
//! A pin by address runs the code that ships, walk and second look included. A change of entries is
//! modelled on the same steps in the same order, without what is no step: 512 entries are two, a
//! huge page is two frames, and the addresses are one huge page of which the second page is looked
//! at. A shootdown waits for the instructions under way on other CPUs and drops their translations;
//! it waits for no walk by software, which is less than an environment promises.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tailpin::Class::Splittable;
use tailpin::{AtomicWord, FrameWords, Kind, PAGE_BYTES, PagePin, Pfn, Rearrange};
use tailpin_mm::arch::{Arch, Flags, Leaf, TableEntry, X86_64};
use tailpin_mm::model::{Entries, EntrySlot, LocklessWalk, WalkEnd, change_barrier, gup_fast};
use tailpin_mm::{Level, VirtAddr};

use crate::engine::Engine;
use crate::fixture::{Fixture, to_order};
use crate::lock_wait;
use crate::safeguards::{Safeguard, is_left_out};
use crate::tested_protocol::{TestedProtocol, number};
use crate::trace::{Name, memory, note, violation};
use crate::word::CheckWord;

/// The address looked at: the second page of its huge page.
const ADDR: VirtAddr = VirtAddr::new(PAGE_BYTES);
/// Frames of the tables above the last level: 512 GiB, 1 GiB, 2 MiB.
const ROOT: u64 = 100;
const PUD: u64 = 101;
const PMD: u64 = 102;
/// Frames of the tables of the last level.
const LAST: u64 = 103;

/// A mapping of the space's own that may be written to.
const EXCLUSIVE: Flags = Flags::ANON.with(Flags::EXCLUSIVE).with(Flags::USER).with(Flags::WRITE);

/// What a table of the last level is used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TableUse {
    Free,
    Used,
    /// Out of use while a walk may be in it.
    Retired,
}

/// Whose contents a frame has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FrameUse {
    /// The mapping's, until now.
    Mapped,
    /// The mapping's, until the count was given back at this moment.
    Until(u64),
    Else,
}

struct Ledger {
    clock: u64,
    frames: [FrameUse; 4],
    tables: [TableUse; 2],
    /// Pages on which another owner, a child or a new user of the frame, has a reference.
    others: Vec<u64>,
    /// The translation of the address that each CPU has cached: size and frame.
    cached: [Option<(Level, u64)>; 2],
}

/// One address space of one huge page.
pub(crate) struct PageTableFixture<E: Engine> {
    pmd: CheckWord<E>,
    /// The entries for the first page, which only one thread changes, and for the second.
    last: [[CheckWord<E>; 2]; 2],
    /// The frames that the tables are in, as memory: written when a thread makes a table of one or
    /// uses it for something else, in use while a walk reads an entry.
    memory: [E::Contents; 2],
    /// Open sections.
    readers: CheckWord<E>,
    /// Whether an instruction is under way on each CPU that walks by hardware. Written by that CPU.
    instructions: [CheckWord<E>; 2],
    /// Held while a thread changes the space.
    lock: CheckWord<E>,
    ledger: Mutex<Ledger>,
}

/// An open section.
pub(crate) struct Section<'a, E: Engine>(&'a CheckWord<E>);

impl<E: Engine> Drop for Section<'_, E> {
    fn drop(&mut self) {
        // Release: pairs with the look in `retire` whether a table may be used again.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl<E: Engine> LocklessWalk for PageTableFixture<E> {
    type Section<'a> = Section<'a, E>;

    fn enter(&self) -> Section<'_, E> {
        // Acquire: pairs with the look in `retire` that found no section open, so what came before
        // that look is seen in this section.
        self.readers.fetch_add(1, Ordering::AcqRel);
        Section(&self.readers)
    }
}

impl<E: Engine> Entries for PageTableFixture<E> {
    type Arch = X86_64;
    type Word = CheckWord<E>;

    fn bits(&self, slot: EntrySlot) -> u64 {
        match slot.table.get() {
            ROOT => X86_64::table(Pfn::new(PUD)),
            PUD => X86_64::table(Pfn::new(PMD)),
            PMD => self.pmd.load(Ordering::Acquire),
            table => {
                let table = (table - LAST) as usize;
                memory("table", table as u64, false);
                E::read(&self.memory[table]);
                self.last[table][slot.index].load(Ordering::Acquire)
            }
        }
    }
}

/// A pin that is given back unless it is kept.
struct Pinned<'fx, E: Engine, F: TestedProtocol<CheckWord<E>>> {
    fixture: &'fx Fixture<E, F>,
    held: Option<PagePin>,
}

impl<E: Engine, F: TestedProtocol<CheckWord<E>>> Drop for Pinned<'_, E, F> {
    fn drop(&mut self) {
        // After a failure the ledger is not what it should be.
        if let Some(held) = self.held.take().filter(|_| !std::thread::panicking()) {
            note(|| "gives the pin back".to_owned());
            self.fixture.put(held);
        }
    }
}

fn leaf(level: Level, frame: u64, flags: Flags) -> u64 {
    X86_64::leaf(level, Leaf { frame: Pfn::new(frame), flags })
}

fn described(level: Level, bits: u64) -> String {
    match X86_64::decode(level, bits) {
        TableEntry::Empty => "empty".to_owned(),
        TableEntry::Table(table) => format!("table {}", table.get() - LAST),
        TableEntry::Leaf(leaf) => {
            let own = if leaf.flags.has(Flags::EXCLUSIVE) { "exclusive" } else { "shared" };
            format!("frame {} {own}", leaf.frame.get())
        }
    }
}

impl<E: Engine> PageTableFixture<E> {
    fn new() -> Self {
        lock_wait::blocks();
        let name = |field, frame, decode| Name { frame, field, decode };
        let pmd: fn(u64) -> String = |bits| described(Level::PMD, bits);
        let pte: fn(u64) -> String = |bits| described(Level::PTE, bits);
        let table =
            |table| [CheckWord::plain(name("pte", table, pte)), CheckWord::explored(name("pte", table, pte))];
        let ledger = Ledger {
            clock: 0,
            frames: [FrameUse::Else; 4],
            tables: [TableUse::Free; 2],
            others: Vec::new(),
            cached: [None; 2],
        };
        Self {
            pmd: CheckWord::explored(name("pmd", 0, pmd)),
            last: [table(0), table(1)],
            memory: [E::contents(), E::contents()],
            readers: CheckWord::explored(name("sections", 0, number)),
            instructions: [0, 1].map(|cpu| CheckWord::explored(name("instruction", cpu, number))),
            lock: CheckWord::explored(name("mmap_lock", 0, number)),
            ledger: Mutex::new(ledger),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A thread that failed has left it as it was.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mapped(&self, frame: u64) {
        self.ledger().frames[frame as usize] = FrameUse::Mapped;
    }

    /// The mapping's count on a page was given back. Until then the call that unmaps is under way,
    /// and an entry that it has emptied may still be read as it was.
    fn unmapped(&self, frame: u64) {
        let mut ledger = self.ledger();
        ledger.clock += 1;
        ledger.frames[frame as usize] = FrameUse::Until(ledger.clock);
    }

    /// Whether the page was mapped at some moment from `start` on, and is what it was then.
    fn confirm(&self, frame: u64, start: u64) {
        let whose = self.ledger().frames[frame as usize];
        match whose {
            FrameUse::Mapped => {}
            FrameUse::Until(end) if end > start => {}
            FrameUse::Until(_) => {
                violation(format!("frame {frame} was pinned and mapped at no moment of the call"))
            }
            FrameUse::Else => {
                violation(format!("frame {frame} was pinned for the mapping and is another block's"))
            }
        }
        note(|| format!("keeps the pin on frame {frame}"));
    }

    /// Takes a table of the last level that is not in use.
    fn new_table(&self) -> usize {
        let mut ledger = self.ledger();
        let free = ledger.tables.iter().position(|table| *table == TableUse::Free);
        let table = free.expect("scenarios have tables enough");
        ledger.tables[table] = TableUse::Used;
        drop(ledger);
        memory("table", table as u64, true);
        E::write(&self.memory[table]);
        table
    }

    /// Gives back a table that is out of the tree: never if a walk may be in it, which is when a
    /// shootdown would wait.
    fn retire(&self, table: usize) {
        // AcqRel: either this sees a section, or the section sees that the table is out of the
        // tree.
        let free = self.readers.fetch_add(0, Ordering::AcqRel) == 0 || is_left_out(Safeguard::H19Wait);
        self.ledger().tables[table] = if free { TableUse::Free } else { TableUse::Retired };
    }

    /// Makes an entry absent and drops its translations; returns what it was.
    fn make_absent(&self, entry: &CheckWord<E>) -> u64 {
        let kept = if is_left_out(Safeguard::TEmpty) { 0 } else { !X86_64::PRESENT };
        let was = if is_left_out(Safeguard::TBreak) {
            entry.load(Ordering::Acquire)
        } else {
            entry.fetch_and(kept, Ordering::AcqRel)
        };
        self.shoot_down();
        was
    }

    /// Waits until each CPU is between two instructions, and drops their translations.
    fn shoot_down(&self) {
        // AcqRel: either this sees an instruction, or the instruction sees the entry as it is now.
        for instruction in &self.instructions {
            while instruction.compare_exchange(0, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                CheckWord::<E>::relax();
            }
        }
        self.ledger().cached = [None; 2];
    }

    fn table(&self) -> Option<usize> {
        match X86_64::decode(Level::PMD, self.pmd.load(Ordering::Acquire)) {
            TableEntry::Table(table) => Some((table.get() - LAST) as usize),
            _ => None,
        }
    }

    /// The page mapped by an entry of the last level, and how.
    fn page(&self, table: usize, index: usize) -> Option<Leaf> {
        match X86_64::decode(Level::PTE, self.last[table][index].load(Ordering::Acquire)) {
            TableEntry::Leaf(leaf) => Some(leaf),
            _ => None,
        }
    }

    fn locked(&self, body: impl FnOnce()) {
        while self.lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            CheckWord::<E>::relax();
        }
        body();
        self.lock.store(0, Ordering::Release);
    }
}

fn space<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) -> &PageTableFixture<E> {
    fx.extension()
}

/// Set-up: frames 0 and 1 are one block, mapped whole.
pub(crate) fn huge<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let space = PageTableFixture::<E>::new();
    fx.alloc(0, 1, Splittable);
    (0..2).for_each(|frame| space.mapped(frame));
    space.pmd.store(leaf(Level::PMD, 0, EXCLUSIVE), Ordering::Release);
    fx.extend_with(space);
}

/// Set-up: the two pages are in these frames, mapped one by one.
pub(crate) fn pages<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, frames: [u64; 2]) {
    let space = PageTableFixture::<E>::new();
    let table = space.new_table();
    for (index, frame) in frames.into_iter().enumerate() {
        fx.alloc(frame, 0, Splittable);
        space.mapped(frame);
        space.last[table][index].store(leaf(Level::PTE, frame, EXCLUSIVE), Ordering::Release);
    }
    space.pmd.store(X86_64::table(Pfn::new(LAST + table as u64)), Ordering::Release);
    fx.extend_with(space);
}

/// Pins by address, as ships, and keeps what it got in a slot.
pub(crate) fn pin<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, slot: usize) {
    let space = space(fx);
    let start = space.ledger().clock;
    let try_pin = |found: WalkEnd, leaf: Leaf| -> Result<_, std::convert::Infallible> {
        let page = leaf.frame.offset(u64::from(found.slot.level == Level::PMD));
        Ok(fx.try_get(page.get()).ok().map(|held| Pinned { fixture: fx, held: Some(held) }))
    };
    let meets = |flags: Flags| flags.has(Flags::EXCLUSIVE);
    match gup_fast::<F::Entry, _, _, _>(space, Pfn::new(ROOT), ADDR, meets, try_pin) {
        Ok(Some((mut pinned, _))) => {
            if let Some(held) = pinned.held.take() {
                space.confirm(held.page.get(), start);
                fx.keep(slot, held);
            }
        }
        Ok(None) => note(|| "has no pin".to_owned()),
        Err(never) => match never {},
    }
}

/// The huge mapping becomes two, and the block two pages: the table is complete before it is in the
/// tree.
pub(crate) fn split<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let space = space(fx);
    let seen = space.pmd.load(Ordering::Acquire);
    let TableEntry::Leaf(old) = X86_64::decode(Level::PMD, seen) else { return };
    let table = space.new_table();
    if space.make_absent(&space.pmd) != seen {
        violation("an entry was changed by a thread without the lock".to_owned());
    }
    let head = old.frame.get();
    fx.split(head, 1, 0);
    for index in 0..2 {
        space.last[table][index].store(leaf(Level::PTE, head + index as u64, old.flags), Ordering::Release);
    }
    space.pmd.store(X86_64::table(Pfn::new(LAST + table as u64)), Ordering::Release);
}

/// The second page is replaced by a copy, as by a write after a fork.
pub(crate) fn copy_on_write<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let space = space(fx);
    let Some(table) = space.table() else { return };
    fx.alloc(2, 0, Splittable);
    let entry = &space.last[table][1];
    let TableEntry::Leaf(old) = X86_64::decode(Level::PTE, space.make_absent(entry)) else { return };
    entry.store(leaf(Level::PTE, 2, EXCLUSIVE), Ordering::Release);
    space.mapped(2);
    fx.drop_refs(old.frame.get(), 0, 1);
    space.unmapped(old.frame.get());
}

/// An instruction on a CPU that uses the address: the hardware walks and caches what it finds. No
/// two translations of one address differ at any moment.
pub(crate) fn access<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, cpu: usize) {
    let space = space(fx);
    // AcqRel: pairs with the look in `shoot_down`.
    space.instructions[cpu].fetch_add(1, Ordering::AcqRel);
    let found = space.look_up(Pfn::new(ROOT), ADDR);
    if let TableEntry::Leaf(leaf) = X86_64::decode(found.slot.level, found.bits) {
        let frame = leaf.frame.get() + u64::from(found.slot.level == Level::PMD);
        let mut ledger = space.ledger();
        // Of another CPU, or this one's own, which stays beside the new one.
        let cached = ledger.cached;
        ledger.cached[cpu] = Some((found.slot.level, frame));
        drop(ledger);
        note(|| format!("CPU {cpu} translates to frame {frame}, level {}", found.slot.level.get()));
        if let Some(other) = cached.iter().flatten().find(|other| **other != (found.slot.level, frame)) {
            violation(format!("another translation is cached: frame {}, level {}", other.1, other.0.get()));
        }
    }
    space.instructions[cpu].store(0, Ordering::Release);
}

/// A fault on the address: it waits for the thread that works on an absent entry, and finds what is
/// mapped.
pub(crate) fn fault<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let space = space(fx);
    loop {
        let found = space.look_up(Pfn::new(ROOT), ADDR);
        match X86_64::decode(found.slot.level, found.bits) {
            TableEntry::Leaf(_) => return note(|| "finds the page".to_owned()),
            TableEntry::Empty if found.bits == 0 => {
                violation("nothing is mapped: the fault would map zeroes".to_owned())
            }
            _ => space.locked(|| {}),
        }
    }
}

/// Unmaps the second page, and its frame goes to another owner if it is free then.
pub(crate) fn unmap<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let space = space(fx);
    split(fx);
    let Some(table) = space.table() else { return };
    let taken = space.last[table][1].fetch_and(0, Ordering::AcqRel);
    let TableEntry::Leaf(gone) = X86_64::decode(Level::PTE, taken) else { return };
    let frame = gone.frame.get();
    fx.drop_refs(frame, 0, 1);
    space.unmapped(frame);
    reuse(fx, frame);
}

fn reuse<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, frame: u64) {
    if fx.try_alloc(frame, 0, Splittable) {
        let mut ledger = space(fx).ledger();
        ledger.frames[frame as usize] = FrameUse::Else;
        ledger.others.push(frame);
    }
}

/// The two pages become a huge one: where they are if they are a block in order, else by copy if
/// they are not pinned. The table is out of the tree before the counts are looked at.
pub(crate) fn collapse<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let space = space(fx);
    let Some(table) = space.table() else { return };
    let (Some(first), Some(second)) = (space.page(table, 0), space.page(table, 1)) else { return };
    let frames = [first, second].map(|leaf| leaf.frame.get());
    let in_order = frames[0].is_multiple_of(2) && frames[1] == frames[0] + 1;
    if !in_order {
        fx.alloc(2, 1, Splittable);
    }
    let detached = space.make_absent(&space.pmd);
    change_barrier::<F::Entry, CheckWord<E>>();
    if in_order {
        if let Err(error) = fx.protocol().merge(Pfn::new(frames[0]), to_order(1), fx) {
            violation(format!("no other thread has the pages, but: {error}"));
        }
        space.pmd.store(leaf(Level::PMD, frames[0], EXCLUSIVE), Ordering::Release);
    } else if frames.iter().all(|frame| is_exclusive(fx, *frame)) {
        frames.iter().for_each(|frame| fx.touch(*frame));
        (2..4).for_each(|frame| space.mapped(frame));
        space.pmd.store(leaf(Level::PMD, 2, EXCLUSIVE), Ordering::Release);
        for frame in frames {
            fx.drop_refs(frame, 0, 1);
            space.unmapped(frame);
        }
    } else {
        note(|| "finds a pin: all stays as it was".to_owned());
        space.pmd.store(detached, Ordering::Release);
        return fx.drop_refs(2, 1, 1);
    }
    space.retire(table);
    if !in_order {
        reuse(fx, frames[1]);
    }
}

/// Whether the mapping's own count is the only one on a page.
fn is_exclusive<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, frame: u64) -> bool {
    let state = fx.protocol().state(Pfn::new(frame));
    state.kind == Kind::Page && state.refs == 1 && state.pins == 0
}

/// A child shares the second page, if it is not pinned; else the child gets a copy, which is no
/// step of this.
pub(crate) fn fork<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let space = space(fx);
    let Some(table) = space.table() else { return };
    let entry = &space.last[table][1];
    let seen = entry.load(Ordering::Acquire);
    let TableEntry::Leaf(own) = X86_64::decode(Level::PTE, seen) else { return };
    let frame = own.frame.get();
    let shared = leaf(Level::PTE, frame, own.flags.without(Flags::EXCLUSIVE.with(Flags::WRITE)));
    if entry.compare_exchange(seen, shared, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        violation("an entry was changed by a thread without the lock".to_owned());
    }
    change_barrier::<F::Entry, CheckWord<E>>();
    if is_exclusive(fx, frame) {
        fx.more_refs(frame, 0, 1);
        space.ledger().others.push(frame);
    } else {
        note(|| "finds a pin: the child gets a copy".to_owned());
        entry.compare_exchange(shared, seen, Ordering::AcqRel, Ordering::Relaxed).ok();
    }
}

/// Uses the frames of tables that are free for something that is no table.
pub(crate) fn use_tables<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let space = space(fx);
    for table in 0..2 {
        if space.ledger().tables[table] == TableUse::Free {
            note(|| format!("a thread writes to the frame of table {table}"));
            memory("table", table as u64, true);
            E::write(&space.memory[table]);
        }
    }
}

/// Runs with the space locked, as each thread does that changes it.
pub(crate) fn locked<E: Engine, F: TestedProtocol<CheckWord<E>>>(
    fx: &Fixture<E, F>,
    body: fn(&Fixture<E, F>),
) {
    space(fx).locked(|| body(fx));
}

/// The end: a pin that is left and the mapping have not parted. Then everything is given back.
pub(crate) fn exit<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    let space = space(fx);
    let found = space.look_up(Pfn::new(ROOT), ADDR);
    let mapped = match X86_64::decode(found.slot.level, found.bits) {
        TableEntry::Leaf(leaf) => {
            Some((leaf.frame.get() + u64::from(found.slot.level == Level::PMD), leaf.flags))
        }
        _ => None,
    };
    for held in (0..2).filter_map(|slot| fx.kept(slot)) {
        let pinned = held.page.get();
        if let Some((frame, flags)) = mapped {
            if frame != pinned {
                violation(format!("frame {pinned} is pinned, and frame {frame} is mapped in its place"));
            }
            if !flags.has(Flags::EXCLUSIVE) {
                violation(format!("frame {pinned} is pinned, and shared with the child"));
            }
        }
        fx.put(held);
    }
    match space.table() {
        None => fx.drop_refs(mapped.expect("a huge page stays mapped").0 - 1, 1, 1),
        Some(table) => {
            let left = (0..2).filter_map(|index| space.page(table, index));
            left.for_each(|leaf| fx.drop_refs(leaf.frame.get(), 0, 1));
        }
    }
    let others = std::mem::take(&mut space.ledger().others);
    others.into_iter().for_each(|frame| fx.drop_refs(frame, 0, 1));
}
