//! A word that threads wait at until it changes: ours, the kernel's, `parking_lot_core`'s.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot_core::{DEFAULT_PARK_TOKEN, DEFAULT_UNPARK_TOKEN, park, unpark_all, unpark_one};
use tailpin_futex::{Futex, Futexes, StdScheduler};
use tailpin_mm::{Space, VirtAddr};

use super::LazyEnv;

/// A futex word and its operations.
pub(crate) trait Waits: Sync {
    /// Its name in the tables.
    fn name(&self) -> &'static str;
    /// The word.
    fn load(&self) -> u32;
    /// Changes the word.
    fn store(&self, value: u32);
    /// Blocks until woken, or for no reason, if the word is `expected`.
    fn wait(&self, expected: u32);
    /// Wakes one; says how many there were to wake.
    fn wake_one(&self) -> u64;
    /// Wakes everybody.
    fn wake_all(&self);
}

/// A futex of this library, in memory of an address space.
pub(crate) struct OurFutex<'f, 'z> {
    pub(crate) futexes: &'f Futexes<StdScheduler>,
    pub(crate) space: &'f Space<'z, LazyEnv>,
    pub(crate) at: VirtAddr,
}

impl<'f, 'z> OurFutex<'f, 'z> {
    fn futex(&self) -> Futex<'f, Space<'z, LazyEnv>> {
        Futex::private(self.space, self.at.get())
    }
}

impl Waits for OurFutex<'_, '_> {
    fn name(&self) -> &'static str {
        "tailpin"
    }

    fn load(&self) -> u32 {
        self.space.load_u32(self.at).expect("the page was written to and stays")
    }

    fn store(&self, value: u32) {
        self.space.store_u32(self.at, value).expect("the page was written to and stays");
    }

    fn wait(&self, expected: u32) {
        // That the word is another one is as good as having been woken.
        let _ = self.futexes.wait(&self.futex(), expected, None);
    }

    fn wake_one(&self) -> u64 {
        self.futexes.wake(&self.futex(), 1).map_or(0, u64::from)
    }

    fn wake_all(&self) {
        let _ = self.futexes.wake(&self.futex(), u32::MAX);
    }
}

/// The kernel's.
#[cfg(target_os = "linux")]
#[derive(Default)]
pub(crate) struct Linux(AtomicU32);

#[cfg(target_os = "linux")]
impl Linux {
    /// Wakes one as if other processes might wait too: the kernel then looks at the word's page.
    pub(crate) fn wake_shared(&self) {
        let _ = rustix::thread::futex::wake(&self.0, rustix::thread::futex::Flags::empty(), 1);
    }
}

#[cfg(target_os = "linux")]
impl Waits for Linux {
    fn name(&self) -> &'static str {
        "linux-futex"
    }

    fn load(&self) -> u32 {
        // Acquire: pairs with the store's Release.
        self.0.load(Ordering::Acquire)
    }

    fn store(&self, value: u32) {
        self.0.store(value, Ordering::Release);
    }

    fn wait(&self, expected: u32) {
        let _ = rustix::thread::futex::wait(&self.0, rustix::thread::futex::Flags::PRIVATE, expected, None);
    }

    fn wake_one(&self) -> u64 {
        rustix::thread::futex::wake(&self.0, rustix::thread::futex::Flags::PRIVATE, 1).unwrap_or(0) as u64
    }

    fn wake_all(&self) {
        let everybody = i32::MAX as u32;
        let _ = rustix::thread::futex::wake(&self.0, rustix::thread::futex::Flags::PRIVATE, everybody);
    }
}

/// `parking_lot_core`'s, by the word's address.
#[derive(Default)]
pub(crate) struct ParkingLot(AtomicU32);

impl ParkingLot {
    fn key(&self) -> usize {
        (&raw const self.0).addr()
    }
}

impl Waits for ParkingLot {
    fn name(&self) -> &'static str {
        "parking_lot_core"
    }

    fn load(&self) -> u32 {
        // Acquire: pairs with the store's Release.
        self.0.load(Ordering::Acquire)
    }

    fn store(&self, value: u32) {
        self.0.store(value, Ordering::Release);
    }

    fn wait(&self, expected: u32) {
        let unchanged = || self.0.load(Ordering::Relaxed) == expected;
        // SAFETY: the key is an address of our own; the callbacks neither panic nor park.
        unsafe { park(self.key(), unchanged, || (), |_, _| (), DEFAULT_PARK_TOKEN, None) };
    }

    fn wake_one(&self) -> u64 {
        // SAFETY: as in `wait`.
        unsafe { unpark_one(self.key(), |_| DEFAULT_UNPARK_TOKEN) }.unparked_threads as u64
    }

    fn wake_all(&self) {
        // SAFETY: as in `wait`.
        unsafe { unpark_all(self.key(), DEFAULT_UNPARK_TOKEN) };
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use tailpin::PAGE_BYTES;

    use tailpin_futex::{Futexes, StdScheduler};
    use tailpin_mm::{Access, Map, Prot};

    use super::{OurFutex, ParkingLot, Waits};
    use crate::subjects::Machine;

    /// A thread waits, and goes on when it is woken, not before the word has changed.
    fn wakes_who_waits(word: &dyn Waits) {
        word.store(0);
        assert_eq!(word.wake_one(), 0, "{}: no thread waits", word.name());
        word.wait(7); // The word is another: returns at once.
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                while word.load() == 0 {
                    word.wait(0);
                }
                word.load()
            });
            while word.wake_one() == 0 {
                thread::yield_now();
            }
            word.store(5);
            while !waiter.is_finished() {
                word.wake_all();
                thread::yield_now();
            }
            assert_eq!(waiter.join().unwrap(), 5);
        });
    }

    #[test]
    fn every_kind_wakes_who_waits() {
        let machine = Machine::new(16);
        let zone = machine.zone();
        let mm = machine.mm(&zone);
        let space = mm.space().unwrap();
        let at = space.map(Map::anonymous(PAGE_BYTES, Prot::READ_WRITE)).unwrap();
        space.fault(at, Access::Write).unwrap();
        let futexes = Futexes::new(StdScheduler::new(), 2);
        wakes_who_waits(&OurFutex { futexes: &futexes, space: &space, at });
        wakes_who_waits(&ParkingLot::default());
        #[cfg(target_os = "linux")]
        wakes_who_waits(&super::Linux::default());
    }
}
