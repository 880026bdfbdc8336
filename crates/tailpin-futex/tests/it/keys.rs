//! Keys: what they are made of, and that nothing that happens to a page changes them (I11 to I14,
//! H8 to H11, H25).

use crate::common;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use common::{Meddled, another, lost, read_only, shared, table, until_waiting};
use tailpin_futex::model::{Mapping, Model, ModelMemory, Object, Size};
use tailpin_futex::{
    Access, Address, AllSafeguards, Derived, Error, Futex, Key, KeyKind, Memory, ObjectId, Safeguard,
    Safeguards, Scheduler, SpaceId, derive,
};

/// The derivation as it ships, or without a step.
fn look<G: Safeguards<Safeguard>>(memory: &impl Memory, at: u64, access: Access) -> Result<Derived, Error> {
    let futex = Futex::shared(memory, at);
    let at = Address::new(at);
    derive::<_, G>(&futex, access, |attempts| {
        (attempts >= 1000).then_some(Error::TooManyRetries { at, attempts })
    })
}

fn key(memory: &impl Memory, at: u64) -> Key {
    look::<AllSafeguards>(memory, at, Access::Read).unwrap().key
}

#[test]
fn a_private_key_touches_no_page() {
    let memory = ModelMemory::anonymous(1);
    let counted = Meddled::new(&memory, |_| ());
    let futex = Futex::private(&counted, 1 << 40);
    let derived = derive::<_, AllSafeguards>(&futex, Access::Write, |_| None).unwrap();
    assert_eq!(derived, Derived { key: Key::private(memory.space(), Address::new(1 << 40)), attempts: 0 });
    assert_eq!(counted.pins.into_inner(), 0);
}

#[test]
fn a_writable_private_mapping_of_a_file_has_an_anonymous_key_whoever_asks() {
    let model = Model::new(Size::default());
    let (memory, object) = (model.space(), model.object(1, false));
    memory.map(Mapping { page: 0, pages: 1, object, index: 0, writable: true, private: true, huge: false });
    assert_eq!(key(&memory, 4).kind(), KeyKind::Anonymous);
    // Only readable, it has the file's, like every other mapping of the file.
    let view = read_only(&model, 1, object, true);
    let all = another(&model, 3, 1, object);
    assert_eq!(key(&view, 4), key(&all, 3 * 4096 + 4));
    assert_eq!(key(&view, 4).kind(), KeyKind::Object);
}

#[test]
fn every_word_of_a_large_page_has_its_own_key_and_each_view_of_it_the_same() {
    let (memory, object) = shared(16);
    let by_pages = another(memory.model(), 16, 16, object);
    let view = read_only(memory.model(), 16, object, false);
    let mut keys = Vec::new();
    for page in 0..16 {
        for word in 0..4 {
            let at = page * 4096 + word * 4;
            let here = key(&memory, at);
            assert_eq!(here, Key::object(object.id(), page, Address::new(at)));
            assert_eq!(here, key(&by_pages, at + 16 * 4096));
            assert_eq!(here, key(&view, at));
            keys.push(here);
        }
    }
    let all = keys.len();
    keys.sort_by_key(|key| format!("{key}"));
    keys.dedup();
    assert_eq!(keys.len(), all);
}

/// H8 as it was in 2013: what the second attempt asks for is more than the first has proved.
struct AsksForMore;
impl Safeguards<Safeguard> for AsksForMore {
    const WITHOUT: Option<Safeguard> = Some(Safeguard::H8);
}

/// H25: "read-only" is remembered from one look to the next.
struct StaysReadOnly;
impl Safeguards<Safeguard> for StaysReadOnly {
    const WITHOUT: Option<Safeguard> = Some(Safeguard::H25);
}

#[test]
fn i12_a_read_only_huge_page_takes_one_look_and_two_attempts() {
    let (memory, object) = shared(8);
    let view = read_only(memory.model(), 8, object, false);
    let counted = Meddled::new(&view, |_| ());
    let derived = look::<AllSafeguards>(&counted, 5 * 4096, Access::Read).unwrap();
    assert_eq!(derived, Derived { key: key(&memory, 5 * 4096), attempts: 1 });
    assert_eq!(counted.pins.into_inner(), 2);
    assert!(matches!(
        look::<AllSafeguards>(&view, 0, Access::Write),
        Err(Error::Fault { fault: tailpin_futex::Fault::NotWritable, .. })
    ));
}

#[test]
fn process_stuck_at_exit_the_logic_of_2013_never_ends_and_ours_does() {
    let (memory, object) = shared(8);
    let view = read_only(memory.model(), 8, object, false);
    let stuck = look::<AsksForMore>(&view, 4096, Access::Read);
    assert_eq!(stuck, Err(Error::TooManyRetries { at: Address::new(4096), attempts: 1000 }));
    assert!(look::<AllSafeguards>(&view, 4096, Access::Read).is_ok());

    // The same in the place where it was seen: a thread that ends in a wait, its robust lock in
    // that page.
    let futexes = table();
    let interrupted = {
        let futexes = &futexes;
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                futexes.scheduler().current().interrupt();
                let waited = futexes.wait(&Futex::shared(&view, 4096), 0, None);
                (waited, futexes.exit_thread(&view, futexes.scheduler().tid(), None))
            });
            waiter.join().unwrap().0
        })
    };
    assert_eq!(interrupted, Err(Error::Interrupted));
}

#[test]
fn the_number_of_looks_is_bounded_by_the_number_of_changes() {
    for changes in 0..12 {
        let (memory, object) = shared(8);
        // Between the fault and the next attempt the page is moved: the entry is gone each time.
        let meddle = |attempt| {
            if attempt > 1 && attempt <= changes + 1 {
                assert!(memory.model().relocate(object, 3, 3));
            }
        };
        let meddled = Meddled::new(&memory, meddle);
        let derived = look::<AllSafeguards>(&meddled, 3 * 4096, Access::Read).unwrap();
        assert!(derived.attempts <= 2 + changes, "{derived:?} after {changes} changes");
        let pins = meddled.pins.load(Ordering::SeqCst);
        assert!(pins <= 2 * (2 + changes) + changes, "{pins} attempts after {changes} changes");
    }
}

#[test]
fn endless_change_keeps_nobody_for_ever() {
    let (memory, object) = shared(8);
    let futexes = table();
    let restless = Meddled::new(&memory, |_| {
        memory.model().relocate(object, 0, 3);
    });
    let futex = Futex::shared(&restless, 0);
    assert_eq!(futexes.wake(&futex, 1), Err(Error::TooManyRetries { at: futex.at, attempts: 65_536 }));
    assert_eq!(restless.pins.load(Ordering::SeqCst), 65_536);
    // A wait goes on until the thread is interrupted.
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            send.send(futexes.scheduler().current()).unwrap();
            futexes.wait(&futex, 0, None)
        });
        let thread = receive.recv().unwrap();
        while restless.pins.load(Ordering::SeqCst) < 2 * 65_536 {
            thread::yield_now();
        }
        thread.interrupt();
        assert_eq!(waiter.join().unwrap(), Err(Error::Interrupted));
    });
    assert!(futexes.is_idle());
}

#[test]
fn a_page_that_belongs_to_nobody_is_looked_at_twice_and_no_more() {
    let model = Model::new(Size::default());
    let memory = model.space();
    memory.map_special(1);
    let counted = Meddled::new(&memory, |_| ());
    let at = Address::new(4096);
    assert_eq!(look::<AllSafeguards>(&counted, 4096, Access::Read), Err(Error::SpecialMapping { at }));
    assert!(counted.pins.into_inner() <= 4);
}

#[test]
fn h25_a_mapping_that_becomes_writable_between_two_looks_is_no_error() {
    fn run<G: Safeguards<Safeguard>>() -> Result<Derived, Error> {
        let model = Model::new(Size::default());
        let (memory, object) = (model.space(), model.object(1, false));
        let file =
            Mapping { page: 0, pages: 1, object, index: 0, writable: false, private: false, huge: false };
        memory.map(file);
        let swapped = AtomicBool::new(false);
        // The first look finds a page that has just been taken out of its object; then the place is
        // mapped anew.
        let meddled = Detaching { memory: &memory, object, swapped: &swapped };
        look::<G>(&meddled, 0, Access::Read)
    }
    let derived = run::<AllSafeguards>().unwrap();
    assert_eq!(derived.key.kind(), KeyKind::Anonymous);
    assert!(derived.attempts <= 3);
    assert!(matches!(run::<StaysReadOnly>(), Err(Error::ReadOnlyAnonymous { .. })));
}

/// When the pinned page is asked whose it is for the first time, it has just lost its object, and
/// its address is mapped to writable anonymous memory.
struct Detaching<'m> {
    memory: &'m ModelMemory,
    object: Object,
    swapped: &'m AtomicBool,
}

impl Memory for Detaching<'_> {
    type Page = <ModelMemory as Memory>::Page;
    type PageName = <ModelMemory as Memory>::PageName;
    fn space(&self) -> SpaceId {
        self.memory.space()
    }
    fn pin(&self, at: Address, access: Access) -> Result<Self::Page, tailpin_futex::NotPresent> {
        self.memory.pin(at, access)
    }
    fn unpin(&self, page: Self::Page) {
        self.memory.unpin(page);
    }
    fn name(&self, page: &Self::Page) -> Self::PageName {
        self.memory.name(page)
    }
    fn owner(&self, page: &Self::Page) -> tailpin_futex::PageOwner {
        if !self.swapped.swap(true, Ordering::SeqCst) {
            let anonymous = self.memory.map_anonymous(1, 1, false);
            self.memory.remap(1, None);
            let mapping = Mapping {
                page: 0,
                pages: 1,
                object: anonymous,
                index: 0,
                writable: true,
                private: false,
                huge: false,
            };
            self.memory.remap(0, Some(mapping));
            self.memory.model().truncate(self.object, 0);
        }
        self.memory.owner(page)
    }
    fn index(&self, page: &Self::Page) -> u64 {
        self.memory.index(page)
    }
    fn fault(&self, at: Address, access: Access) -> Result<(), tailpin_futex::Fault> {
        self.memory.fault(at, access)
    }
    fn load(&self, at: Address) -> Result<u32, tailpin_futex::NotPresent> {
        self.memory.load(at)
    }
    fn compare_exchange(
        &self,
        at: Address,
        old: u32,
        new: u32,
    ) -> Result<Result<u32, u32>, tailpin_futex::NotPresent> {
        self.memory.compare_exchange(at, old, new)
    }
}

#[test]
fn i11_a_key_made_during_a_split_a_collapse_and_a_move_is_the_one_made_alone() {
    let (memory, object) = shared(16);
    let by_pages = another(memory.model(), 8, 16, object);
    let model = memory.model();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..300 {
                model.split(object, 3);
                model.relocate(object, 3, 0);
                model.relocate(object, 0, 3);
                model.relocate(object, 8, 3);
            }
            done.store(true, Ordering::SeqCst);
        });
        for (space, from) in [(&memory, 0), (&by_pages, 8)] {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    for page in [1, 3, 7, 12] {
                        let at = (from + page) * 4096 + 8;
                        assert_eq!(key(space, at), Key::object(object.id(), page, Address::new(8)));
                    }
                }
            });
        }
    });
}

#[test]
fn i11_a_key_made_during_a_truncate_is_the_right_one_or_an_error() {
    for _ in 0..200 {
        let (memory, object) = shared(16);
        let model = memory.model();
        thread::scope(|scope| {
            scope.spawn(|| {
                model.truncate(object, 3);
                // The frames are used again, for another object.
                model.object(8, true);
            });
            for page in [2, 5, 9] {
                match look::<AllSafeguards>(&memory, page * 4096, Access::Read) {
                    Ok(derived) => assert_eq!(derived.key, Key::object(object.id(), page, Address::new(0))),
                    Err(Error::Fault { fault: tailpin_futex::Fault::BeyondEnd, .. }) => assert!(page >= 3),
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
}

#[test]
fn i13_a_split_between_two_waits_and_a_wake_wakes_the_second_alone() {
    let (memory, object) = shared(8);
    let futexes = table();
    let (first, second) = (Futex::shared(&memory, 2 * 4096), Futex::shared(&memory, 5 * 4096));
    thread::scope(|scope| {
        let one = scope.spawn(|| futexes.wait(&first, 0, lost()));
        let two = scope.spawn(|| futexes.wait(&second, 0, lost()));
        until_waiting(&futexes, &first, 1);
        until_waiting(&futexes, &second, 1);
        memory.model().split(object, 5);
        assert_eq!(memory.model().order_of(object, 5), Some(0));
        assert_eq!(futexes.wake(&second, 1), Ok(1));
        assert_eq!(two.join().unwrap(), Ok(()));
        assert_eq!(futexes.waiters(&first), Ok(1));
        assert!(memory.model().relocate(object, 2, 3), "a collapse");
        assert_eq!(futexes.wake(&first, 1), Ok(1));
        assert_eq!(one.join().unwrap(), Ok(()));
    });
    assert!(futexes.is_idle());
}

#[test]
fn i14_a_wait_through_a_huge_entry_is_woken_through_a_small_one_after_a_collapse() {
    let (memory, object) = shared(8);
    let other = another(memory.model(), 8, 8, object);
    let futexes = table();
    let here = Futex::shared(&memory, 6 * 4096 + 4);
    let there = Futex::shared(&other, 14 * 4096 + 4);
    for _ in 0..2 {
        thread::scope(|scope| {
            let waiter = scope.spawn(|| futexes.wait(&here, 0, lost()));
            until_waiting(&futexes, &here, 1);
            memory.model().split(object, 1);
            assert!(memory.model().relocate(object, 6, 0), "a migration of the page itself");
            assert!(memory.model().relocate(object, 6, 3), "a collapse");
            assert_eq!(futexes.wake(&there, 1), Ok(1));
            assert_eq!(waiter.join().unwrap(), Ok(()));
        });
    }
}

/// A memory in which each look finds a page, the first two of them no longer an object's.
struct Leaving {
    looks: AtomicU32,
    /// Whether each look finds another page.
    moves: bool,
}

impl Memory for Leaving {
    type Page = u32;
    type PageName = u32;
    fn space(&self) -> SpaceId {
        SpaceId(1)
    }
    fn pin(&self, _at: Address, _access: Access) -> Result<u32, tailpin_futex::NotPresent> {
        Ok(self.looks.fetch_add(1, Ordering::SeqCst))
    }
    fn unpin(&self, _page: u32) {}
    fn name(&self, page: &u32) -> u32 {
        if self.moves { *page } else { 0 }
    }
    fn owner(&self, page: &u32) -> tailpin_futex::PageOwner {
        if *page < 2 { tailpin_futex::PageOwner::Gone } else { tailpin_futex::PageOwner::Object(ObjectId(7)) }
    }
    fn index(&self, _page: &u32) -> u64 {
        3
    }
    fn fault(&self, _at: Address, _access: Access) -> Result<(), tailpin_futex::Fault> {
        Ok(())
    }
    fn load(&self, _at: Address) -> Result<u32, tailpin_futex::NotPresent> {
        Ok(0)
    }
    fn compare_exchange(
        &self,
        _at: Address,
        _old: u32,
        _new: u32,
    ) -> Result<Result<u32, u32>, tailpin_futex::NotPresent> {
        Ok(Ok(0))
    }
}

#[test]
fn only_the_same_answer_of_the_same_page_is_final() {
    let look = |moves| {
        let memory = Leaving { looks: AtomicU32::new(0), moves };
        derive::<_, AllSafeguards>(&Futex::shared(&memory, 8), Access::Read, |_| None)
    };
    let derived = look(true).unwrap();
    assert_eq!(derived.attempts, 3);
    assert_eq!(derived.key, Key::object(ObjectId(7), 3, Address::new(8)));
    assert_eq!(look(false), Err(Error::SpecialMapping { at: Address::new(8) }));
}

#[test]
fn a_wait_to_be_requeued_to_its_own_word_is_refused() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let word = Futex::private(&memory, 0);
    let refused = futexes.wait_requeue_pi(&word, 0, !0, &word, lost());
    assert_eq!(refused.err(), Some(tailpin_futex::Invalid::SameWord.into()));
    assert!(futexes.is_idle());
}
