//! Where blocks are placed, so that whole pageblocks stay whole.

use std::collections::BTreeMap;

use tailpin::{Block, FrameRange, Order, Pfn, Zone, ZoneConfig, ZoneLayout, ZoneMemory};

/// Pages by number.
type Pages<'z> = BTreeMap<u64, Block<'z>>;

/// Runs `test` on a zone of so many pageblocks, all of which it gets as single pages.
fn on_pages(pageblocks: u64, test: impl for<'z> FnOnce(&'z Zone<'z>, Pages<'z>)) {
    let ranges = [FrameRange::new(Pfn::new(0), pageblocks * 512)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
    let pages = std::iter::from_fn(|| zone.alloc(Order::PAGE).ok()).map(|page| (page.pfn().get(), page));
    test(&zone, pages.collect());
    assert_eq!(zone.audit().violations(), 0);
}

/// Frees those of a pageblock that are not to be kept, and has them come together.
fn keep(zone: &Zone<'_>, pages: &mut Pages<'_>, pageblock: u64, kept: impl Fn(u64) -> bool) {
    pages.retain(|number, _| number / 512 != pageblock || kept(number % 512));
    zone.drain();
}

fn page<'z>(zone: &'z Zone<'z>) -> Block<'z> {
    zone.alloc(Order::PAGE).unwrap()
}

#[test]
fn a_sparse_pageblock_is_left_alone_though_the_request_fits_it_best() {
    on_pages(2, |zone, mut pages| {
        // In one word every other page is free; in the other pageblock there are only runs of four.
        keep(zone, &mut pages, 0, |page| page < 64 && page % 2 == 0);
        keep(zone, &mut pages, 1, |page| page % 8 < 4);
        let taken: Vec<_> = (0..256).map(|_| page(zone)).collect();
        assert!(taken.iter().all(|page| page.pfn().get() >= 512), "the other pageblock goes first");
        assert_eq!(page(zone).pfn().get(), 1, "then it is used as well");
    });
}

#[test]
fn with_an_eighth_in_use_a_pageblock_is_not_sparse() {
    for (kept, expected) in [(63, 1), (64, 0)] {
        on_pages(2, |zone, mut pages| {
            keep(zone, &mut pages, 0, |page| page < kept);
            keep(zone, &mut pages, 1, |page| page >= 256);
            // In pageblock 0 a run of 64, in pageblock 1 one of 256.
            let block = zone.alloc(Order::new(6).unwrap()).unwrap();
            assert_eq!(block.pfn().get() / 512, expected, "{kept} pages in use");
        });
    }
}

#[test]
fn uncoalesced_pages_of_sparse_pageblocks_go_to_the_pool_and_others_are_handed_out_again() {
    on_pages(2, |zone, mut pages| {
        keep(zone, &mut pages, 0, |page| page % 100 == 0);
        // No free page is left in the other pageblock, so the slot does not look through any part
        // of it.
        pages.remove(&700);
        pages.remove(&300);
        pages.remove(&400);
        let first = page(zone);
        assert_eq!(first.pfn().get(), 700, "the one that was freed first");
        assert_eq!(page(zone).pfn().get(), 1, "not one that was freed, but where it fits best");
    });
}

#[test]
fn a_pageblock_that_fills_is_found_like_all_others() {
    on_pages(3, |zone, mut pages| {
        // Two sparse pageblocks; only the second one has half a pageblock in one piece.
        keep(zone, &mut pages, 0, |page| page == 5 || page == 300);
        keep(zone, &mut pages, 1, |page| page == 70);
        // A request for a page finds out that they are sparse.
        let first = page(zone);
        assert_eq!(first.pfn().get(), 4);
        let half = zone.alloc(Order::new(8).unwrap()).unwrap();
        assert_eq!(half.pfn().get(), 512 + 256);
        assert_eq!(
            page(zone).pfn().get(),
            512 + 71,
            "where it fits best in the pageblock that is filled now"
        );
    });
}

#[test]
fn a_sparse_pageblock_goes_before_a_whole_one() {
    on_pages(3, |zone, mut pages| {
        keep(zone, &mut pages, 0, |_| false);
        keep(zone, &mut pages, 2, |page| page >= 128);
        keep(zone, &mut pages, 2, |page| page >= 500);
        assert_eq!(zone.alloc(Order::new(6).unwrap()).unwrap().pfn().get() / 512, 2);
        assert_eq!(page(zone).pfn().get() / 512, 2);
    });
}

#[test]
fn a_pageblock_that_empties_is_left_alone_too() {
    on_pages(2, |zone, mut pages| {
        // When the first of these come back, their pageblock is not sparse yet.
        keep(zone, &mut pages, 0, |page| page >= 64 || page % 2 == 0);
        keep(zone, &mut pages, 0, |page| page < 64);
        keep(zone, &mut pages, 1, |page| page % 8 < 4);
        assert_eq!(page(zone).pfn().get() / 512, 1);
    });
}
