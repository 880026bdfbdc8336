//! From an address to a futex key, by kind of memory, and a wake where no thread waits.

use tailpin::{Order, PAGE_BYTES};
use tailpin_futex::{Access as Use, Futex, Futexes, StdScheduler};
use tailpin_mm::{Access, Map, Mm, ObjectConfig, Prot, Space, VirtAddr};

use super::cases::case;
use crate::recorder::Recorder;
#[cfg(target_os = "linux")]
use crate::subjects::Linux;
use crate::subjects::{LazyEnv, Machine, OurFutex, ParkingLot, Waits};

const HUGE: u64 = 2 << 20;
/// Where in its memory the word is: not in the first page.
const WORD: u64 = 77 * PAGE_BYTES + 8;

/// A space with one huge page of each kind, present: anonymous, of a file, of a hugetlb object.
fn kinds_of_memory<'z>(mm: &Mm<'z, LazyEnv>) -> (Space<'z, LazyEnv>, [VirtAddr; 3]) {
    let space = mm.space().expect("there is memory for a page table");
    let file = mm.object(ObjectConfig::new(HUGE).huge()).expect("any length is right");
    let hugetlb = mm.object(ObjectConfig::new(HUGE).hugetlb(Order::HUGE)).expect("the length is right");
    let maps = [
        Map::anonymous(HUGE, Prot::READ_WRITE),
        Map::shared(&file, 0, HUGE, Prot::READ_WRITE),
        Map::shared(&hugetlb, 0, HUGE, Prot::READ_WRITE),
    ];
    let words = maps.map(|map| {
        let word = space.map(map).expect("there are addresses").offset(WORD);
        space.fault(word, Access::Write).expect("there is memory for it");
        assert_eq!(space.mapping(word).map(|mapping| mapping.order), Some(Order::HUGE));
        word
    });
    (space, words)
}

/// Keys of words in huge pages, beside a pin of the page by its frame's number and back, which is
/// the least that a shared key needs.
pub(super) fn kinds(recorder: &mut Recorder<'_>) {
    let machine = Machine::new(16);
    let zone = machine.zone();
    let mm = machine.mm(&zone);
    let (space, [anonymous, file, hugetlb]) = kinds_of_memory(&mm);
    let futexes = Futexes::new(StdScheduler::new(), recorder.cores());
    let private = Futex::private(&space, anonymous.get());
    let shared = [anonymous, file, hugetlb].map(|at| Futex::shared(&space, at.get()));
    for (scenario, futex, at) in [
        ("futex-key-private", private, None),
        ("futex-key-anonymous", shared[0], Some(anonymous)),
        ("futex-key-file", shared[1], Some(file)),
        ("futex-key-hugetlb", shared[2], Some(hugetlb)),
    ] {
        if !recorder.wants(scenario) {
            continue;
        }
        let key = || std::hint::black_box(futexes.key(&futex, Use::Read).expect("it is mapped"));
        let mut cases = vec![(
            "tailpin",
            case(scenario, 1, move |_| {
                key();
            }),
        )];
        if let Some(frame) = at.and_then(|at| space.mapping(at)).map(|mapping| mapping.frame) {
            let zone = &zone;
            cases.push(("bare-try-pin", case(scenario, 1, move |_| drop(zone.try_pin(frame)))));
        }
        let repetitions = recorder.effort.repetitions;
        recorder.interleave(repetitions, cases);
    }
}

/// A wake without a waiter: the way through an unlock that a thread might wait for.
pub(super) fn wake_without_waiter(recorder: &mut Recorder<'_>) {
    let machine = Machine::new(16);
    let zone = machine.zone();
    let mm = machine.mm(&zone);
    let (space, [anonymous, file, _]) = kinds_of_memory(&mm);
    let futexes = Futexes::new(StdScheduler::new(), recorder.cores());
    let repetitions = recorder.effort.repetitions;
    const PRIVATE: &str = "futex-wake-nobody";
    if recorder.wants(PRIVATE) {
        let (ours, lot) =
            (OurFutex { futexes: &futexes, space: &space, at: anonymous }, ParkingLot::default());
        #[allow(unused_mut)]
        let mut cases = vec![(ours.name(), wake(PRIVATE, &ours)), (lot.name(), wake(PRIVATE, &lot))];
        #[cfg(target_os = "linux")]
        let linux = Linux::default();
        #[cfg(target_os = "linux")]
        cases.push((linux.name(), wake(PRIVATE, &linux)));
        recorder.interleave(repetitions, cases);
    }
    const SHARED: &str = "futex-wake-nobody-shared";
    if recorder.wants(SHARED) {
        let futex = Futex::shared(&space, file.get());
        let ours = case(SHARED, 1, |_| {
            futexes.wake(&futex, 1).expect("it is mapped");
        });
        #[allow(unused_mut)]
        let mut cases = vec![("tailpin", ours)];
        #[cfg(target_os = "linux")]
        let linux = Linux::default();
        #[cfg(target_os = "linux")]
        cases.push((linux.name(), case(SHARED, 1, |_| linux.wake_shared())));
        recorder.interleave(repetitions, cases);
    }
}

fn wake<'s>(scenario: &'static str, word: &'s impl Waits) -> crate::recorder::Run<'s> {
    case(scenario, 1, move |_| {
        std::hint::black_box(word.wake_one());
    })
}
