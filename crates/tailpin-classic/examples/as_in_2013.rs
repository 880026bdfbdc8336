//! A zone that counts as Linux did in 2013, with the tokens and page numbers that a kernel has.
//!
//! `cargo run -p tailpin-classic --example as_in_2013`

use std::error::Error;

use tailpin::{FrameRange, Order, Pfn, Request, Zone, ZoneConfig, ZoneLayout, ZoneMemory};
use tailpin_classic::Classic;

fn main() -> Result<(), Box<dyn Error>> {
    let ranges = [FrameRange::new(Pfn::new(0), 4096)];
    let layout = ZoneLayout::new(&ranges, 1)?;
    let memory = ZoneMemory::for_protocol::<Classic>(&layout);
    let zone: Zone<'_, Classic> = memory.zone_with_protocol(layout, ZoneConfig::default())?;

    let raw = zone.raw();
    let block = raw.alloc(Request::new(Order::HUGE))?; // alloc_pages(GFP_TRANSHUGE, 9)
    let tail = block.pfn().offset(300);
    raw.pin(tail)?; // get_page of a tail: the head counts it, too
    println!("the tail is {}", zone.state(tail).ok_or("of this zone")?);
    raw.free(block)?; // put_page of the head: not the last reference
    raw.unpin(tail)?; // put_page of the tail: the last one, and the whole block is free

    assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
