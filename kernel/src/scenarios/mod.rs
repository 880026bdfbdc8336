//! The scenarios: each is run alone on the machine, and ends with as
//! many free frames as it began with and a clean audit.

mod cow;
mod frames;
mod futex;
mod huge;
mod mmu;
mod shootdown;
mod traits;
mod unmap;

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Display;
use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::{PAGE_BYTES, Zone};
use tailpin_mm::{Access, Map, Mm, Prot, Space, VirtAddr};

use crate::boot::MISUSES;
use crate::breakable::Breakable;
use crate::breaks::{self, Break};
use crate::machine::{self, ROUNDS, SLOW_FRAME, TURNS_BEFORE_ASKING};
use crate::{boot, say, traps};

/// What is asked of this run, from the kernel's command line.
pub(crate) struct Asked<'l> {
    /// CPUs to start.
    pub(crate) cpus: usize,
    /// What is broken, if anything: then only the scenario that finds it runs.
    pub(crate) broken: Option<Break>,
    scenarios: &'l str,
    quick: bool,
    list: bool,
}

impl<'l> Asked<'l> {
    /// `cpus=2 scenario=walks,rights break=shootdown quick list`: words, each of which may be
    /// absent.
    pub(crate) fn from_line(line: &'l str) -> Self {
        let value = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key));
        let has = |word: &str| line.split(' ').any(|found| found == word);
        let broken = value("break=");
        let found = breaks::ALL.iter().find(|broken_by| Some(broken_by.name) == broken);
        assert!(broken.is_none() || found.is_some(), "there is no such break");
        Self {
            cpus: value("cpus=").and_then(|number| number.parse().ok()).unwrap_or(1),
            broken: found.map(|broken_by| broken_by.what),
            scenarios: found.map_or(value("scenario=").unwrap_or(""), |broken_by| broken_by.scenario),
            quick: has("quick"),
            list: has("list"),
        }
    }

    fn wants(&self, scenario: &str) -> bool {
        self.scenarios.is_empty() || self.scenarios.split(',').any(|name| name == scenario)
    }
}

/// Why a scenario failed.
pub(crate) struct Failure(String);

impl<T: Display> From<T> for Failure {
    fn from(why: T) -> Self {
        Self(why.to_string())
    }
}

/// How a scenario ended.
pub(crate) type Check = Result<(), Failure>;

/// Fails the scenario unless `what` is true.
fn ensure(what: bool, or: impl Display) -> Check {
    if what { Ok(()) } else { Err(or.into()) }
}

/// What a scenario runs on.
pub(crate) struct World {
    pub(crate) mm: &'static Mm<'static, Breakable>,
    pub(crate) zone: &'static Zone<'static>,
    /// CPUs that run.
    pub(crate) cpus: usize,
    quick: bool,
}

impl World {
    /// How often to do what is to be done `times` times: a quarter in a quick run.
    fn times(&self, times: u64) -> u64 {
        if self.quick { times.div_ceil(4) } else { times }
    }

    /// An empty space.
    fn space(&self) -> Result<Space<'static, Breakable>, Failure> {
        Ok(self.mm.space()?)
    }

    /// A space with `bytes` of anonymous memory.
    fn space_with(&self, bytes: u64) -> Result<(Space<'static, Breakable>, VirtAddr), Failure> {
        let space = self.space()?;
        let at = space.map(Map::anonymous(bytes, Prot::READ_WRITE))?;
        Ok((space, at))
    }
}

/// A word of a space as the library reads it.
fn word_of(space: &Space<'static, Breakable>, at: VirtAddr) -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    space.read(at, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Address of page `index` behind `at`.
fn page(at: VirtAddr, index: u64) -> VirtAddr {
    at.offset(index * PAGE_BYTES)
}

/// Lets `turns` turns of a loop pass, for other CPUs to run into the window that is open.
fn linger(turns: u64) {
    for _ in 0..turns {
        core::hint::spin_loop();
    }
}

/// Waits until another CPU has counted on, so that what this one does next meets it at work; not
/// for ever, as it may be held up.
fn await_progress(counter: &AtomicU64) {
    let before = counter.load(Ordering::Relaxed);
    for _ in 0..1_000_000 {
        if counter.load(Ordering::Relaxed) > before + 1 {
            return;
        }
        core::hint::spin_loop();
    }
}

/// What a scenario needs of the machine.
enum Needs {
    Cpus(usize),
    /// That many usable frames, and as many CPUs as there are.
    Frames(u64),
}

struct Scenario {
    name: &'static str,
    needs: Needs,
    run: fn(&World) -> Check,
}

const fn on(cpus: usize, name: &'static str, run: fn(&World) -> Check) -> Scenario {
    Scenario { name, needs: Needs::Cpus(cpus), run }
}

const fn with_frames(frames: u64, name: &'static str, run: fn(&World) -> Check) -> Scenario {
    Scenario { name, needs: Needs::Frames(frames), run }
}

/// Frames in 2.5 GiB: of so much memory, part lies above 4 GiB, or 1 GiB is free in one piece.
const PLENTY: u64 = 5 << 17;

const ALL: &[Scenario] = &[
    on(1, "churn", frames::churn),
    on(1, "walks", mmu::walks),
    on(1, "dirty", mmu::dirty),
    on(1, "rights", mmu::rights),
    on(1, "execution", mmu::execution),
    on(1, "device", mmu::device),
    on(1, "ring3", mmu::ring3),
    on(1, "two_spaces", mmu::two_spaces),
    on(2, "stale_after_switch", mmu::stale_after_switch),
    on(2, "cow", cow::cow),
    on(2, "fork_under_writes", cow::fork_under_writes),
    on(2, "fork_under_pins", cow::fork_under_pins),
    on(1, "sharers", cow::sharers),
    on(2, "unmap_under_reads", unmap::unmap_under_reads),
    on(2, "unmap_under_copies", unmap::unmap_under_copies),
    on(2, "tables_under_walkers", unmap::tables_under_walkers),
    on(2, "unmap_against_fault", unmap::unmap_against_fault),
    on(2, "split_pinned", huge::split_pinned),
    on(2, "collapse_under_reads", huge::collapse_under_reads),
    on(1, "set_aside_mapped", frames::set_aside_mapped),
    on(1, "costs", shootdown::costs),
    on(2, "shootdown_storm", shootdown::shootdown_storm),
    on(1, "storm", shootdown::storm),
    on(2, "futex", futex::futex),
    on(2, "robust_exit", futex::robust_exit),
    on(2, "priority_inheritance", futex::priority_inheritance),
    on(1, "x86_64_traits", traits::x86_64_traits),
    on(1, "exhaustion", frames::exhaustion),
    with_frames(PLENTY, "high_memory", frames::high_memory),
    with_frames(PLENTY, "gigantic_leaf", mmu::gigantic_leaf),
];

/// Runs what was asked for; whether every scenario passed.
pub(crate) fn run(mm: &'static Mm<'static, Breakable>, asked: &Asked<'_>, cpus: usize, memory: u64) -> bool {
    if asked.list {
        for scenario in ALL {
            say!("scenario {}", scenario.name);
        }
        for broken_by in breaks::ALL {
            say!("break {} {} {}", broken_by.name, broken_by.scenario, broken_by.sign.name());
        }
        return true;
    }
    let world = World { mm, zone: boot::FRAMES.zone(), cpus, quick: asked.quick };
    let able = |scenario: &&Scenario| match scenario.needs {
        Needs::Cpus(needed) => cpus >= needed,
        Needs::Frames(needed) => world.zone.usable_frames() >= needed,
    };
    let chosen = || ALL.iter().filter(able).filter(|scenario| asked.wants(scenario.name));
    say!("tailpin cpus={cpus} memory={memory} scenarios={}", chosen().count());
    if let Err(Failure(why)) = make_zero_pages(&world) {
        say!("no huge page of zeroes: {why}");
    }
    let failed = chosen().filter(|scenario| !passes(&world, scenario)).count();
    traps::summary();
    say!("end passed={} failed={failed}", chosen().count() - failed);
    failed == 0
}

/// Has the huge page of zeroes made, which stays, so that each scenario must leave as many frames
/// as it found.
fn make_zero_pages(world: &World) -> Check {
    let (space, at) = world.space_with(2 << 20)?;
    space.fault(at, Access::Read)?;
    drop(space);
    Ok(())
}

fn passes(world: &World, scenario: &Scenario) -> bool {
    say!("run {}", scenario.name);
    let (start, rounds) = (machine::ticks(), ROUNDS.count());
    // A frame that was set aside is not free and not lost.
    let frames = || world.zone.free_frames() + world.zone.set_aside_frames();
    let free = frames();
    let result = (scenario.run)(world);
    SLOW_FRAME.store(u64::MAX, Ordering::Relaxed);
    TURNS_BEFORE_ASKING.store(0, Ordering::Relaxed);
    let result = result.and_then(|()| {
        let left = frames();
        ensure(left == free, format!("{free} frames were free before, {left} are after"))?;
        let (audit, misuses) = (world.zone.audit().violations(), MISUSES.load(Ordering::Relaxed));
        ensure(audit == 0 && misuses == 0, format!("{audit} violations, {misuses} misuses"))
    });
    let mcycles = (machine::ticks() - start) / 1_000_000;
    let figures = format!("{} mcycles={mcycles} rounds={}", scenario.name, ROUNDS.count() - rounds);
    match &result {
        Ok(()) => say!("pass {figures}"),
        Err(Failure(why)) => say!("fail {figures}: {why}"),
    }
    result.is_ok()
}
