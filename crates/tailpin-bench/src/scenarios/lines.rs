//! Cache lines that CPUs take from each other, counted for more CPUs than this machine has: the
//! zone's own code over a [counted word](crate::counted_word), the CPUs taking turns operation by
//! operation.

use tailpin::{Block, FrameRange, OneWord, Order, Pfn, Zone, ZoneConfig, ZoneLayout};

use super::churn::{MIXED, SINGLE, pick};
use crate::counted_word::{CountedWord, CountedWords, act_as, cpu, fetches, forget, start_counting};
use crate::recorder::Recorder;
use crate::report::Fact;
use crate::rng::Rng;

type Counted<'z> = OneWord<'z, CountedWord>;
type CountedBlock<'z> = Block<'z, Counted<'z>>;

/// How many CPUs there are.
pub(super) const CPUS: [usize; 4] = [2, 16, 64, 128];

/// The names of a fact for each of these numbers.
macro_rules! by_cpus {
    ($($part:literal),*) => {
        [
            concat!($($part,)* "-2"),
            concat!($($part,)* "-16"),
            concat!($($part,)* "-64"),
            concat!($($part,)* "-128"),
        ]
    };
}
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(super) use by_cpus;

/// Operations of each CPU that count; half as many come before.
const OPERATIONS: usize = 256;

/// What the CPUs do.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Each takes a block and gives it back.
    Pairs(u8),
    /// Each gives back what another one took.
    FreedElsewhere(u8),
    /// Each takes blocks of these orders and gives some of its own back, at 90 % in use.
    Churn(&'static [(u8, usize)]),
}

/// A workload with the names of its facts: fetches for each number of CPUs, and of the line with
/// the most of them.
struct Scenario {
    work: Work,
    fetched: [&'static str; CPUS.len()],
    hottest: [&'static str; CPUS.len()],
}

macro_rules! scenario {
    ($name:literal, $work:expr) => {
        Scenario {
            work: $work,
            fetched: by_cpus!("lines-", $name),
            hottest: by_cpus!("lines-", $name, "-hottest"),
        }
    };
}

const SCENARIOS: &[Scenario] = &[
    scenario!("pair-o0", Work::Pairs(0)),
    scenario!("pair-o1", Work::Pairs(1)),
    scenario!("pair-o2", Work::Pairs(2)),
    scenario!("pair-o3", Work::Pairs(3)),
    scenario!("pair-o4", Work::Pairs(4)),
    scenario!("pair-o5", Work::Pairs(5)),
    scenario!("pair-o6", Work::Pairs(6)),
    scenario!("pair-o7", Work::Pairs(7)),
    scenario!("pair-o8", Work::Pairs(8)),
    scenario!("pair-o9", Work::Pairs(9)),
    scenario!("freed-elsewhere-o0", Work::FreedElsewhere(0)),
    scenario!("churn-o0", Work::Churn(SINGLE)),
    scenario!("churn-mixed", Work::Churn(MIXED)),
];

/// A zone of at least a pageblock for each CPU, and what each CPU has of it.
struct Load<'z> {
    zone: &'z Zone<'z, Counted<'z>>,
    held: Vec<Vec<CountedBlock<'z>>>,
    used: u64,
    rng: Rng,
}

impl<'z> Load<'z> {
    fn take(&mut self, cpu: usize, order: u8) {
        act_as(cpu);
        let block = Order::new(order).and_then(|order| self.zone.alloc(order).ok());
        if let Some(block) = block {
            self.held[cpu].push(block);
            self.used += 1 << order;
        }
    }

    /// One block, any one, of those that `owner` took, given back by `cpu`.
    fn give(&mut self, cpu: usize, owner: usize) {
        act_as(cpu);
        if !self.held[owner].is_empty() {
            let victim = self.rng.below(self.held[owner].len());
            let block = self.held[owner].swap_remove(victim);
            self.used -= block.order().frames();
        }
    }

    /// Each CPU in turn, so many times; returns how many operations (of pairs: pairs) that was.
    fn turns(&mut self, work: Work, times: usize) -> u64 {
        let cpus = self.held.len();
        let target = self.zone.usable_frames() * 9 / 10;
        let mut operations = 0;
        for turn in 0..times {
            for cpu in 0..cpus {
                match work {
                    Work::Pairs(order) if turn % 2 == 0 => self.take(cpu, order),
                    Work::Pairs(_) => self.give(cpu, cpu),
                    Work::FreedElsewhere(order) if turn % 2 == 0 => self.take(cpu, order),
                    Work::FreedElsewhere(_) => self.give(cpu, (cpu + 1) % cpus),
                    Work::Churn(orders) => {
                        let order = pick(&mut self.rng, orders);
                        while self.used + (1 << order) > target {
                            // A CPU that has nothing lets another one go first.
                            let owner = if self.held[cpu].is_empty() { self.rng.below(cpus) } else { cpu };
                            self.give(owner, owner);
                            operations += 1;
                        }
                        self.take(cpu, order);
                        operations += 1;
                    }
                }
            }
        }
        match work {
            Work::Churn(_) => operations,
            _ => (times / 2 * cpus) as u64,
        }
    }

    /// The zone at 90 %, so that the CPUs have something to give back.
    fn fill(&mut self, orders: &[(u8, usize)]) {
        let target = self.zone.usable_frames() * 9 / 10;
        let mut cpu = 0;
        loop {
            let order = pick(&mut self.rng, orders);
            if self.used + (1 << order) > target {
                break;
            }
            self.take(cpu, order);
            cpu = (cpu + 1) % self.held.len();
        }
    }
}

/// Fetches per operation (of pairs: per pair), of all lines and of the hottest one.
fn simulate(work: Work, cpus: usize) -> (f64, f64) {
    forget();
    let ranges = [FrameRange::new(Pfn::new(0), (cpus.max(16) * 1024) as u64)];
    let layout = ZoneLayout::new(&ranges, cpus).expect("a zone has frames");
    let [pages, allocator] =
        [layout.page_words::<Counted<'_>>(), layout.allocator_words()].map(CountedWords::new);
    let config = ZoneConfig::default().cpu(cpu);
    let zone: Zone<'_, Counted<'_>> = Zone::new(layout, config, pages.words(), allocator.words())
        .expect("the words are those of the layout");
    let mut load =
        Load { zone: &zone, held: (0..cpus).map(|_| Vec::new()).collect(), used: 0, rng: Rng::new(5) };
    if let Work::Churn(orders) = work {
        load.fill(orders);
    }
    load.turns(work, OPERATIONS / 2);
    start_counting();
    let operations = load.turns(work, OPERATIONS) as f64;
    let (all, most) = fetches();
    drop(load);
    assert_eq!(zone.audit().violations(), 0, "{}", zone.audit());
    forget();
    act_as(0);
    (all as f64 / operations, most as f64 / operations)
}

/// All of them.
pub(super) fn fetched(recorder: &mut Recorder<'_>) {
    for scenario in SCENARIOS {
        let names = scenario.fetched.into_iter().zip(scenario.hottest);
        for (cpus, (fetched, hottest)) in CPUS.into_iter().zip(names) {
            if recorder.effort.counting.is_some() || !recorder.wants(fetched) && !recorder.wants(hottest) {
                continue;
            }
            let (all, most) = simulate(scenario.work, cpus);
            for (fact, value) in [(fetched, all), (hottest, most)] {
                recorder.facts.push(Fact { fact, subject: "tailpin", value, unit: "lines" });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `work` on 2, 16 and 128 CPUs, a pair or operation fetches at most so many lines.
    fn fetches_at_most(work: Work, most: f64) {
        for cpus in [2, 16, 128] {
            let (fetched, _) = simulate(work, cpus);
            assert!(fetched <= most, "{fetched} lines with {cpus} CPUs, {work:?}");
        }
    }

    #[test]
    fn cpus_that_take_and_give_back_fetch_no_line_from_each_other() {
        for order in 0..10 {
            fetches_at_most(Work::Pairs(order), 0.0);
        }
    }
}
