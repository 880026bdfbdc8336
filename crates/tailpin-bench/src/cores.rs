//! Threads, each on a core of its own, that start together.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use core_affinity::CoreId;

thread_local! {
    static SEAT: Cell<usize> = const { Cell::new(0) };
}

fn cores() -> &'static [CoreId] {
    static CORES: OnceLock<Vec<CoreId>> = OnceLock::new();
    CORES.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default())
}

/// Puts the calling thread on core number `index`, if there are so many.
pub(crate) fn pin(index: usize) {
    if let Some(core) = cores().get(index) {
        core_affinity::set_for_current(*core);
    }
}

/// Cores this process may use.
pub(crate) fn available() -> usize {
    cores().len().max(1)
}

/// The number of the calling thread's seat: what per-CPU caches go by. For all subjects that have
/// any.
#[inline]
pub(crate) fn current() -> usize {
    SEAT.get()
}

/// One thread of several.
pub(crate) struct Seat<'g> {
    /// Its number, from 0.
    pub(crate) index: usize,
    threads: usize,
    group: &'g Group,
}

/// What the threads of a group know of each other.
#[derive(Default)]
struct Group {
    arrived: AtomicUsize,
    /// Some thread will never arrive: it was not started, or panicked.
    given_up: AtomicBool,
}

/// Ends a measurement that lacks something of the machine, and says what. It is thrown past the
/// panic hook.
pub(crate) struct Hindered(pub(crate) String);

impl Hindered {
    pub(crate) fn end(why: String) -> ! {
        std::panic::resume_unwind(Box::new(Self(why)))
    }
}

/// Ends a thread whose group was given up.
struct GivenUp;

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Relaxed: it carries nothing along.
            self.group.given_up.store(true, Ordering::Relaxed);
        }
    }
}

impl Seat<'_> {
    /// Waits until all threads have come here as often as this one.
    pub(crate) fn meet(&self) {
        // AcqRel and Acquire: what each did before is done for all after.
        let ticket = self.group.arrived.fetch_add(1, Ordering::AcqRel);
        let full = (ticket / self.threads + 1) * self.threads;
        let mut spins = 0_u32;
        while self.group.arrived.load(Ordering::Acquire) < full {
            if self.group.given_up.load(Ordering::Relaxed) {
                std::panic::resume_unwind(Box::new(GivenUp));
            }
            spins += 1;
            if spins.is_multiple_of(1024) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }
}

/// Runs `work` on `threads` pinned threads at once and returns what each has to say. If one of them
/// panics, or can't be started ([`Hindered`]), all are ended before that goes on.
pub(crate) fn on_cores<T: Send>(threads: usize, work: impl Fn(&Seat<'_>) -> T + Sync) -> Vec<T> {
    let group = Group::default();
    let one = |index: usize| {
        pin(index);
        SEAT.set(index);
        let seat = Seat { index, threads, group: &group };
        seat.meet();
        work(&seat)
    };
    std::thread::scope(|scope| {
        let running: std::io::Result<Vec<_>> = (0..threads)
            .map(|index| {
                let one = &one;
                std::thread::Builder::new().spawn_scoped(scope, move || one(index))
            })
            .collect();
        let running = running.unwrap_or_else(|error| {
            group.given_up.store(true, Ordering::Relaxed);
            Hindered::end(format!("not all of {threads} threads can be started: {error}"))
        });
        let ended: Vec<_> = running.into_iter().map(|thread| thread.join()).collect();
        let (done, panics): (Vec<_>, Vec<_>) = ended.into_iter().partition(Result::is_ok);
        // Of those that panicked, one did so first; the others were only ended by that.
        if let Some(panic) = panics.into_iter().filter_map(Result::err).find(|panic| !panic.is::<GivenUp>()) {
            std::panic::resume_unwind(panic);
        }
        done.into_iter().filter_map(Result::ok).collect()
    })
}

/// The mean over the threads.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::{Hindered, on_cores};

    #[test]
    fn a_thread_that_panics_leaves_none_waiting() {
        let result = catch_unwind(AssertUnwindSafe(|| {
            on_cores(3, |seat| {
                if seat.index == 1 {
                    Hindered::end("for a test".to_owned());
                }
                seat.meet();
                seat.meet();
            })
        }));
        let panic = result.expect_err("the second thread panicked");
        assert_eq!(panic.downcast_ref::<Hindered>().map(|Hindered(why)| why.as_str()), Some("for a test"));
        assert_eq!(on_cores(3, |seat| seat.index), [0, 1, 2]);
    }
}
