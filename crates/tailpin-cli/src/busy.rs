//! Whether other programs keep the machine busy, so that times of this run say little.

use std::fmt;

/// What the machine was doing just before a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy {
    /// Threads that ran or waited to run, averaged over a minute; none of them this process's.
    load: Option<f64>,
    cores: usize,
}

impl Busy {
    /// Asks the system; to be called before the run.
    pub(crate) fn before() -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").ok();
        let load = load.and_then(|text| text.split(' ').next()?.parse().ok());
        Self { load, cores: std::thread::available_parallelism().map_or(1, usize::from) }
    }

    /// A warning, if the machine was busy before, or if the repetitions of what was measured lie
    /// far apart: `spread` is how many times as long as the usual repetition the slowest one took.
    pub(crate) fn warning(self, spread: Option<f64>) -> Option<Warning> {
        let load = self.load.filter(|load| *load > self.cores as f64 / 2.0);
        let spread = spread.filter(|spread| *spread > MOST_SPREAD);
        (load.is_some() || spread.is_some()).then_some(Warning { load, cores: self.cores, spread })
    }
}

/// On a quiet machine the slowest of some repetitions takes less than this many times the median.
const MOST_SPREAD: f64 = 2.0;

/// Why times of a run say little.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Warning {
    load: Option<f64>,
    cores: usize,
    spread: Option<f64>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "This machine was busy:")?;
        if let Some(load) = self.load {
            write!(f, " {load:.1} other threads ran on {} cores", self.cores)?;
        }
        if let Some(spread) = self.spread {
            let and = if self.load.is_some() { ", and" } else { "" };
            write!(f, "{and} the slowest repetition took {spread:.1} × the usual time")?;
        }
        write!(f, ". Times are of little use; ratios within this run may be.")
    }
}

#[cfg(all(test, any(feature = "bench", target_os = "linux")))]
impl Busy {
    /// A warning, for tests.
    pub(crate) fn for_tests() -> Option<Warning> {
        Self { load: Some(9.0), cores: 2 }.warning(None)
    }
}

#[cfg(test)]
mod tests {
    use super::Busy;

    #[test]
    fn a_busy_machine_is_told_and_a_quiet_one_is_not() {
        let of = |load, spread| Busy { load, cores: 2 }.warning(spread).map(|warning| warning.to_string());
        assert_eq!(of(Some(0.3), Some(1.2)), None);
        assert_eq!(of(None, None), None);
        assert!(of(Some(17.24), None).unwrap().contains("17.2 other threads ran on 2 cores."));
        assert!(of(Some(0.1), Some(6.0)).unwrap().contains("took 6.0 × the usual time."));
        assert!(of(Some(9.0), Some(6.0)).unwrap().contains("2 cores, and the slowest"));
        assert!(of(Some(9.0), Some(1.0)).unwrap().contains("of little use"));
    }
}
