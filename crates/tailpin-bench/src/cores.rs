//! Threads, each on a core of its own, that start together.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    arrived: &'g AtomicUsize,
}

impl Seat<'_> {
    /// Waits until all threads have come here as often as this one.
    pub(crate) fn meet(&self) {
        // AcqRel and Acquire: what each did before is done for all after.
        let ticket = self.arrived.fetch_add(1, Ordering::AcqRel);
        let full = (ticket / self.threads + 1) * self.threads;
        let mut spins = 0_u32;
        while self.arrived.load(Ordering::Acquire) < full {
            spins += 1;
            if spins.is_multiple_of(1024) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }
}

/// Runs `work` on `threads` pinned threads at once and returns what each has to say.
pub(crate) fn on_cores<T: Send>(threads: usize, work: impl Fn(&Seat<'_>) -> T + Sync) -> Vec<T> {
    let arrived = AtomicUsize::new(0);
    let one = |index: usize| {
        pin(index);
        SEAT.set(index);
        let seat = Seat { index, threads, arrived: &arrived };
        seat.meet();
        work(&seat)
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|index| {
                scope.spawn({
                    let one = &one;
                    move || one(index)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("no measurement panics")).collect()
    })
}

/// The mean over the threads.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
