//! Keeps one page of a block of 2 MiB and lets go of the rest.
//!
//! `cargo run -p tailpin --example keep_a_page`

use std::error::Error;

use tailpin::{FrameRange, Order, Pfn, Zone, ZoneConfig};

fn main() -> Result<(), Box<dyn Error>> {
    // 16 MiB of frames, which are numbers: putting memory under them is up to you.
    let zone = Zone::leaked(&[FrameRange::new(Pfn::new(0), 4096)], 1, ZoneConfig::default())?;

    let block = zone.alloc(Order::HUGE)?;
    let page = block.pin(100)?;
    println!("{} frames in use: a block, and a pin on one of its pages", zone.used_frames());
    drop(block);
    println!("{} frame in use: the page that is pinned", zone.used_frames());
    assert_eq!(zone.used_frames(), 1);

    // The same by bytes: a range pins the pages that it touches.
    let block = zone.alloc(Order::HUGE)?;
    let record = block.slice(8_000..8_400)?;
    drop(block);
    assert_eq!(zone.used_frames(), 1 + 2);

    drop((page, record));
    assert_eq!(zone.audit().violations(), 0);
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
