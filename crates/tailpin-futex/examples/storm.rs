//! A mutex, a condition variable and a semaphore in shared memory, used from two address spaces
//! while the huge page they lie in is split and collapsed all the time.
//!
//! Producers in one space hand numbers to consumers in the other through a ring in that page; at
//! the end every number has arrived once. Run it with `cargo run --release -p tailpin-futex
//! --example storm`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tailpin::Order;
use tailpin::PAGE_BYTES as PAGE;
use tailpin_futex::{Access, Error, Futex, Futexes, Memory, StdScheduler};
use tailpin_mm::{CollapseLimits, HugePages, Map, Mm, MmConfig, ObjectConfig, Prot, Ram, VirtAddr};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
type Table = Futexes<StdScheduler>;

const HUGE: u64 = 2 << 20;
const PRODUCERS: u32 = 2;
const CONSUMERS: u32 = 2;
const NUMBERS: u32 = 20_000;
const SLOTS: u32 = 8;

/// A word of shared memory, as one space sees it.
struct Word<'s, M> {
    futexes: &'s Table,
    futex: Futex<'s, M>,
}

impl<'s, M: Memory> Word<'s, M> {
    fn at(futexes: &'s Table, space: &'s M, addr: VirtAddr) -> Self {
        Self { futexes, futex: Futex::shared(space, addr.get()) }
    }

    fn load(&self) -> Result<u32> {
        loop {
            match self.futex.memory.load(self.futex.at) {
                Ok(word) => return Ok(word),
                Err(_) => self.present()?,
            }
        }
    }

    /// Changes the word unless `new` says no; returns what it was, and whether it was changed.
    fn update(&self, new: impl Fn(u32) -> Option<u32>) -> Result<(u32, bool)> {
        let mut seen = self.load()?;
        while let Some(new) = new(seen) {
            match self.futex.memory.compare_exchange(self.futex.at, seen, new) {
                Ok(Ok(_)) => return Ok((seen, true)),
                Ok(Err(found)) => seen = found,
                Err(_) => self.present()?,
            }
        }
        Ok((seen, false))
    }

    fn present(&self) -> Result {
        let (memory, at) = (self.futex.memory, self.futex.at);
        Memory::fault(memory, at, Access::Write).map_err(|fault| Error::Fault { at, fault }.into())
    }

    fn wait(&self, expected: u32) -> Result {
        match self.futexes.wait(&self.futex, expected, None) {
            Ok(()) | Err(Error::WouldBlock { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn wake(&self, count: u32) -> Result {
        self.futexes.wake(&self.futex, count)?;
        Ok(())
    }
}

/// 0 is free, 1 taken, 2 taken and a thread may be waiting.
struct Mutex<'s, M>(Word<'s, M>);

impl<M: Memory> Mutex<'_, M> {
    fn lock(&self) -> Result {
        if self.0.update(|word| (word == 0).then_some(1))?.1 {
            return Ok(());
        }
        self.lock_contended()
    }

    /// Also for those who come from a condition variable: others may have been requeued with them.
    fn lock_contended(&self) -> Result {
        while self.0.update(|_| Some(2))?.0 != 0 {
            self.0.wait(2)?;
        }
        Ok(())
    }

    fn unlock(&self) -> Result {
        if self.0.update(|_| Some(0))?.0 == 2 { self.0.wake(1) } else { Ok(()) }
    }
}

/// Counts how often it was notified.
struct Condvar<'s, M>(Word<'s, M>);

impl<M: Memory> Condvar<'_, M> {
    fn wait(&self, mutex: &Mutex<'_, M>) -> Result {
        let seen = self.0.load()?;
        mutex.unlock()?;
        self.0.wait(seen)?;
        mutex.lock_contended()
    }

    /// Wakes one; the others wait for the mutex at once instead of rushing at it.
    fn notify_all(&self, mutex: &Mutex<'_, M>) -> Result {
        let mut expected = self.0.update(|word| Some(word.wrapping_add(1)))?.0.wrapping_add(1);
        loop {
            match self.0.futexes.cmp_requeue(&self.0.futex, &mutex.0.futex, 1, i32::MAX as u32, expected) {
                Ok(_) => return Ok(()),
                // Another thread has notified in between.
                Err(Error::WouldBlock { found }) => expected = found,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

struct Semaphore<'s, M>(Word<'s, M>);

impl<M: Memory> Semaphore<'_, M> {
    fn acquire(&self) -> Result {
        while !self.0.update(|count| count.checked_sub(1))?.1 {
            self.0.wait(0)?;
        }
        Ok(())
    }

    fn release(&self) -> Result {
        self.0.update(|count| count.checked_add(1))?;
        self.0.wake(1)
    }
}

/// Everything, each in a page of its own of the one huge page.
struct Ring<'s, M> {
    free: Semaphore<'s, M>,
    mutex: Mutex<'s, M>,
    changed: Condvar<'s, M>,
    head: Word<'s, M>,
    tail: Word<'s, M>,
    slots: Vec<Word<'s, M>>,
}

impl<'s, M: Memory> Ring<'s, M> {
    fn at(futexes: &'s Table, space: &'s M, base: VirtAddr) -> Self {
        let word = |page: u64| Word::at(futexes, space, base.offset(page * PAGE + 4 * page));
        Self {
            free: Semaphore(word(1)),
            mutex: Mutex(word(2)),
            changed: Condvar(word(3)),
            head: word(300),
            tail: word(301),
            slots: (0..u64::from(SLOTS)).map(|slot| word(500 + slot)).collect(),
        }
    }

    fn send(&self, number: u32) -> Result {
        self.free.acquire()?;
        self.mutex.lock()?;
        let at = self.head.update(|head| Some(head + 1))?.0;
        self.slots[(at % SLOTS) as usize].update(|_| Some(number))?;
        self.mutex.unlock()?;
        self.changed.notify_all(&self.mutex)
    }

    fn receive(&self) -> Result<u32> {
        self.mutex.lock()?;
        while self.head.load()? == self.tail.load()? {
            self.changed.wait(&self.mutex)?;
        }
        let at = self.tail.update(|tail| Some(tail + 1))?.0;
        let number = self.slots[(at % SLOTS) as usize].load()?;
        self.mutex.unlock()?;
        self.free.release()?;
        Ok(number)
    }
}

fn main() -> Result {
    let ram = Ram::new(64 << 20);
    let zone = ram.zone()?;
    let mm = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default())?;
    let object = mm.object(ObjectConfig::new(HUGE).huge())?;
    let (here, there) = (mm.space()?, mm.space()?);
    let base = here.map(Map::shared(&object, 0, HUGE, Prot::READ_WRITE).huge(HugePages::Always))?;
    // At an address where it can only be mapped by pages.
    let view = Map::shared(&object, 0, HUGE, Prot::READ_WRITE).at(VirtAddr::new(0x10_0000_1000));
    let other = there.map(view)?;

    let futexes = Futexes::new(StdScheduler::new(), 4);
    Ring::at(&futexes, &here, base).free.0.update(|_| Some(SLOTS))?;
    let (done, sum) = (AtomicBool::new(false), AtomicU64::new(0));
    let (splits, collapses) = thread::scope(|scope| -> Result<_> {
        let storm = scope.spawn(|| {
            let (mut splits, mut collapses) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                splits += u32::from(here.split_page(base, Order::PAGE).is_ok());
                thread::yield_now();
                collapses += u32::from(here.collapse(base, CollapseLimits::NONE).is_ok());
                thread::yield_now();
            }
            (splits, collapses)
        });
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|first| {
                let ring = Ring::at(&futexes, &here, base);
                scope.spawn(move || -> Result {
                    (first..NUMBERS).step_by(PRODUCERS as usize).try_for_each(|number| ring.send(number))
                })
            })
            .collect();
        let consumers: Vec<_> = (0..CONSUMERS)
            .map(|_| {
                let (ring, sum) = (Ring::at(&futexes, &there, other), &sum);
                scope.spawn(move || -> Result {
                    (0..NUMBERS / CONSUMERS).try_for_each(|_| {
                        // Relaxed: read after the threads were joined.
                        sum.fetch_add(u64::from(ring.receive()?), Ordering::Relaxed);
                        Ok(())
                    })
                })
            })
            .collect();
        for thread in producers.into_iter().chain(consumers) {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        done.store(true, Ordering::Relaxed);
        storm.join().map_err(|_| "the storm panicked".into())
    })?;
    let sum = sum.into_inner();
    let expected = u64::from(NUMBERS) * u64::from(NUMBERS - 1) / 2;
    println!(
        "{NUMBERS} numbers crossed, through {splits} splits and {collapses} collapses of the page between them"
    );
    assert_eq!(sum, expected, "each number arrives once");
    assert!(futexes.is_idle(), "no thread is left waiting");
    Ok(())
}
