//! Pins pages for a device, and unmaps them under it: they stay until the device is done.
//!
//! `cargo run -p tailpin-mm --example pin_for_a_device`

use std::error::Error;

use tailpin_mm::{Access, Map, Mm, MmConfig, Prot, Ram};

fn main() -> Result<(), Box<dyn Error>> {
    let ram = Ram::new(64 << 20);
    let zone = ram.zone()?;
    let mm = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default())?;
    let before = zone.used_frames();

    let space = mm.space()?;
    let addr = space.map(Map::anonymous(2 << 20, Prot::READ_WRITE))?;
    space.write(addr, b"to be sent")?;

    // Two pages in the middle of a huge one, which the device will write to.
    let pins = space.pin_pages(addr + 0x5000, 2 * 4096, Access::Write)?;
    drop(space); // the process ends; no mapping is left

    let kept = zone.used_frames() - before;
    println!("{kept} frames are still in use: those that are pinned");
    assert_eq!(kept, 2);
    drop(pins);
    assert_eq!(zone.used_frames(), before);
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
