//! What a reader of a log does with an arena: it keeps a few records of each buffer, and gives back
//! the memory between the pages that these keep.

use std::collections::VecDeque;
use std::hint::black_box;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{pread, pwrite};
use tailpin::PAGE_SIZE;
use tailpin_arena::{Arena, Policy, ReleaseBy};

use super::arena::{ARENA, HEAP, arena, touched};
use crate::clock::{once, repeat_parts};
use crate::cores::{Hindered, on_cores};
use crate::recorder::{Recorder, Run, Sample};

const MIB: usize = 1 << 20;
const RECORD: usize = 1 << 10;
const READ: usize = 2 * MIB;
/// The records of so many buffers are kept at a time; the oldest go first.
const READS_KEPT: usize = 50;

/// Where in a read the kept records begin, one of so many. None begins with a page.
fn kept_of(one_of: usize) -> impl Iterator<Item = usize> {
    (100..READ - RECORD).step_by(one_of * RECORD)
}

/// One buffer after the other, a few records of each kept: nanoseconds per record. `start` makes
/// what the thread reads with, `read` fills one buffer and keeps records of it.
fn records<'a, S, T>(
    scenario: &'static str,
    one_of: usize,
    start: impl Fn() -> S + Sync + 'a,
    read: impl Fn(&mut S, &mut VecDeque<T>) + Sync + 'a,
) -> Run<'a> {
    Box::new(move |effort| {
        let each = kept_of(one_of).count();
        let times = on_cores(1, |_| {
            let (mut state, mut kept) = (start(), VecDeque::new());
            let mut one = || {
                read(&mut state, &mut kept);
                kept.drain(..kept.len().saturating_sub(READS_KEPT * each));
            };
            (0..READS_KEPT).for_each(|_| one());
            repeat_parts(effort, scenario, each as u64, one)
        });
        vec![Sample::new(scenario, 1, times[0])]
    })
}

/// Records of 1 KiB, kept by the hybrid policy beside copies out of one buffer that goes round.
pub(super) fn hybrid(recorder: &mut Recorder<'_>) {
    for (scenario, one_of) in [("arena-records-1-of-100", 100), ("arena-records-1-of-10", 10)] {
        if !recorder.wants(scenario) {
            continue;
        }
        let arena = arena();
        let ours = records(
            scenario,
            one_of,
            || (),
            |(), kept| {
                let whole = touched(&arena, READ).freeze();
                kept.extend(kept_of(one_of).map(|at| whole.keep_part(at..at + RECORD, Policy::default())));
            },
        );
        let copies = records(
            scenario,
            one_of,
            || vec![0_u8; READ],
            |buffer, kept| {
                buffer.iter_mut().step_by(PAGE_SIZE).for_each(|byte| *byte = black_box(1));
                kept.extend(kept_of(one_of).map(|at| Box::<[u8]>::from(&buffer[at..at + RECORD])));
            },
        );
        recorder.interleave(recorder.effort.repetitions, vec![(ARENA, ours), (HEAP, copies)]);
    }
}

/// Buffers of 2 MiB, one page of each of which stays in use.
const BLOCKS: usize = 8;

/// The same bytes read from a file in memory.
const BARE_READ: &str = "bare-read";

/// A file in memory with so many bytes in it.
fn filled_file(bytes: usize) -> rustix::io::Result<OwnedFd> {
    let file = memfd_create("tailpin-bench", MemfdFlags::CLOEXEC)?;
    let part = vec![1_u8; MIB];
    for at in (0..bytes).step_by(MIB) {
        pwrite(&file, &part, at as u64)?;
    }
    Ok(file)
}

/// Free memory given back from between pages in use, beside a read of as much: nanoseconds per MiB.
pub(super) fn release(recorder: &mut Recorder<'_>) {
    let scenario = "arena-release-between-pages";
    if !recorder.wants(scenario) {
        return;
    }
    let file = match filled_file(BLOCKS * READ) {
        Ok(file) => file,
        Err(error) => return recorder.skip(scenario, BARE_READ, error),
    };
    let ours: Run<'_> = Box::new(move |effort| {
        on_cores(1, |_| {
            let arena = Arena::builder().size(1 << 30).release_by(ReleaseBy::Poll).build();
            let arena = arena.unwrap_or_else(|error| Hindered::end(format!("no address space: {error}")));
            let buffers: Vec<_> = (0..BLOCKS).map(|_| touched(&arena, READ).freeze()).collect();
            let kept: Vec<_> = buffers.iter().map(|whole| whole.slice(READ / 2..READ / 2 + 200)).collect();
            drop(buffers);
            let (ns, returned) = once(effort, scenario, || {
                let returned = arena.release(usize::MAX).map(|released| released.returned);
                (*returned.as_ref().unwrap_or(&0) as u64 / MIB as u64, returned)
            });
            drop(kept);
            match returned {
                Ok(bytes) if bytes >= MIB => vec![Sample::new(scenario, 1, ns)],
                other => Hindered::end(format!("nothing goes back: {other:?}")),
            }
        })
        .remove(0)
    });
    let read: Run<'_> = Box::new(move |effort| {
        let times = on_cores(1, |_| {
            let mut buffer = vec![1_u8; READ];
            let (ns, ()) = once(effort, scenario, || {
                for at in (0..BLOCKS * READ).step_by(READ) {
                    pread(&file, &mut buffer[..], at as u64).expect("a file in memory");
                }
                ((BLOCKS * READ / MIB) as u64, ())
            });
            ns
        });
        vec![Sample::new(scenario, 1, times[0])]
    });
    recorder.interleave(recorder.effort.repetitions, vec![(ARENA, ours), (BARE_READ, read)]);
}
