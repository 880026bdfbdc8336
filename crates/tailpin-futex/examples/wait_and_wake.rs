//! A thread waits for a word in a huge page, which is split before another thread wakes it.
//!
//! `cargo run -p tailpin-futex --example wait_and_wake`

use std::error::Error;
use std::thread;

use tailpin::Order;
use tailpin_futex::{Futex, Futexes, StdScheduler};
use tailpin_mm::{HugePages, Map, Mm, MmConfig, ObjectConfig, Prot, Ram};

fn main() -> Result<(), Box<dyn Error>> {
    let ram = Ram::new(32 << 20);
    let zone = ram.zone()?;
    let mm = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default())?;
    let object = mm.object(ObjectConfig::new(2 << 20).huge())?;
    let space = mm.space()?;
    let map = Map::shared(&object, 0, 2 << 20, Prot::READ_WRITE).huge(HugePages::Always);
    let addr = space.map(map)?;

    let futexes = Futexes::new(StdScheduler::new(), 4); // sized for 4 CPUs
    let word = Futex::shared(&space, (addr + 0x5008).get());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| futexes.wait(&word, 0, None));
        while futexes.waiters(&word) == Ok(0) {
            thread::yield_now();
        }
        space.split_page(addr, Order::PAGE).map_err(|why| why.to_string())?;
        assert_eq!(futexes.wake(&word, 1), Ok(1));
        assert_eq!(waiter.join().map_err(|_| "the waiter panicked")?, Ok(()));
        Ok::<(), Box<dyn Error>>(())
    })?;
    println!("a waiter was found after the page under it was split");
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
