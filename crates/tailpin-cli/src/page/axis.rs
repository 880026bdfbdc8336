//! Axes: where the ticks of a scale are, and what stands beside them.

use crate::units::grouped;

/// What the numbers of an axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    Bytes,
    Nanoseconds,
    /// A share of one.
    Share,
}

impl Unit {
    /// A value as a tick says it: with its unit, and with no digit more than it needs. `most` is
    /// the highest value of the axis, by which all its ticks have one unit.
    pub(crate) fn tick(self, value: f64, most: f64) -> String {
        if value == 0.0 {
            return "0".to_owned();
        }
        let scaled = |units: &[(f64, &str)]| {
            let (size, name) = units.iter().rev().find(|unit| most >= unit.0).unwrap_or(&units[0]);
            format!("{} {name}", trimmed(value / size))
        };
        match self {
            Self::Count => match value >= 1.0 {
                true => grouped(value.round() as u64),
                false => trimmed(value),
            },
            Self::Bytes => scaled(&[(1.0, "B"), (KIB, "KiB"), (KIB * KIB, "MiB"), (KIB * KIB * KIB, "GiB")]),
            Self::Nanoseconds => scaled(&[(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")]),
            Self::Share => format!("{} %", trimmed(value * 100.0)),
        }
    }

    /// A value alone, in the unit that suits it.
    pub(crate) fn value(self, value: f64) -> String {
        self.tick(value, value)
    }
}

const KIB: f64 = 1024.0;

/// A number with up to three digits that count, without zeroes at its end.
fn trimmed(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else if value >= 1.0 {
        2
    } else {
        4
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    Logarithmic,
}

/// A scale with ticks at round numbers.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    unit: Unit,
    scale: Scale,
    ticks: Vec<f64>,
    /// The first value and the last.
    ends: (f64, f64),
}

impl Axis {
    /// From zero to at least `most`, in about `parts` parts.
    pub(crate) fn linear(unit: Unit, most: f64, parts: usize) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let step = round_step(unit, most / parts.max(1) as f64);
        let count = (most / step).ceil().max(1.0) as usize;
        let ticks = (0..=count).map(|tick| tick as f64 * step).collect();
        Self { unit, scale: Scale::Linear, ticks, ends: (0.0, count as f64 * step) }
    }

    /// Logarithmic, over all of `least` to `most`, which are above zero, with at most about `parts`
    /// parts.
    pub(crate) fn logarithmic(unit: Unit, least: f64, most: f64, parts: usize) -> Self {
        let base = if unit == Unit::Bytes { 2.0_f64 } else { 10.0 };
        let inner: &[f64] = if unit == Unit::Bytes { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let first = power_below(base, least);
        let last = power_above(base, most).max(first + 1);
        let powers = (last - first) as usize;
        let mut ends = (base.powi(first), base.powi(last));
        let mut ticks = Vec::new();
        if inner.len() * powers <= parts.max(2) + 2 {
            for power in first..last {
                ticks.extend(inner.iter().map(|part| part * base.powi(power)));
            }
            ticks.push(ends.1);
            // Round numbers that nothing reaches are left out.
            while ticks.len() > 2 && ticks[1] <= least {
                ticks.remove(0);
            }
            while ticks.len() > 2 && ticks[ticks.len() - 2] >= most {
                ticks.pop();
            }
            ends = (ticks[0], ticks[ticks.len() - 1]);
        } else {
            let stride = powers.div_ceil(parts.max(1)).max(1);
            ticks.extend((first..=last).step_by(stride).map(|power| base.powi(power)));
        }
        Self { unit, scale: Scale::Logarithmic, ticks, ends }
    }

    /// The last value.
    pub(crate) fn end(&self) -> f64 {
        self.ends.1
    }

    /// Where a value is, from 0 at the first one to 1 at the last. What lies outside is at the end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let (least, most) = self.ends;
        let place = match self.scale {
            Scale::Linear => (value - least) / (most - least),
            Scale::Logarithmic => (value.max(least) / least).ln() / (most / least).ln(),
        };
        place.clamp(0.0, 1.0)
    }

    /// Each tick: its place, and what stands beside it.
    pub(crate) fn labels(&self) -> Vec<(f64, String)> {
        let most = self.end();
        let label = |tick: f64| match self.scale {
            Scale::Linear => self.unit.tick(tick, most),
            Scale::Logarithmic => self.unit.value(tick),
        };
        self.ticks.iter().map(|&tick| (self.place(tick), label(tick))).collect()
    }
}

fn power_below(base: f64, value: f64) -> i32 {
    // A power itself is not rounded down by the last bit of its logarithm.
    (value.ln() / base.ln() + 1e-9).floor() as i32
}

fn power_above(base: f64, value: f64) -> i32 {
    (value.ln() / base.ln() - 1e-9).ceil() as i32
}

/// The smallest round step that is at least `least`: 1, 2 or 5 of a power of ten, a power of two of
/// bytes, and whole numbers of what can be counted.
fn round_step(unit: Unit, least: f64) -> f64 {
    if unit == Unit::Bytes {
        return 2.0_f64.powi(power_above(2.0, least.max(1.0)));
    }
    let least = if unit == Unit::Count { least.max(1.0) } else { least };
    let power = 10.0_f64.powi(power_below(10.0, least));
    let round = [1.0, 2.0, 5.0, 10.0].into_iter().map(|part| part * power);
    round.into_iter().find(|step| *step >= least * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::{Axis, Unit};

    fn said(axis: &Axis) -> Vec<String> {
        axis.labels().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(said(&Axis::linear(Unit::Count, 13.0, 4)), ["0", "5", "10", "15"]);
        assert_eq!(said(&Axis::linear(Unit::Count, 1_513.0, 4)), ["0", "500", "1,000", "1,500", "2,000"]);
        assert_eq!(said(&Axis::linear(Unit::Count, 2.0, 4)), ["0", "1", "2"]);
        assert_eq!(said(&Axis::linear(Unit::Nanoseconds, 40.8e9, 4)), ["0", "20 s", "40 s", "60 s"]);
        let megabytes = Axis::linear(Unit::Bytes, 167.1 * 1_048_576.0, 4);
        assert_eq!(said(&megabytes), ["0", "64 MiB", "128 MiB", "192 MiB"]);
    }

    #[test]
    fn a_logarithmic_axis_has_powers_and_what_lies_between_where_there_is_room() {
        assert_eq!(
            said(&Axis::logarithmic(Unit::Nanoseconds, 9.0, 31.0, 6)),
            ["5 ns", "10 ns", "20 ns", "50 ns"]
        );
        assert_eq!(
            said(&Axis::logarithmic(Unit::Nanoseconds, 3.0, 1.1e6, 6)),
            ["1 ns", "100 ns", "10 µs", "1 ms"]
        );
        assert_eq!(
            said(&Axis::logarithmic(Unit::Share, 0.01, 1.0, 6)),
            ["1 %", "2 %", "5 %", "10 %", "20 %", "50 %", "100 %"]
        );
        assert_eq!(
            said(&Axis::logarithmic(Unit::Bytes, 64.0, 65_536.0, 5)),
            ["64 B", "256 B", "1 KiB", "4 KiB", "16 KiB", "64 KiB"]
        );
    }

    #[test]
    fn every_value_has_its_place() {
        for (least, most) in [(1.0, 1.0), (0.3, 900.0), (7.0, 8.0), (1e-3, 1e9)] {
            for parts in 1..8 {
                let axis = Axis::logarithmic(Unit::Nanoseconds, least, most, parts);
                assert!(axis.ticks.windows(2).all(|two| two[0] < two[1]), "{axis:?}");
                assert!(axis.ends.0 <= least && most <= axis.ends.1, "{axis:?}");
                assert!(
                    axis.ends.0 <= axis.ticks[0] && axis.ticks.last().unwrap() <= &axis.ends.1,
                    "{axis:?}"
                );
                let axis = Axis::linear(Unit::Count, most, parts);
                assert!(axis.place(most) <= 1.0 && most <= axis.end(), "{axis:?}");
            }
        }
        let axis = Axis::linear(Unit::Count, 10.0, 5);
        assert_eq!([0.0, 5.0, 10.0, 11.0].map(|value| axis.place(value)), [0.0, 0.5, 1.0, 1.0]);
    }
}
