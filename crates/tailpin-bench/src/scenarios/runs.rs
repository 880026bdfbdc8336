//! Runs of frames: as many as are asked for, side by side, taken and given back in parts.

use tailpin::{OneWord, Protocol, Run as FrameRun};
use tailpin_classic::Classic;

use crate::clock::repeat;
use crate::cores::{mean, on_cores};
use crate::recorder::{Recorder, Run, Sample};
use crate::subjects::{Bitmap, BuddySystem, Memory, zone};

/// Lengths, and the scenarios' names.
const LENGTHS: [(u64, &str); 4] = [(5, "runs-5"), (48, "runs-48"), (512, "runs-512"), (3000, "runs-3000")];

/// Each run comes back in so many parts where an allocator can do that.
const PARTS: u64 = 3;

/// Runs that are held in turn, so that one is not always put in the place of the last.
const HELD: usize = 16;

/// Takes runs of `n` and gives back the oldest of those held, for ever.
struct Turns<T> {
    held: [Option<T>; HELD],
    next: usize,
}

impl<T> Turns<T> {
    fn new() -> Self {
        Self { held: [const { None }; HELD], next: 0 }
    }

    #[inline]
    fn turn(&mut self, take: impl FnOnce() -> Option<T>, give: impl FnOnce(T)) {
        let place = &mut self.held[self.next];
        self.next = (self.next + 1) % HELD;
        if let Some(oldest) = place.take() {
            give(oldest);
        }
        *place = take();
    }
}

/// One subject's case: what it does in a turn, with what it gives back in the end.
fn case<'s, T: 's>(
    scenario: &'static str,
    take: impl Fn() -> Option<T> + Sync + Copy + 's,
    give: impl Fn(T) + Sync + Copy + 's,
) -> Run<'s> {
    Box::new(move |effort| {
        let times = on_cores(1, |_| {
            let mut turns = Turns::new();
            let time = repeat(effort, scenario, || turns.turn(take, give));
            turns.held.into_iter().flatten().for_each(give);
            time
        });
        vec![Sample::new(scenario, 1, mean(&times))]
    })
}

fn in_parts<P: Protocol>(run: FrameRun<'_, P>, n: u64) {
    let mut rest = run;
    for part in 1..PARTS {
        let (first, others) = rest.split_at(n * part / PARTS - n * (part - 1) / PARTS);
        drop(first);
        rest = others;
    }
    drop(rest);
}

/// Every length, one run in three parts per operation.
pub(super) fn of_every_length(recorder: &mut Recorder<'_>) {
    let frames = recorder.effort.frames;
    for (n, scenario) in LENGTHS {
        if !recorder.wants(scenario) {
            continue;
        }
        let memory = Memory::new::<OneWord<'_>>(frames);
        let ours = zone::<OneWord<'_>>(&memory, frames);
        let memory = Memory::new::<Classic<'_>>(frames);
        let classic = zone::<Classic<'_>>(&memory, frames);
        let bitmap = Bitmap::new(frames);
        let buddy = BuddySystem::new(frames);
        let parts = move |part: u64| (n * part / PARTS, n * (part + 1) / PARTS);
        let cases = vec![
            ("tailpin", case(scenario, || ours.alloc_run(n, 1).ok(), |run| in_parts(run, n))),
            ("tailpin-classic", case(scenario, || classic.alloc_run(n, 1).ok(), |run| in_parts(run, n))),
            (
                "bitmap-allocator",
                case(
                    scenario,
                    || bitmap.take_run(n as usize),
                    |first| {
                        for (start, end) in (0..PARTS).map(parts) {
                            bitmap.give_run(first + start as usize, (end - start) as usize);
                        }
                    },
                ),
            ),
            // It rounds up to a power of two and takes nothing less back.
            (
                "buddy_system_allocator",
                case(scenario, || buddy.take_run(n as usize), |first| buddy.give_run(first, n as usize)),
            ),
        ];
        let repetitions = recorder.effort.repetitions;
        recorder.interleave(repetitions, cases);
    }
}
