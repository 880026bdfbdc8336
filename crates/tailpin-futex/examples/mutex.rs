//! A mutex of one word: free, taken, or taken with threads that may wait.
//!
//! `cargo run -p tailpin-futex --example mutex`

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tailpin_futex::{Error as FutexError, Futex, Futexes, StdScheduler};
use tailpin_mm::{Map, Mm, MmConfig, Prot, Ram};

const FREE: u32 = 0;
const TAKEN: u32 = 1;
const WAITED_FOR: u32 = 2;
const THREADS: u64 = 4;
const ROUNDS: u64 = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let ram = Ram::new(16 << 20);
    let zone = ram.zone()?;
    let mm = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default())?;
    let space = mm.space()?;
    let addr = space.map(Map::anonymous(4096, Prot::READ_WRITE))?;
    space.write(addr, &FREE.to_ne_bytes())?; // the page is there now

    let futexes = Futexes::new(StdScheduler::new(), 4);
    let word = Futex::private(&space, addr.get());
    let change = |from, to| space.compare_exchange_u32(addr, from, to);
    let lock = || -> Result<(), FutexError> {
        if change(FREE, TAKEN) == Ok(Ok(FREE)) {
            return Ok(());
        }
        while change(FREE, WAITED_FOR) != Ok(Ok(FREE)) {
            let _ = change(TAKEN, WAITED_FOR);
            match futexes.wait(&word, WAITED_FOR, None) {
                Ok(()) | Err(FutexError::WouldBlock { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let unlock = || -> Result<(), FutexError> {
        if change(TAKEN, FREE) != Ok(Ok(TAKEN)) {
            let _ = change(WAITED_FOR, FREE);
            futexes.wake(&word, 1)?;
        }
        Ok(())
    };

    // Two steps that only the mutex keeps together.
    let count = AtomicU64::new(0);
    let work = || -> Result<(), FutexError> {
        for _ in 0..ROUNDS {
            lock()?;
            let seen = count.load(Ordering::Relaxed);
            thread::yield_now();
            count.store(seen + 1, Ordering::Relaxed);
            unlock()?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
    })?;
    println!("{} threads counted to {}", THREADS, count.load(Ordering::Relaxed));
    assert_eq!(count.into_inner(), THREADS * ROUNDS);
    assert!(futexes.is_idle());
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
