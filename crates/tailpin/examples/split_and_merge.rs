//! Splits a block while a page of it is pinned, and merges it again.
//!
//! `cargo run -p tailpin --example split_and_merge`

use std::error::Error;

use tailpin::{FrameRange, Order, Pfn, Zone, ZoneConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let zone = Zone::leaked(&[FrameRange::new(Pfn::new(0), 4096)], 1, ZoneConfig::default())?;
    let block = zone.alloc(Order::HUGE)?;
    let pin = block.pin(300)?;

    // Eight blocks of 256 KiB where there was one of 2 MiB. The pin stays on its page.
    let pieces = block.split_to(Order::new(6).ok_or("an order")?).map_err(|(_, why)| why)?;
    println!("{} pieces; the pinned page is in {:?}", pieces.len(), pin.head());
    assert_eq!(pieces.len(), 8);

    // Having all of them again, one block can be made of them where they lie.
    let again = pieces.merge().map_err(|(_, why)| why)?;
    println!("one block of {} frames; the pinned page is in {:?}", again.order().frames(), pin.head());
    assert_eq!(pin.head(), (again.pfn(), Order::HUGE));

    drop((again, pin));
    assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
