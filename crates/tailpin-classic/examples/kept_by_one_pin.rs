//! What one pin keeps: of the classic protocol all of its block, of the one-word protocol its page.
//!
//! `cargo run -p tailpin-classic --example kept_by_one_pin`

use std::error::Error;
use std::sync::atomic::AtomicU64;

use tailpin::{Attach, FrameRange, OneWord, Order, Pfn, Protocol, Zone, ZoneConfig, ZoneLayout, ZoneMemory};
use tailpin_classic::Classic;

/// Pins a page of a block, under any protocol; the frames in use once the block was dropped.
fn kept<'m, P>(memory: &'m ZoneMemory, layout: ZoneLayout<'_>) -> Result<u64, Box<dyn Error>>
where
    P: Attach<'m> + Protocol<Word = AtomicU64> + 'm,
{
    let zone: Zone<'m, P> = memory.zone_with_protocol(layout, ZoneConfig::default())?;
    let block = zone.alloc(Order::HUGE)?;
    let page = block.pin(100)?;
    drop(block);
    let kept = zone.used_frames();
    drop(page);
    assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
    Ok(kept)
}

fn main() -> Result<(), Box<dyn Error>> {
    let ranges = [FrameRange::new(Pfn::new(0), 4096)];
    let layout = ZoneLayout::new(&ranges, 1)?;
    let of_2013 = kept::<Classic>(&ZoneMemory::for_protocol::<Classic>(&layout), layout)?;
    let of_today = kept::<OneWord>(&ZoneMemory::for_layout(&layout), layout)?;
    println!(
        "one pin keeps {of_2013} frames under the classic protocol, {of_today} under the one-word protocol"
    );
    assert_eq!((of_2013, of_today), (512, 1));
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
