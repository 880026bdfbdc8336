//! Fork and exit of an address space in huge pages, copy-on-write, and of one with nothing in it.
//!
//! Before each fork every huge page is written to, so that each fork is the first: memory that is
//! already shared takes less. The kernel forks this process, whose child ends at once.

use tailpin_mm::{Access, Map, Prot, Space};

use crate::clock::{goes_on, once};
use crate::cores::on_cores;
#[cfg(target_os = "linux")]
use crate::linux::{HugeMemory, fork_and_wait};
use crate::recorder::{Recorder, Run, Sample};
use crate::subjects::Machine;

const HUGE: u64 = 2 << 20;

fn case<'s>(scenario: &'static str, write: impl Fn() + Sync + 's, fork: impl Fn() + Sync + 's) -> Run<'s> {
    Box::new(move |effort| {
        on_cores(1, |_| {
            let (mut forking, mut rounds) = (0.0, 0);
            let start = std::time::Instant::now();
            while goes_on(effort, start, rounds) {
                write();
                let (ns, ()) = once(effort, scenario, || (1, fork()));
                forking += ns;
                rounds += 1;
            }
            vec![Sample::new(scenario, 1, forking / rounds as f64)]
        })
        .remove(0)
    })
}

fn measure(recorder: &mut Recorder<'_>, scenario: &'static str, blocks: u64) {
    if !recorder.wants(scenario) {
        return;
    }
    #[cfg(target_os = "linux")]
    let memory = HugeMemory::new(blocks as usize).and_then(|memory| {
        fork_and_wait().map_err(|error| error.to_string())?;
        Ok(memory)
    });
    let machine = Machine::new((blocks + 4) * 2);
    let zone = machine.zone();
    let mm = machine.mm(&zone);
    let space: Space<'_, _> = mm.space().expect("there is memory for a page table");
    let addr = (blocks > 0)
        .then(|| space.map(Map::anonymous(blocks * HUGE, Prot::READ_WRITE)).expect("the space is empty"));
    let write = || {
        for block in 0..blocks {
            let at = addr.map(|addr| addr.offset(block * HUGE)).expect("there are blocks");
            space.fault(at, Access::Write).expect("there is memory for it");
        }
    };
    #[allow(unused_mut)]
    let mut cases =
        vec![("tailpin", case(scenario, write, || drop(space.fork().expect("there is memory for tables"))))];
    #[cfg(target_os = "linux")]
    match &memory {
        Ok(memory) => {
            let fork = || fork_and_wait().expect("it was allowed before");
            cases.push(("linux-fork", case(scenario, || memory.touch(), fork)));
        }
        Err(why) => recorder.skip(scenario, "linux-fork", why),
    }
    let repetitions = recorder.effort.repetitions;
    recorder.interleave(repetitions, cases);
}

/// Of as much memory as the effort says, and of none.
pub(super) fn huge(recorder: &mut Recorder<'_>) {
    measure(recorder, "mm-fork-nothing", 0);
    measure(recorder, "mm-fork-huge", recorder.effort.fork_mib / 2);
}
