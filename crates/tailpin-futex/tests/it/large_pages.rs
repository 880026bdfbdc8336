//! Over real address spaces: L6 for every kind of large page with a split between wait and wake,
//! I11 to I14, keys across fork, copy-on-write, mremap and truncation.

use crate::common;

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use common::{Table, lost, table, until_waiting};
use tailpin::PAGE_BYTES as PAGE;
use tailpin::{Order, Zone};
use tailpin_futex::{Access, Error, Fault, Futex, Key, KeyKind, ObjectId, SpaceId};
use tailpin_mm::{
    CollapseLimits, HugePages, Map, Mm, MmConfig, ObjectConfig, Prot, Ram, Space, StdEnv, VirtAddr,
};

type Sp<'z> = Space<'z, StdEnv>;

const HUGE: u64 = 2 << 20;
/// Times that two threads hand a word to each other.
const ROUNDS: u32 = 2000;

/// Runs a test on a machine of its own; afterwards every frame must be free again.
fn machine(mebibytes: u64, test: impl for<'z> FnOnce(&Mm<'z, StdEnv>)) {
    fn run<'z>(ram: &'z Ram, zone: &'z Zone<'z>, test: impl FnOnce(&Mm<'z, StdEnv>)) {
        let mm = Mm::new(zone, ram.env(), ram.infos(), MmConfig::default()).unwrap();
        test(&mm);
        drop(mm);
        let audit = zone.audit();
        assert_eq!((audit.violations(), zone.used_frames()), (0, 0), "{audit}");
        assert_eq!(zone.set_aside_frames(), 0, "{audit}");
    }
    let ram = Ram::new(mebibytes << 20);
    let zone = ram.zone().unwrap();
    run(&ram, &zone, test);
}

fn key(futexes: &Table, space: &Sp<'_>, at: VirtAddr) -> Key {
    futexes.key(&Futex::shared(space, at.get()), Access::Read).unwrap()
}

fn order(space: &Sp<'_>, at: VirtAddr) -> Order {
    space.mapping(at).expect("it is present").order
}

/// Two words in two base pages of one large page; `between` happens while both are waited for.
/// Waits in one space, wakes in another (or the same).
fn l6(
    (waits, at): (&Sp<'_>, VirtAddr),
    (wakes, there): (&Sp<'_>, VirtAddr),
    (one, two): (u64, u64),
    between: impl FnOnce(),
) {
    let futexes = table();
    fn word<'m, 'z>(space: &'m Sp<'z>, at: VirtAddr, page: u64) -> Futex<'m, Sp<'z>> {
        Futex::shared(space, at.offset(page * PAGE + 8).get())
    }
    let (first, second) = (word(waits, at, one), word(waits, at, two));
    let before = [one, two].map(|page| key(&futexes, waits, at.offset(page * PAGE + 8)));
    assert_ne!(before[0], before[1]);
    thread::scope(|scope| {
        let first_waiter = scope.spawn(|| futexes.wait(&first, 0, lost()));
        let second_waiter = scope.spawn(|| futexes.wait(&second, 0, lost()));
        until_waiting(&futexes, &first, 1);
        until_waiting(&futexes, &second, 1);
        between();
        assert_eq!(before, [one, two].map(|page| key(&futexes, wakes, there.offset(page * PAGE + 8))));
        assert_eq!(futexes.wake(&word(wakes, there, two), 1), Ok(1));
        assert_eq!(second_waiter.join().unwrap(), Ok(()));
        assert_eq!(futexes.waiters(&first), Ok(1), "the other one goes on waiting");
        assert_eq!(futexes.wake(&word(wakes, there, one), 1), Ok(1));
        assert_eq!(first_waiter.join().unwrap(), Ok(()));
    });
    assert!(futexes.is_idle());
}

fn anonymous(space: &Sp<'_>) -> VirtAddr {
    let at = space.map(Map::anonymous(HUGE, Prot::READ_WRITE).huge(HugePages::Always)).unwrap();
    space.write(at, &[0; 4]).unwrap();
    assert_eq!(order(space, at), Order::HUGE);
    at
}

#[test]
fn l6_anonymous_huge_page_split_between() {
    machine(32, |mm| {
        let space = mm.space().unwrap();
        let at = anonymous(&space);
        l6((&space, at), (&space, at), (3, 300), || {
            space.split_page(at, Order::PAGE).unwrap();
            space.split_mapping(at).unwrap();
            assert_eq!(order(&space, at.offset(300 * PAGE)), Order::PAGE);
        });
    });
}

#[test]
fn l6_anonymous_huge_page_collapsed_between() {
    machine(32, |mm| {
        let space = mm.space().unwrap();
        let at = anonymous(&space);
        space.split_page(at, Order::PAGE).unwrap();
        space.split_mapping(at).unwrap();
        l6((&space, at), (&space, at), (0, 511), || {
            space.collapse(at, CollapseLimits::NONE).unwrap();
            assert_eq!(order(&space, at), Order::HUGE);
        });
    });
}

#[test]
fn l6_anonymous_huge_page_mapped_by_pages_because_a_part_was_unmapped() {
    machine(32, |mm| {
        let space = mm.space().unwrap();
        let at = anonymous(&space);
        l6((&space, at), (&space, at), (100, 101), || {
            space.unmap(at.offset(7 * PAGE), PAGE).unwrap();
            assert_eq!(order(&space, at.offset(100 * PAGE)), Order::PAGE);
        });
    });
}

#[test]
fn l6_shared_huge_page_of_an_object_split_between_seen_from_two_spaces() {
    machine(64, |mm| {
        let object = mm.object(ObjectConfig::new(2 * HUGE).huge()).unwrap();
        let (here, there) = (mm.space().unwrap(), mm.space().unwrap());
        let huge = Map::shared(&object, 0, 2 * HUGE, Prot::READ_WRITE).huge(HugePages::Always);
        let at = here.map(huge).unwrap();
        // Not where it could be mapped as a whole.
        let small = Map::shared(&object, HUGE, HUGE, Prot::READ_WRITE).at(VirtAddr::new(0x10_0000_1000));
        let other = there.map(small).unwrap();
        here.write(at.offset(HUGE), &[0; 4]).unwrap();
        assert_eq!(order(&here, at.offset(HUGE)), Order::HUGE);
        for (first, second) in [(0, 1), (17, 400)] {
            for target in [4, 1, 0] {
                l6((&here, at.offset(HUGE)), (&there, other), (first, second), || {
                    here.split_page(at.offset(HUGE), Order::new(target).unwrap()).unwrap();
                });
            }
            // I14: from the other space the page goes whole again, and is waited for through its
            // small entries.
            l6((&there, other), (&here, at.offset(HUGE)), (first, second), || {
                here.collapse(at.offset(HUGE), CollapseLimits::NONE).unwrap();
            });
            assert_eq!(order(&here, at.offset(HUGE)), Order::HUGE);
        }
    });
}

#[test]
fn l6_hugetlb_page_whose_mapping_can_not_split() {
    machine(64, |mm| {
        let object = mm.object(ObjectConfig::new(HUGE).hugetlb(Order::HUGE)).unwrap();
        let (here, there) = (mm.space().unwrap(), mm.space().unwrap());
        let at = here.map(Map::shared(&object, 0, HUGE, Prot::READ_WRITE)).unwrap();
        let other = there.map(Map::shared(&object, 0, HUGE, Prot::READ)).unwrap();
        l6((&here, at), (&there, other), (1, 511), || {
            assert!(here.split_page(at, Order::PAGE).is_err(), "this class never splits");
        });
        l6((&there, other), (&here, at), (0, 2), || {});
    });
}

#[test]
fn l6_huge_page_that_truncation_splits_between() {
    machine(64, |mm| {
        let object = mm.object(ObjectConfig::new(HUGE).huge()).unwrap();
        let space = mm.space().unwrap();
        let at = space.map(Map::shared(&object, 0, HUGE, Prot::READ_WRITE).huge(HugePages::Always)).unwrap();
        l6((&space, at), (&space, at), (1, 4), || object.truncate(5 * PAGE).unwrap());
        let futexes = table();
        let beyond = futexes.wait(&Futex::shared(&space, at.offset(5 * PAGE).get()), 0, None);
        assert!(matches!(beyond, Err(Error::Fault { fault: Fault::BeyondEnd, .. })), "{beyond:?}");
    });
}

#[test]
fn l6_private_words_of_one_huge_page() {
    machine(32, |mm| {
        let space = mm.space().unwrap();
        let at = anonymous(&space);
        let futexes = table();
        let word = |page: u64| Futex::private(&space, at.offset(page * PAGE).get());
        let (first, second) = (word(5), word(6));
        thread::scope(|scope| {
            let one = scope.spawn(|| futexes.wait(&first, 0, lost()));
            let two = scope.spawn(|| futexes.wait(&second, 0, lost()));
            until_waiting(&futexes, &first, 1);
            until_waiting(&futexes, &second, 1);
            space.split_page(at, Order::PAGE).unwrap();
            assert_eq!(futexes.wake(&second, 1), Ok(1));
            two.join().unwrap().unwrap();
            assert_eq!(futexes.waiters(&first), Ok(1));
            assert_eq!(futexes.wake(&first, 1), Ok(1));
            one.join().unwrap().unwrap();
        });
    });
}

#[test]
fn i12_a_read_only_mapping_of_a_huge_page_has_the_objects_key() {
    machine(64, |mm| {
        let object = mm.object(ObjectConfig::new(HUGE).huge()).unwrap();
        let space = mm.space().unwrap();
        let futexes = table();
        for map in [
            Map::shared(&object, 0, HUGE, Prot::READ).huge(HugePages::Always),
            Map::private(&object, 0, HUGE, Prot::READ).huge(HugePages::Always),
        ] {
            let at = space.map(map).unwrap();
            let word = at.offset(77 * PAGE + 4);
            let derived = tailpin_futex::derive::<_, tailpin_futex::AllSafeguards>(
                &Futex::shared(&space, word.get()),
                Access::Read,
                |attempts| (attempts >= 4).then_some(Error::Interrupted),
            )
            .unwrap();
            assert_eq!(derived.attempts, 1);
            let alone = Key::object(ObjectId(object.id().get()), 77, tailpin_futex::Address::new(word.get()));
            assert_eq!(derived.key, alone);
            let written = futexes.key(&Futex::shared(&space, word.get()), Access::Write);
            assert!(matches!(written, Err(Error::Fault { fault: Fault::NotWritable, .. })));
        }
    });
}

#[test]
fn anonymous_keys_survive_copy_on_write_and_do_not_match_across_a_fork() {
    machine(64, |mm| {
        let space = mm.space().unwrap();
        let at = anonymous(&space).offset(9 * PAGE);
        let futexes = table();
        let before = key(&futexes, &space, at);
        assert_eq!(before, Key::anonymous(SpaceId(space.id().get()), tailpin_futex::Address::new(at.get())));
        let child = space.fork().unwrap();
        space.write(at, &[1; 4]).unwrap();
        assert_eq!(key(&futexes, &space, at), before);
        assert_ne!(key(&futexes, &child, at), before);
        assert_eq!(key(&futexes, &child, at).kind(), KeyKind::Anonymous);
    });
}

#[test]
fn a_writable_private_mapping_has_an_anonymous_key_from_the_first_wait_on() {
    machine(64, |mm| {
        let object = mm.object(ObjectConfig::new(PAGE)).unwrap();
        let space = mm.space().unwrap();
        let at = space.map(Map::private(&object, 0, PAGE, Prot::READ_WRITE)).unwrap();
        let futexes = table();
        let mut byte = [0];
        space.read(at, &mut byte).unwrap();
        let before = key(&futexes, &space, at);
        assert_eq!(before.kind(), KeyKind::Anonymous);
        space.write(at, &[1; 4]).unwrap();
        assert_eq!(key(&futexes, &space, at), before);
    });
}

#[test]
fn memory_that_nobody_can_change_is_refused() {
    machine(32, |mm| {
        let space = mm.space().unwrap();
        let futexes = table();
        let refused = |at: VirtAddr| futexes.wait(&Futex::shared(&space, at.get()), 0, None).unwrap_err();
        let at = space.map(Map::anonymous(PAGE, Prot::READ_WRITE)).unwrap();
        space.write(at, &[0; 4]).unwrap();
        space.protect(at, PAGE, Prot::READ).unwrap();
        assert!(matches!(refused(at), Error::ReadOnlyAnonymous { .. }));
        // Never written, the page of zeroes is behind it.
        let zeroes = space.map(Map::anonymous(PAGE, Prot::READ)).unwrap();
        assert!(matches!(refused(zeroes), Error::SpecialMapping { .. } | Error::ReadOnlyAnonymous { .. }));
        let none = space.map(Map::anonymous(PAGE, Prot::NONE)).unwrap();
        assert!(matches!(refused(none), Error::Fault { .. }));
        assert!(matches!(refused(VirtAddr::new(0)), Error::Fault { fault: Fault::Unmapped, .. }));
        assert_eq!(refused(none).errno(), 14);
    });
}

#[test]
fn an_objects_keys_survive_mremap_and_an_anonymous_one_moves() {
    machine(64, |mm| {
        let object = mm.object(ObjectConfig::new(HUGE).huge()).unwrap();
        let space = mm.space().unwrap();
        let futexes = table();
        let at = space.map(Map::shared(&object, 0, HUGE, Prot::READ_WRITE).huge(HugePages::Always)).unwrap();
        let before = key(&futexes, &space, at.offset(33 * PAGE));
        let to = space.remap(at, HUGE, Some(VirtAddr::new(0x20_0000_3000))).unwrap();
        assert_eq!(key(&futexes, &space, to.offset(33 * PAGE)), before);
        let at = anonymous(&space);
        let before = key(&futexes, &space, at.offset(PAGE));
        let to = space.remap(at, HUGE, Some(VirtAddr::new(0x30_0000_3000))).unwrap();
        assert_ne!(key(&futexes, &space, to.offset(PAGE)), before);
    });
}

/// I11 and I13 at once, for as long as it takes: keys are made and threads hand words back and
/// forth while the pages under them are split and collapsed and pages beyond are truncated.
#[test]
fn i11_keys_and_waits_in_a_storm() {
    machine(64, |mm| {
        let object = mm.object(ObjectConfig::new(2 * HUGE).huge()).unwrap();
        let (here, there) = (mm.space().unwrap(), mm.space().unwrap());
        let at =
            here.map(Map::shared(&object, 0, 2 * HUGE, Prot::READ_WRITE).huge(HugePages::Always)).unwrap();
        let small = Map::shared(&object, 0, HUGE, Prot::READ_WRITE).at(VirtAddr::new(0x10_0000_1000));
        let other = there.map(small).unwrap();
        let futexes = table();
        let ended = AtomicU32::new(0);
        let id = ObjectId(object.id().get());
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut round, mut splits) = (0, 0);
                while ended.load(Ordering::SeqCst) < 2 {
                    round += 1;
                    // The first page may be absent after a collapse that was refused.
                    here.read(at, &mut [0]).unwrap();
                    splits += u32::from(here.split_page(at, Order::new(round % 3).unwrap()).is_ok());
                    object.truncate(HUGE + 3 * PAGE).unwrap();
                    object.truncate(2 * HUGE).unwrap();
                    here.write(at.offset(HUGE), &[1; 64]).unwrap();
                    // May find a page pinned at that moment.
                    here.collapse(at, CollapseLimits::NONE).ok();
                    thread::yield_now();
                }
                assert!(splits > 0, "in {round} rounds");
            });
            for (space, base, mine) in [(&here, at, 0), (&there, other, 1)] {
                let (futexes, ended) = (&futexes, &ended);
                scope.spawn(move || {
                    let word = base.offset(200 * PAGE + 4);
                    let futex = Futex::shared(space, word.get());
                    let address = tailpin_futex::Address::new(word.get());
                    for turn in (mine..ROUNDS).step_by(2) {
                        assert_eq!(key(futexes, space, word), Key::object(id, 200, address));
                        loop {
                            let mut seen = [0; 4];
                            space.read(word, &mut seen).unwrap();
                            let seen = u32::from_le_bytes(seen);
                            if seen == turn {
                                break;
                            }
                            match futexes.wait(&futex, seen, lost()) {
                                Ok(()) | Err(Error::WouldBlock { .. }) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                        space.write(word, &(turn + 1).to_le_bytes()).unwrap();
                        futexes.wake(&futex, 1).unwrap();
                    }
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        assert!(futexes.is_idle());
    });
}
