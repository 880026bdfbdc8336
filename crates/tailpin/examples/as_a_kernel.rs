//! Metadata in statics, numbers and tokens instead of handles, and a hook: as a kernel does.
//!
//! `cargo run -p tailpin --example as_a_kernel`

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::{FrameRange, Hooks, OneWord, Order, Pfn, Request, Zone, ZoneConfig, ZoneLayout};

const MEMORY: FrameRange = FrameRange::new(Pfn::new(0x1000), 4096); // 16 MiB from 16 MiB up
const LAYOUT: ZoneLayout<'static> = match ZoneLayout::spanning(MEMORY, 4) {
    Ok(layout) => layout,
    Err(_) => panic!("the span has frames"),
};
const PAGE_WORDS: usize = LAYOUT.page_words::<OneWord<'static>>();
const ALLOCATOR_WORDS: usize = LAYOUT.allocator_words();
static PAGES: [AtomicU64; PAGE_WORDS] = [const { AtomicU64::new(0) }; PAGE_WORDS];
static ALLOCATOR: [AtomicU64; ALLOCATOR_WORDS] = [const { AtomicU64::new(0) }; ALLOCATOR_WORDS];

/// Hears of every block before anyone can have it: a kernel clears it here.
#[derive(Default)]
struct Cleared(AtomicU64);

impl Hooks for Cleared {
    fn before_publication(&self, _head: Pfn, order: Order, _zero: bool) {
        self.0.fetch_add(order.frames(), Ordering::Relaxed);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let cleared = Cleared::default();
    let zone = Zone::new(LAYOUT, ZoneConfig::default().hooks(&cleared), &PAGES, &ALLOCATOR)?;
    zone.add(MEMORY)?; // the memory map is read, the memory enters service

    // A token is two words, and goes into a page table or a message. It names one life of the
    // block.
    let raw = zone.raw();
    let token = raw.alloc(Request::new(Order::HUGE))?;
    let page = token.pfn().offset(7);
    raw.pin(page)?; // as the walk of a page table does
    raw.free(token)?;
    println!("{} frame in use, {} cleared so far", zone.used_frames(), cleared.0.load(Ordering::Relaxed));
    assert_eq!(zone.used_frames(), 1);
    raw.unpin(page)?;

    assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
