//! Cache lines that CPUs take from each other as they take buffers of an arena and drop them, for
//! more CPUs than this machine has: the arena as it ships, laid out for as many, and a thread for
//! each, which take turns.
//!
//! Other than a zone's words those of an arena can't be counted by their type. So the memory of a
//! copy of this process [is watched](crate::linux::Watch), all of it.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tailpin_arena::{Arena, Buffer, lay_out_for};

use super::lines::{CPUS, by_cpus};
use crate::linux::{Watch, own_addresses, told_by_a_copy};
use crate::recorder::Recorder;
use crate::report::Fact;

/// Buffers of each CPU that count; as many come before.
const PAIRS: usize = 2;

/// Bytes to a cache line.
const LINE: usize = 64;

/// A length with the names of its facts, for each number of CPUs.
struct Scenario {
    len: usize,
    fetched: [&'static str; CPUS.len()],
}

macro_rules! scenario {
    ($name:literal, $len:expr) => {
        Scenario { len: $len, fetched: by_cpus!("lines-arena-", $name) }
    };
}

const SCENARIOS: &[Scenario] =
    &[scenario!("4k", 4 << 10), scenario!("64k", 64 << 10), scenario!("2m", 2 << 20)];

/// What a CPU's thread is told to do, and whether it is watched.
#[derive(Clone, Copy)]
enum Turn {
    Take { watched: bool },
    Drop { watched: bool },
}

/// What a CPU's thread says.
enum Told {
    /// Where memory of its own lies, first of all.
    Own([usize; 2]),
    /// What it wrote to in a turn.
    Writes(Vec<usize>),
}

/// A CPU: takes its turns, and says what it wrote to.
fn act(arena: &Arena, watch: &OnceLock<Watch>, len: usize, turns: &Receiver<Turn>, tell: &Sender<Told>) {
    let mut kept: Option<Buffer> = None;
    let mut goes_on = tell.send(Told::Own(own_addresses())).is_ok();
    while goes_on && let Ok(turn) = turns.recv() {
        let (Turn::Take { watched } | Turn::Drop { watched }) = turn;
        let mut one = || match turn {
            Turn::Take { .. } => kept = Some(arena.try_alloc(len).expect("the arena is large enough")),
            Turn::Drop { .. } => kept = None,
        };
        let writes = match watch.get().filter(|_| watched) {
            // SAFETY: it was told of the thread's own memory, and the others wait for their turn.
            // Taking and dropping a buffer makes no call of the system where both were done before.
            Some(watch) => unsafe { watch.writes(one) }.0,
            None => {
                one();
                Vec::new()
            }
        };
        goes_on = tell.send(Told::Writes(writes)).is_ok();
    }
}

/// Lines fetched per buffer taken and dropped, in a process that has one thread and no arena.
fn simulate(len: usize, cpus: usize) -> Result<f64, String> {
    // SAFETY: the process has used no arena.
    unsafe { lay_out_for(cpus) };
    // Each drop looks whether to give memory back to the system, and none does.
    let arena =
        Arena::builder().size(2 << 30).release_above(2 << 30).build().map_err(|error| error.to_string())?;
    let data = arena.base().addr().get();
    let data = data..data.saturating_add(arena.size());
    let (arena, watch) = (&arena, &OnceLock::new());
    let gone = |error: String| format!("a CPU's thread has ended: {error}");
    thread::scope(|scope| {
        let threads: Vec<(Sender<Turn>, Receiver<Told>)> = (0..cpus)
            .map(|_| {
                let ((turn, turns), (tell, told)) = (channel(), channel());
                scope.spawn(move || act(arena, watch, len, &turns, &tell));
                (turn, told)
            })
            .collect();
        let mut own = vec![own_addresses()];
        for (_, told) in &threads {
            if let Told::Own(addresses) = told.recv().map_err(|error| gone(error.to_string()))? {
                own.push(addresses);
            }
        }
        // SAFETY: it is called here alone, in a process of its own, with all threads; the arena
        // stays until the end of the process.
        let all = unsafe { Watch::all_but(&own, data) }.map_err(|error| error.to_string())?;
        watch.get_or_init(|| all);
        let mut writers: HashMap<usize, usize> = HashMap::new();
        let mut fetched = 0_u64;
        for pair in 0..3 * PAIRS {
            let (watched, counts) = (pair >= PAIRS, pair >= 2 * PAIRS);
            for turn in [Turn::Take { watched }, Turn::Drop { watched }] {
                for (cpu, (tell, told)) in threads.iter().enumerate() {
                    tell.send(turn).map_err(|error| gone(error.to_string()))?;
                    let Told::Writes(writes) = told.recv().map_err(|error| gone(error.to_string()))? else {
                        continue;
                    };
                    for line in writes.into_iter().map(|address| address / LINE) {
                        let before = writers.insert(line, cpu);
                        fetched += u64::from(counts && before.is_some_and(|before| before != cpu));
                    }
                }
            }
        }
        // A CPU writes to the buffer's word, to what is noted of it, and to its own slots.
        if writers.len() < 3 * cpus {
            return Err(format!("no more than {} lines of {cpus} CPUs were seen", writers.len()));
        }
        Ok(fetched as f64 / (PAIRS * cpus) as f64)
    })
}

/// All of them.
pub(super) fn fetched(recorder: &mut Recorder<'_>) {
    for scenario in SCENARIOS {
        for (cpus, fact) in CPUS.into_iter().zip(scenario.fetched) {
            if recorder.effort.counting.is_some() || !recorder.wants(fact) {
                continue;
            }
            match told_by_a_copy(|| simulate(scenario.len, cpus)) {
                Ok(value) => recorder.facts.push(Fact { fact, subject: "tailpin", value, unit: "lines" }),
                Err(why) => recorder.skip(fact, "tailpin", why),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_that_take_and_drop_buffers_fetch_no_line_from_each_other() {
        for Scenario { len, .. } in SCENARIOS {
            for cpus in [2, 16, 128] {
                let fetched = told_by_a_copy(|| simulate(*len, cpus));
                assert_eq!(fetched, Ok(0.0), "lines per buffer of {len} bytes with {cpus} CPUs");
            }
        }
    }
}
