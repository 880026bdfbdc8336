//! Maps memory, forks the space and writes: what was written in one is not seen in the other.
//!
//! `cargo run -p tailpin-mm --example fork_and_write`

use std::error::Error;

use tailpin_mm::{Map, Mm, MmConfig, Prot, Ram};

fn main() -> Result<(), Box<dyn Error>> {
    let ram = Ram::new(64 << 20); // memory in user space; a kernel has its own
    let zone = ram.zone()?;
    let mm = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default())?;

    let parent = mm.space()?;
    let addr = parent.map(Map::anonymous(2 << 20, Prot::READ_WRITE))?;
    parent.write(addr, b"before")?; // a fault, and memory is there

    let child = parent.fork()?; // nothing is copied
    child.write(addr + 2, b"hind")?; // one page is, now

    let mut read = [0; 6];
    parent.read(addr, &mut read)?;
    assert_eq!(&read, b"before");
    child.read(addr, &mut read)?;
    assert_eq!(&read, b"behind");
    println!("the parent has \"before\", the child {:?}", String::from_utf8_lossy(&read));

    drop((parent, child));
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
