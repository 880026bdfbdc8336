//! What a replay is made with: protocol, threads, zone, and who watches.

use std::fmt;

use serde::Serialize;
use tailpin::{AREA_FRAMES, Classic, OneWord, Order, Protocol as _, ZoneError};

use super::plan::Plan;
use super::run::{Ground, Measured};

/// Smallest zone, 512 MiB: below it the per-CPU caches would weigh on the metadata of each frame.
const LEAST_FRAMES: u64 = 1 << 17;

/// Room for each copy beside one and a half times the peak, 128 MiB. Blocks never move here, so a trace that splits huge pages and
/// keeps some of the pieces needs more than its live frames.
const SPARE_FRAMES: u64 = 1 << 15;

/// Largest zone, in frames: 512 GiB.
pub const MOST_FRAMES: u64 = 1 << 27;

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

/// Why a plan can't be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// The zone that it needs is too large.
    NoRoom {
        /// Frames it needs.
        frames: u64,
        /// The most there may be: [`MOST_FRAMES`].
        limit: u64,
    },
    /// No zone can be made of so many frames.
    Zone(ZoneError),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom { frames, limit } => {
                write!(f, "needs a zone of {frames} frames for all threads; {limit} is the most")
            }
            Self::Zone(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ReplayError {}

impl From<ZoneError> for ReplayError {
    fn from(error: ZoneError) -> Self {
        Self::Zone(error)
    }
}

/// Hears of a replay while it runs, on the threads that run it.
pub trait Watch: Sync {
    /// On the thread of copy `copy`, counted from 0, before its clock starts.
    fn begins(&self, _copy: usize) {}
    /// So many more steps were done. Called within the timed part, once for many steps.
    fn progress(&self, _steps: usize) {}
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWatch;

impl Watch for NoWatch {}

/// How to replay a plan.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// How frames are counted.
    pub protocol: Protocol,
    /// Copies of the plan at once, each on a thread of its own, all on one zone. 0 counts as 1.
    pub threads: usize,
    /// Frames of the zone; `None` for what the plan needs at most, and room beside it.
    pub zone_frames: Option<u64>,
}

impl Setup {
    /// Frames that the zone gets.
    ///
    /// # Errors
    /// [`ReplayError::NoRoom`] beyond [`MOST_FRAMES`].
    pub fn frames(&self, plan: &Plan) -> Result<u64, ReplayError> {
        let frames = self.zone_frames.unwrap_or_else(|| zone_frames(plan, self.threads.max(1) as u64));
        match frames {
            frames if frames > MOST_FRAMES => Err(ReplayError::NoRoom { frames, limit: MOST_FRAMES }),
            frames => Ok(frames),
        }
    }

    /// One replay on a fresh zone, audited at its end.
    ///
    /// # Errors
    /// [`ReplayError::NoRoom`] as [`Self::frames`]; [`ReplayError::Zone`] for a zone of no frames.
    pub fn round(&self, plan: &Plan, watch: &dyn Watch) -> Result<Measured, ReplayError> {
        let (frames, threads) = (self.frames(plan)?, self.threads.max(1));
        let measured = match self.protocol {
            Protocol::OneWord => {
                Ground::new::<OneWord<'_>>(frames, threads)?.replay::<OneWord<'_>>(plan, watch)
            }
            Protocol::Classic => {
                Ground::new::<Classic<'_>>(frames, threads)?.replay::<Classic<'_>>(plan, watch)
            }
        };
        Ok(measured?)
    }
}

/// Frames the zone gets for `threads` copies of `plan`.
fn zone_frames(plan: &Plan, threads: u64) -> u64 {
    let aligned = if plan.largest > Order::HUGE { plan.largest.frames() } else { 0 };
    let each = plan.peak_frames + plan.peak_frames / 2 + SPARE_FRAMES + aligned;
    (each * threads).max(LEAST_FRAMES).next_multiple_of(AREA_FRAMES as u64)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{MOST_FRAMES, NoWatch, Protocol, ReplayError, Setup, Watch};
    use crate::support::Writer;
    use crate::{Plan, Reading, compile, trace};

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
            // Bits, so that no copy is heard of twice for another. Relaxed: read after all have been joined.
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
    }
}
