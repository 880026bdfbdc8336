//! A lock whose owner gets the priority of the most urgent thread that waits for it.
//!
//! `cargo run -p tailpin-futex --example lock_pi`

use std::error::Error;
use std::thread;

use tailpin_futex::{Acquired, Futex, Futexes, Priority, Scheduler, StdScheduler};
use tailpin_mm::{Map, Mm, MmConfig, Prot, Ram};

fn main() -> Result<(), Box<dyn Error>> {
    let ram = Ram::new(16 << 20);
    let zone = ram.zone()?;
    let mm = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default())?;
    let space = mm.space()?;
    let addr = space.map(Map::anonymous(4096, Prot::READ_WRITE))?;

    let futexes = Futexes::new(StdScheduler::new(), 4);
    let lock = Futex::private(&space, addr.get());
    let owner = futexes.scheduler().current();
    assert_eq!(futexes.lock_pi(&lock, None)?, Acquired::Clean);
    thread::scope(|scope| {
        let urgent = scope.spawn(|| {
            futexes.scheduler().current().set_priority(Priority(7));
            futexes.lock_pi(&lock, None)?;
            futexes.unlock_pi(&lock)
        });
        while owner.effective_priority() != Priority(7) {
            thread::yield_now();
        }
        println!("the owner runs at priority {} while a thread of that waits", owner.effective_priority().0);
        futexes.unlock_pi(&lock)?;
        urgent.join().map_err(|_| "the waiter panicked")??;
        Ok::<(), Box<dyn Error>>(())
    })?;
    assert_eq!(owner.effective_priority(), Priority::NORMAL);
    assert!(futexes.is_idle());
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
