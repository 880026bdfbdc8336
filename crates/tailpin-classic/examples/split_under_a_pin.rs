//! Splits a block while a page of it is pinned, which Linux did from 2011 to 2015.
//!
//! `cargo run -p tailpin-classic --example split_under_a_pin`

use std::error::Error;

use tailpin::{FrameRange, MergeError, Order, Pfn, Zone, ZoneConfig, ZoneLayout, ZoneMemory};
use tailpin_classic::Classic;

fn main() -> Result<(), Box<dyn Error>> {
    let ranges = [FrameRange::new(Pfn::new(0), 4096)];
    let layout = ZoneLayout::new(&ranges, 1)?;
    let memory = ZoneMemory::for_protocol::<Classic>(&layout);
    let zone: Zone<'_, Classic> = memory.zone_with_protocol(layout, ZoneConfig::default())?;

    let block = zone.alloc(Order::HUGE)?;
    let pin = block.pin(300)?;
    let pages = block.split().map_err(|(_, why)| why)?;
    println!("{} pages; the pin is on {:?}", pages.len(), pin.head());
    assert_eq!(pin.head(), (pin.pfn(), Order::PAGE));

    // One of 2013's missing pieces: nothing makes a block of pages again.
    let Err((pages, why)) = pages.merge() else { return Err("a merge is not refused".into()) };
    println!("a merge is refused: {why}");
    assert_eq!(why, MergeError::NotSupported);

    drop((pages, pin));
    assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
