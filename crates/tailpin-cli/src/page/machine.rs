//! What a run was made with: the version, the machine and the day.

use std::time::{SystemTime, UNIX_EPOCH};

/// `tailpin 0.1.0, release build; 2 cores of …, 23 GiB, Linux 6.18.44; 2026-11-30 10:20 UTC`.
pub(crate) fn machine() -> String {
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    let mut text = format!("tailpin {}, {build}; {}", env!("CARGO_PKG_VERSION"), hardware());
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    if let Ok(now) = now {
        text += &format!("; {}", date(now.as_secs()));
    }
    text
}

fn hardware() -> String {
    let value = |path: &str, key: &str| -> Option<String> {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':').map_or(line, |(_, value)| value).trim().to_owned())
    };
    let gib = |kib: String| Some(kib.split_whitespace().next()?.parse::<u64>().ok()? >> 20);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = format!("{cores} core{}", if cores == 1 { "" } else { "s" });
    text.extend(value("/proc/cpuinfo", "model name").map(|cpu| format!(" of {cpu}")));
    text.extend(value("/proc/meminfo", "MemTotal").and_then(gib).map(|gib| format!(", {gib} GiB")));
    let release = value("/proc/sys/kernel/osrelease", "");
    let version = release.as_deref().and_then(|release| release.split('-').next());
    text.extend(version.map(|version| format!(", Linux {version}")));
    text
}

/// A time in seconds since 1970 as day and minute.
fn date(seconds: u64) -> String {
    // Years begin in March, so that a leap day is the last of its year; eras are of 400 years.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (seconds % 86_400 / 3_600, seconds % 3_600 / 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::{date, machine};

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_709_251_199), "2024-02-29 23:59 UTC");
        assert_eq!(date(4_107_542_400), "2100-03-01 00:00 UTC");
    }

    #[test]
    fn a_run_says_what_it_was_made_with() {
        assert!(machine().contains(env!("CARGO_PKG_VERSION")) && machine().contains("core"));
    }
}
