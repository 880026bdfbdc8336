//! A frame is to leave service, whatever it is at that moment: free in the pool, uncoalesced, at
//! hand in an iterator, claimed, on its way from one owner to the next, in a hook, parked, in a
//! block of any order, in a run, in a split or a merge.
//!
//! As for the [allocator](super::allocator), with a second pageblock to take from. One thread has
//! the frame set aside, and must not be served with it then. In the end the frame is out of
//! service, which is counted once.

use tailpin::{FrameMask, FrameRange, Order, Pfn};

use super::allocator::{BUT_TWO, FOUR_PAGES_LAST, take_and_give};
use super::{BOTH, ONE_WORD, scenario};
use crate::engine::Engine;
use crate::fixture::Fixture;
use crate::scenario::Scenario;
use crate::tested_protocol::TestedProtocol;
use crate::word::CheckWord;

/// All but the last four frames of a pageblock, and these as one block.
const FOUR_LAST: [u8; 8] = [8, 7, 6, 5, 4, 3, 2, 2];

pub(super) fn scenarios<E: Engine, F: TestedProtocol<CheckWord<E>>>() -> Vec<Scenario<E, F>> {
    let page = |name, title, slots| {
        let zone = Scenario {
            frames: 1024,
            explored: |frame| frame == 511,
            slots: Some(slots),
            ..scenario::<E, F>(name, title, ONE_WORD, &[])
        };
        zone.finish(Fixture::bring_back)
    };
    // For both protocols, where no handle of a single page is given back.
    let page_of_both = |name, title, slots| Scenario { protocols: BOTH, ..page(name, title, slots) };
    let two =
        |name, title| Scenario { explored: |frame| frame == 510 || frame == 511, ..page(name, title, 1) };
    // Head and last tail.
    let four = |name, title, slots| Scenario {
        explored: |frame| frame == 508 || frame == 511,
        ..page(name, title, slots)
    };
    vec![
        page("aside-pool", "a frame in the pool is set aside ‖ two frames are taken from there", 2)
            .setup(|fx| fx.occupy(BUT_TWO))
            .thread("take two pages", |fx| {
                if let Some(block) = fx.take(1) {
                    fx.keep_block(block);
                }
            })
            .thread("set frame 511 aside", set_last_aside),
        page(
            "aside-moved",
            "pages are moved to where they are claimed ‖ one is set aside ‖ a page is taken",
            1,
        )
        .setup(|fx| fx.occupy(BUT_TWO))
        .thread("take a page", take_and_keep)
        .thread("set frame 511 aside", |fx| fx.set_aside(511))
        .thread("take a page", take_and_keep),
        page("aside-page", "a page is set aside ‖ it is freed, taken and freed again", 1)
            .setup(|fx| fx.occupy(FOUR_PAGES_LAST))
            .thread("give a page; take, give a page", |fx| {
                fx.give_kept();
                take_and_give(fx);
            })
            .thread("set frame 511 aside", set_last_aside),
        page("aside-pinned", "a page is set aside ‖ its last pin goes, after its last reference", 1)
            .setup(|fx| fx.occupy(FOUR_PAGES_LAST))
            .thread("drop a page; unpin it", |fx| {
                fx.give_through(fx.kept_block(), "pins a page of it, then drops it", |page| {
                    let pin = page.pin(0);
                    drop(page);
                    drop(pin);
                });
            })
            .thread("set frame 511 aside", set_last_aside),
        page("aside-drained", "uncoalesced pages go to the pool ‖ one is set aside", 2)
            .setup(|fx| {
                fx.occupy(FOUR_PAGES_LAST);
                fx.give_kept();
                fx.give_kept();
            })
            .thread("drain", |fx| fx.with_zone(|zone| zone.drain()))
            .thread("set frame 511 aside", set_last_aside),
        page("aside-many", "pages are taken many at a time ‖ one at hand is set aside", 2)
            .setup(|fx| fx.occupy(BUT_TWO))
            .thread("take two pages, give them", |fx| {
                fx.take_many(2).into_iter().for_each(|page| fx.give(page))
            })
            .thread("set frame 511 aside", set_last_aside),
        page("aside-claimed", "free frames are claimed and given back ‖ one is set aside", 2)
            .setup(|fx| fx.occupy(BUT_TWO))
            .thread("claim, give back", claim_and_give_back)
            .thread("set frame 511 aside", set_last_aside),
        page_of_both(
            "aside-restored",
            "a frame on its way is set aside ‖ it arrives, leaves and is restored",
            2,
        )
        .setup(|fx| fx.occupy(BUT_TWO))
        .thread("claim, give back", claim_and_give_back)
        .thread("set frame 511 aside, restore it", |fx| {
            fx.set_aside(511);
            fx.restore(511);
        }),
        page_of_both("aside-again", "a restored frame is set aside once more ‖ it is on its way again", 2)
            .setup(|fx| fx.occupy(BUT_TWO))
            .thread("claim, give back", claim_and_give_back)
            .thread("set frame 511 aside, restore it, set it aside", |fx| {
                fx.set_aside(511);
                if fx.restore(511) {
                    fx.set_aside(511);
                }
            })
            .thread("claim, give back", claim_and_give_back),
        page("aside-hook", "a page is taken and given in a zone with hooks ‖ it is set aside", 1)
            .setup(|fx| {
                fx.use_hooks();
                fx.occupy(BUT_TWO);
            })
            .thread("take, give a page", take_and_give)
            .thread("set frame 511 aside", set_last_aside),
        two("aside-parked", "a block is parked, taken and parked again ‖ a frame of it is set aside")
            .setup(|fx| fx.occupy([8, 7, 6, 5, 4, 3, 2, 1, 1]))
            .thread("drop two pages; take, give two", |fx| {
                fx.give_handle(fx.kept_block());
                if let Some(block) = fx.take(1) {
                    fx.give(block);
                }
            })
            .thread("set frame 511 aside", set_last_aside),
        two("aside-owned", "a CPU's owner parks a block, takes it and parks it ‖ a frame of it is set aside")
            .setup(|fx| fx.occupy([8, 7, 6, 5, 4, 3, 2, 1, 1]))
            .thread("drop two pages; take, drop two", |fx| {
                fx.give_locally(fx.kept_block());
                if let Some(block) = fx.take_locally(1) {
                    fx.give_locally(block);
                }
            })
            .thread("set frame 511 aside", set_last_aside),
        four("aside-block", "a block goes to the pool ‖ a frame of it is set aside", 2)
            .setup(|fx| fx.occupy(FOUR_LAST))
            .thread("give four pages", |fx| {
                fx.give_kept();
            })
            .thread("set frame 511 aside", set_last_aside),
        Scenario {
            frames: 512,
            explored: |frame| frame == 0 || frame == 511,
            ..page("aside-huge", "2 MiB are freed, taken and freed ‖ a frame of it is set aside", 2)
        }
        .setup(|fx| fx.occupy([9]))
        .thread("give 2 MiB; take, give it", |fx| {
            fx.give_kept();
            if let Some(block) = fx.take(9) {
                fx.give(block);
            }
        })
        .thread("set frame 511 aside", |fx| fx.set_aside(511)),
        Scenario {
            explored: |frame| [0, 512, 1023].contains(&frame),
            ..page("aside-large", "4 MiB are freed ‖ a frame of it is set aside", 2)
        }
        .setup(|fx| fx.occupy([10]))
        .thread("give 4 MiB", |fx| {
            fx.give_kept();
        })
        .thread("set frame 1023 aside", |fx| fx.set_aside(1023)),
        four("aside-run", "a run is taken and given back ‖ a frame of it is set aside", 2)
            .setup(|fx| fx.occupy([8, 7, 6, 5, 4, 3, 2]))
            .thread("take, give three frames", |fx| {
                let run = FrameRange::new(Pfn::new(509), 3);
                if fx.take_run_at(run) {
                    fx.give_run(run);
                }
            })
            .thread("set frame 511 aside", |fx| fx.set_aside(511)),
        four("aside-split", "a block is split to pages, which are freed ‖ a frame of it is set aside", 1)
            .setup(|fx| fx.occupy(FOUR_LAST))
            .thread("split, drop", |fx| {
                fx.give_through(fx.kept_block(), "splits and drops it", |block| {
                    drop(block.split_to(Order::PAGE));
                });
            })
            .thread("set frame 511 aside", |fx| fx.set_aside(511)),
        four("aside-around", "a block is split around a page ‖ that is set aside", 1)
            .setup(|fx| fx.occupy(FOUR_LAST))
            .thread("split around frame 511, drop", |fx| {
                fx.give_through(fx.kept_block(), "splits and drops it", |block| {
                    drop(block.split_around(3, Order::PAGE));
                });
            })
            .thread("set frame 511 aside", |fx| fx.set_aside(511)),
        four("aside-self-split", "the last reference goes under a pin ‖ a frame is set aside", 1)
            .setup(|fx| fx.occupy(FOUR_LAST))
            .thread("pin frame 509, drop, unpin", |fx| drop_under_pin(fx, 1))
            .thread("set frame 511 aside", |fx| fx.set_aside(511)),
        four("aside-pin-kept", "the last reference goes under a pin ‖ the pinned frame is set aside", 1)
            .setup(|fx| fx.occupy(FOUR_LAST))
            .thread("pin frame 511, drop, unpin", |fx| drop_under_pin(fx, 3))
            .thread("set frame 511 aside", |fx| fx.set_aside(511)),
        two("aside-merge", "pages are merged ‖ one is set aside")
            .setup(|fx| fx.occupy([8, 7, 6, 5, 4, 3, 2, 1, 1]))
            .thread("split, merge, drop", |fx| {
                fx.give_through(fx.kept_block(), "splits it, merges it, drops it", |block| {
                    let pieces = block.split_to(Order::PAGE);
                    drop(pieces.map(|pieces| pieces.merge()));
                });
            })
            .thread("set frame 511 aside", |fx| fx.set_aside(511)),
    ]
}

/// The kept block's last reference goes while this page of it is pinned.
fn drop_under_pin<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>, page: u64) {
    fx.give_through(fx.kept_block(), "pins a page of it, then drops it", |block| {
        let pin = block.pin(page);
        drop(block);
        drop(pin);
    });
}

/// All free frames of the first pageblock are claimed and given back.
fn claim_and_give_back<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    fx.with_zone(|zone| drop(zone.claim(Pfn::new(0), &FrameMask::ALL)));
}

fn take_and_keep<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    if let Some(page) = fx.take(0) {
        fx.keep_block(page);
    }
}

/// The frame is set aside; then as many pages are taken as are explored and free.
fn set_last_aside<E: Engine, F: TestedProtocol<CheckWord<E>>>(fx: &Fixture<E, F>) {
    fx.set_aside(511);
    for page in [(); 2].into_iter().filter_map(|()| fx.take(0)) {
        fx.keep_block(page);
    }
}
