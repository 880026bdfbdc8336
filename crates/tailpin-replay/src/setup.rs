//! What a replay is made with: protocol, threads, zone.

use std::io;

use serde::Serialize;
use tailpin::{FrameWords, OneWord, Order, PAGEBLOCK_FRAMES, Rearrange};
use tailpin_classic::Classic;

use super::error::{MOST_FRAMES, MOST_THREADS, ReplayError};
use super::plan::Plan;
use super::run::{Ground, Measured};
use super::timeline::Sample;
use super::watch::{NoWatch, Watch};

/// Smallest zone, 512 MiB: below it the per-CPU caches would weigh on the metadata of each frame.
const LEAST_FRAMES: u64 = 1 << 17;

/// Room for each copy beside one and a half times the peak, 128 MiB. Blocks never move here, so a
/// trace that splits huge pages and keeps some of the pieces needs more than its live frames.
const SPARE_FRAMES: u64 = 1 << 15;

/// How frames are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// All of a frame's state in one word, no lock.
    #[default]
    OneWord,
    /// The compound pages of the 2013 kernel, separate words and a bit lock.
    Classic,
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::OneWord, Self::Classic];

    /// As the library calls it: `one-word` or `classic`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneWord => <OneWord<'_>>::NAME,
            Self::Classic => <Classic<'_>>::NAME,
        }
    }

    /// Whether it can merge blocks.
    pub fn merges(self) -> bool {
        match self {
            Self::OneWord => <OneWord<'_>>::REARRANGES,
            Self::Classic => <Classic<'_>>::REARRANGES,
        }
    }
}

/// How to replay a plan.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// How frames are counted.
    pub protocol: Protocol,
    /// Copies of the plan at once, each on a thread of its own, all on one zone. 0 counts as 1.
    pub threads: usize,
    /// Frames of the zone; `None` for as many as the plan turns out to need.
    pub zone_frames: Option<u64>,
}

impl Setup {
    /// Frames that the zone gets at first: what the plan has live at most, and room beside it, if
    /// [`zone_frames`](Self::zone_frames) does not say.
    ///
    /// # Errors
    /// [`ReplayError::NoRoom`] beyond [`MOST_FRAMES`].
    pub fn frames(&self, plan: &Plan) -> Result<u64, ReplayError> {
        let threads = self.threads.max(1) as u64;
        let least = self.zone_frames.unwrap_or_else(|| plan.peak_frames.saturating_mul(threads));
        if least > MOST_FRAMES {
            return Err(ReplayError::NoRoom { frames: least, limit: MOST_FRAMES });
        }
        Ok(self.zone_frames.unwrap_or_else(|| zone_frames(plan, threads)))
    }

    /// One replay on a fresh zone, audited at its end.
    ///
    /// # Errors
    /// Those of [`Self::rounds`].
    pub fn round(&self, plan: &Plan, watch: &dyn Watch) -> Result<Measured, ReplayError> {
        self.rounds(plan, 1, watch)
    }

    /// So many replays, each on a fresh zone and audited at its end: the fastest, with what went
    /// wrong in any. 0 counts as 1.
    ///
    /// Blocks never move here, so how large a zone a trace needs shows only as it is replayed. If
    /// [`zone_frames`](Self::zone_frames) leaves the size open and an allocation finds no room, all
    /// begins anew in a zone twice as large.
    ///
    /// # Errors
    /// [`ReplayError::NoRoom`] if that goes beyond [`MOST_FRAMES`]; [`ReplayError::Zone`] for a
    /// zone of no frames; [`ReplayError::NoMemory`] and [`ReplayError::Thread`] where the machine
    /// or a limit of the process stands against it.
    ///
    /// # Panics
    /// As `watch` does, once every copy has ended.
    pub fn rounds(&self, plan: &Plan, rounds: u64, watch: &dyn Watch) -> Result<Measured, ReplayError> {
        let mut frames = self.frames(plan)?;
        if self.threads > MOST_THREADS {
            let cause = io::ErrorKind::InvalidInput;
            return Err(ReplayError::Thread { threads: self.threads, cause });
        }
        let mut fastest: Option<Measured> = None;
        let mut done = 0;
        loop {
            let measured = self.one(frames, plan, watch, false)?;
            let too_small = measured.tally.failed_allocs > 0 && self.zone_frames.is_none();
            // Whatever else went wrong is not for want of room.
            if too_small && (measured.violations, measured.leaked_frames) == (0, 0) {
                if frames == MOST_FRAMES {
                    return Err(ReplayError::NoRoom { frames: MOST_FRAMES + 1, limit: MOST_FRAMES });
                }
                frames = (2 * frames).min(MOST_FRAMES);
                (fastest, done) = (None, 0);
                continue;
            }
            let best = match fastest {
                None => measured,
                Some(before) => before.fastest(measured),
            };
            done += 1;
            if done >= rounds {
                return Ok(best);
            }
            fastest = Some(best);
        }
    }

    /// One more replay, of one copy, which takes its time to look at the zone after each interval
    /// of the plan's timeline. A copy that finds no room goes on without.
    ///
    /// # Errors
    /// Those of [`Self::rounds`].
    pub fn course(&self, plan: &Plan) -> Result<Vec<Sample>, ReplayError> {
        let alone = Self { threads: 1, ..*self };
        Ok(alone.one(alone.frames(plan)?, plan, &NoWatch, true)?.course)
    }

    fn one(
        &self,
        frames: u64,
        plan: &Plan,
        watch: &dyn Watch,
        course: bool,
    ) -> Result<Measured, ReplayError> {
        let threads = self.threads.max(1);
        match self.protocol {
            Protocol::OneWord => {
                Ground::new::<OneWord<'_>>(frames, threads)?.replay::<OneWord<'_>>(plan, watch, course)
            }
            Protocol::Classic => {
                Ground::new::<Classic<'_>>(frames, threads)?.replay::<Classic<'_>>(plan, watch, course)
            }
        }
    }
}

/// Frames the zone gets at first for `threads` copies of `plan`.
fn zone_frames(plan: &Plan, threads: u64) -> u64 {
    let aligned = if plan.largest > Order::HUGE { plan.largest.frames() } else { 0 };
    let each = plan.peak_frames + plan.peak_frames / 2 + SPARE_FRAMES + aligned;
    each.saturating_mul(threads).clamp(LEAST_FRAMES, MOST_FRAMES).next_multiple_of(PAGEBLOCK_FRAMES as u64)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{MOST_FRAMES, MOST_THREADS, Protocol, ReplayError, Setup, Watch};
    use crate::NoWatch;
    use crate::support::Writer;
    use crate::{Measured, Outcome, Plan, Reading, compile, trace};

    fn plan() -> Plan {
        let mut writer = Writer::new(2048);
        writer.alloc(512, 9).pin(600, 1).unpin(600, 1).free(512, 9);
        let trace = trace::read("test".into(), writer.file().as_slice(), 1 << 20).unwrap();
        compile(&trace, Reading { as_recorded: true, merges: false }).unwrap()
    }

    #[derive(Default)]
    struct Count {
        begun: AtomicUsize,
        steps: AtomicUsize,
    }

    impl Watch for Count {
        fn begins(&self, copy: usize) {
            // Bits, so that no copy is heard of twice for another. Relaxed: read after all have
            // been joined.
            self.begun.fetch_add(1 << copy, Ordering::Relaxed);
        }

        fn progress(&self, steps: usize) {
            self.steps.fetch_add(steps, Ordering::Relaxed);
        }
    }

    #[test]
    fn every_copy_is_watched_to_its_last_step() {
        for protocol in Protocol::ALL {
            let (plan, watch) = (plan(), Count::default());
            let measured = Setup { protocol, threads: 3, zone_frames: None }.round(&plan, &watch).unwrap();
            assert!(measured.is_clean(), "{:?}", measured.findings);
            assert_eq!((measured.tally.allocs, measured.tally.pins, measured.tally.frees), (3, 3, 3));
            assert_eq!(watch.begun.into_inner(), 0b111);
            assert_eq!(watch.steps.into_inner(), 3 * plan.steps());
        }
    }

    #[test]
    fn the_course_of_a_replay_is_that_of_its_trace() {
        for builtin in trace::builtins() {
            for protocol in Protocol::ALL {
                let reading = Reading { as_recorded: true, merges: protocol.merges() };
                let plan = compile(&builtin.open().unwrap(), reading).unwrap();
                let course = Setup { protocol, threads: 1, zone_frames: None }.course(&plan).unwrap();
                assert_eq!(course.len(), plan.timeline.points.len());
                // A point has the highest value of its interval, a sample the last.
                assert!(
                    course.iter().zip(&plan.timeline.points).all(|(here, there)| {
                        here.used_frames <= there.frames && here.free_pageblocks > 0
                    })
                );
                assert_eq!(course.last().unwrap().used_frames, plan.frames_at_end);
            }
        }
    }

    #[test]
    fn impossible_zones_are_refused() {
        let of = |frames| {
            let setup = Setup { protocol: Protocol::OneWord, threads: 1, zone_frames: Some(frames) };
            setup.round(&plan(), &NoWatch).map(|measured| measured.zone_frames)
        };
        assert_eq!(
            of(MOST_FRAMES + 1),
            Err(ReplayError::NoRoom { frames: MOST_FRAMES + 1, limit: MOST_FRAMES })
        );
        assert!(matches!(of(0), Err(ReplayError::Zone(_))));
        assert_eq!(of(2048), Ok(2048));
        assert!(matches!(of(u64::MAX), Err(ReplayError::NoRoom { .. })));
    }

    fn compiled(writer: &Writer) -> Plan {
        let trace = trace::read("test".into(), writer.file().as_slice(), 1 << 30).unwrap();
        compile(&trace, Reading { as_recorded: false, merges: true }).unwrap()
    }

    /// Each huge page is split, all its pages but one go: little is live, but little of the zone is
    /// whole.
    fn fragmented(huge_pages: u32) -> Writer {
        let mut writer = Writer::new(0);
        for huge in 0..huge_pages {
            let head = huge * 512;
            writer.alloc(head, 9).split(head, 9, 0);
            (0..512).filter(|page| *page != huge % 512).for_each(|page| {
                writer.free(head + page, 0);
            });
        }
        writer
    }

    #[test]
    fn the_zone_is_as_large_as_the_trace_needs() {
        let plan = compiled(&fragmented(300));
        for protocol in Protocol::ALL {
            for threads in [1, 2] {
                let setup = Setup { protocol, threads, zone_frames: None };
                let first = setup.frames(&plan).unwrap();
                assert!(first < 300 * 512 * threads as u64, "the test is of no use: {first}");
                let measured = setup.rounds(&plan, 2, &NoWatch).unwrap();
                assert!(measured.is_clean(), "{:?}", measured.tally);
                assert_eq!(measured.tally.allocs, 300 * threads as u64, "of the last zone alone");
                assert!(measured.zone_frames >= 300 * 512 * threads as u64);
                assert_eq!(measured.live_frames_at_end, 300 * threads as u64);
                let small = Setup { zone_frames: Some(first), ..setup }.rounds(&plan, 2, &NoWatch).unwrap();
                assert!(
                    small.tally.failed_allocs > 0 && !small.is_clean(),
                    "a size that was asked for stays"
                );
            }
        }
    }

    #[test]
    fn extreme_numbers_are_refused() {
        let plan = plan();
        for protocol in Protocol::ALL {
            for threads in [MOST_THREADS + 1, usize::MAX / 2, usize::MAX] {
                for zone_frames in [None, Some(1), Some(2048), Some(MOST_FRAMES), Some(u64::MAX)] {
                    let setup = Setup { protocol, threads, zone_frames };
                    assert!(setup.round(&plan, &NoWatch).is_err(), "{setup:?}");
                }
            }
            let setup = Setup { protocol, threads: 0, zone_frames: None };
            assert_eq!(setup.rounds(&plan, 0, &NoWatch).unwrap().tally.allocs, 1);
        }
        let measured = || {
            Setup { protocol: Protocol::OneWord, threads: 1, zone_frames: Some(2048) }
                .round(&plan, &NoWatch)
                .unwrap()
        };
        for threads in [0, 1, u64::MAX] {
            let elapsed = Measured { elapsed_ns: if threads == 1 { 0 } else { u64::MAX }, ..measured() };
            let outcome = Outcome::new("t", Protocol::OneWord, threads, u64::MAX, None, &plan, elapsed);
            assert!(outcome.metadata_bytes_per_frame.is_finite());
            assert_eq!(outcome.events, plan.events().saturating_mul(threads));
        }
        let nothing = Outcome::new("t", Protocol::OneWord, 0, 0, None, &plan, Measured::default());
        assert_eq!((nothing.metadata_bytes_per_frame, nothing.events_per_s), (0.0, 0));
        assert!(!nothing.is_clean(), "what was not run is not clean");
    }

    /// Panics at the begin of one copy, or as steps are told of.
    struct Panics {
        begins: Option<usize>,
    }

    impl Watch for Panics {
        fn begins(&self, copy: usize) {
            if self.begins == Some(copy) {
                std::panic::resume_unwind(Box::new("watch"));
            }
        }

        fn progress(&self, _: usize) {
            if self.begins.is_none() {
                std::panic::resume_unwind(Box::new("watch"));
            }
        }
    }

    #[test]
    fn a_watch_that_panics_stops_nothing_for_ever() {
        let plan = plan();
        for begins in [None, Some(0), Some(1), Some(3)] {
            let setup = Setup { protocol: Protocol::OneWord, threads: 4, zone_frames: None };
            let result = catch_unwind(AssertUnwindSafe(|| setup.round(&plan, &Panics { begins })));
            assert_eq!(result.expect_err("the panic comes here").downcast_ref(), Some(&"watch"));
            assert!(setup.round(&plan, &NoWatch).unwrap().is_clean());
        }
    }
}
