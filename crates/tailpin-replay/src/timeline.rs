//! The course of a trace in a few hundred points.

/// How many intervals a trace is divided into.
pub const INTERVALS: usize = 400;

/// The state after some record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// Live frames.
    pub frames: u64,
    /// Of those, in blocks of 2 MiB and more.
    pub huge_frames: u64,
    /// Frames with a pin.
    pub pinned_frames: u64,
    /// Blocks of more than one page with a pinned page.
    pub pinned_blocks: u64,
}

impl Point {
    fn most(self, other: Self) -> Self {
        Self {
            frames: self.frames.max(other.frames),
            huge_frames: self.huge_frames.max(other.huge_frames),
            pinned_frames: self.pinned_frames.max(other.pinned_frames),
            pinned_blocks: self.pinned_blocks.max(other.pinned_blocks),
        }
    }
}

/// What the zone of a replay has at the end of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Frames in use.
    pub used_frames: u64,
    /// 2 MiB pageblocks that are whole and free.
    pub free_pageblocks: u64,
}

/// The highest values in each of [`INTERVALS`] equal parts of a trace's time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Nanoseconds from the first to the last record.
    pub duration_ns: u64,
    /// One for each interval up to the last record's.
    pub points: Vec<Point>,
    now: Point,
}

impl Timeline {
    /// For a trace of this duration.
    pub(crate) fn new(duration_ns: u64) -> Self {
        Self { duration_ns, points: Vec::with_capacity(INTERVALS), now: Point::default() }
    }

    /// At `time_ns` the state became `point`. Times must not go back.
    pub(crate) fn note(&mut self, time_ns: u64, point: Point) {
        let wide = u128::from(time_ns) * INTERVALS as u128 / (u128::from(self.duration_ns) + 1);
        let interval = (wide as usize).min(INTERVALS - 1);
        while self.points.len() <= interval {
            self.points.push(self.now);
        }
        self.now = point;
        self.points[interval] = self.points[interval].most(point);
    }
}
