//! A line that tells how far the work is, on a terminal and nowhere else.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::style::columns;

/// Shortest time between two lines: drawing one costs more than most steps.
const BETWEEN: Duration = Duration::from_millis(100);

/// Work of a known number of steps, in which any thread may say that some are done.
pub(crate) struct Progress {
    what: String,
    total: AtomicU64,
    done: AtomicU64,
    /// When the line was last drawn, if ever; `None` where standard error is no terminal.
    drawn: Option<Mutex<Option<Instant>>>,
}

impl Progress {
    /// Of `total` steps; of 0, the line has the name of the work alone.
    pub(crate) fn new(what: impl Into<String>, total: u64) -> Self {
        let progress = Self {
            what: what.into(),
            total: AtomicU64::new(total),
            done: AtomicU64::new(0),
            drawn: stderr().is_terminal().then(Mutex::default),
        };
        progress.draw();
        progress
    }

    /// `steps` more are done.
    pub(crate) fn add(&self, steps: u64) {
        // Relaxed here and below: a number to be shown, which carries nothing along.
        self.done.fetch_add(steps, Ordering::Relaxed);
        self.draw();
    }

    /// `done` of `total` are done.
    pub(crate) fn set(&self, done: u64, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
        self.draw();
    }

    fn draw(&self) {
        let Some(drawn) = &self.drawn else { return };
        // A thread that finds another one drawing has nothing to add.
        let Ok(mut last) = drawn.try_lock() else { return };
        if last.is_some_and(|at| at.elapsed() < BETWEEN) {
            return;
        }
        *last = Some(Instant::now());
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        let _ = write!(stderr(), "\r{}\x1b[K", line(&self.what, done, total, columns()));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let drew = |drawn: &Mutex<Option<Instant>>| drawn.lock().is_ok_and(|last| last.is_some());
        if self.drawn.as_ref().is_some_and(drew) {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

/// The name of the work, a bar where there is room for one, and the share that is done: one column
/// less than the terminal has, so that it never wraps.
fn line(what: &str, done: u64, total: u64, columns: usize) -> String {
    let room = columns.saturating_sub(1);
    let cut = |text: &str| text.chars().take(room).collect::<String>();
    let Some(percent) = (done.min(total) * 100).checked_div(total) else { return cut(what) };
    let bar = room.saturating_sub(what.chars().count() + " [] 100 %".len());
    if bar < 10 {
        return cut(&format!("{percent:>3} % {what}"));
    }
    let full = bar * percent as usize / 100;
    format!("{what} [{}{}] {percent:>3} %", "#".repeat(full), "-".repeat(bar - full))
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_line_is_never_as_wide_as_the_terminal() {
        for columns in 0..120 {
            for (done, total) in [(0, 0), (0, 7), (3, 7), (7, 7), (9, 7)] {
                let line = line("replaying guest-pins", done, total, columns);
                assert!(line.chars().count() <= columns.saturating_sub(1), "{columns}: {line}");
            }
        }
        assert_eq!(line("work", 1, 4, 34), "work [#####---------------]  25 %");
        assert_eq!(line("work", 1, 4, 14), " 25 % work");
    }
}
