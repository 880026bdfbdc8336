//! Splitting and collapsing huge pages while other CPUs pin, write and read.

use alloc::format;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tailpin::{Order, PAGE_BYTES};
use tailpin_mm::{Access, Advice, CollapseLimits, CollapseOutcome, Space, VirtAddr};

use super::{Check, World, await_progress, ensure, page};
use crate::apic::everywhere;
use crate::breakable::Breakable;
use crate::cpus::Meeting;
use crate::note;
use crate::traps::{in_space, read, write};

/// How splits and collapses went.
#[derive(Default)]
struct Tally {
    splits: AtomicU64,
    in_place: AtomicU64,
    by_copy: AtomicU64,
    refused: AtomicU64,
}

impl Tally {
    fn split_and_collapse(&self, space: &Space<'static, Breakable>, at: VirtAddr) {
        let counter = match space.split_page(at, Order::PAGE) {
            Ok(_) => &self.splits,
            Err(_) => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let counter = match space.collapse(at, CollapseLimits::default()) {
            Ok(CollapseOutcome::InPlace) => &self.in_place,
            Ok(CollapseOutcome::ByCopy) => &self.by_copy,
            Ok(CollapseOutcome::AlreadyHuge) | Err(_) => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&self) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        note!(
            "{} splits, {} collapses in place, {} by copy, {} refused",
            count(&self.splits),
            count(&self.in_place),
            count(&self.by_copy),
            count(&self.refused)
        );
    }
}

/// A huge page is split and collapsed while another CPU pins pages in it, and writes and reads
/// through pin and mapping. No split is refused, and no pin parts from its mapping.
pub(super) fn split_pinned(world: &World) -> Check {
    let (space, at) = world.space_with(2 << 20)?;
    let (stop, meeting, tally) = (AtomicBool::new(false), Meeting::of(2), Tally::default());
    let (pins, parted, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    everywhere(&|cpu| match cpu {
        0 => in_space(&space, || {
            write(at, 1);
            meeting.meet();
            for _ in 0..world.times(40) {
                tally.split_and_collapse(&space, at);
            }
            stop.store(true, Ordering::Relaxed);
        }),
        1 => in_space(&space, || {
            meeting.meet();
            let mut value = 0u64;
            while !stop.load(Ordering::Relaxed) {
                value += 1;
                let here = page(at, value * 7 % 512);
                let Ok(pin) = space.pin_pages(here, PAGE_BYTES, Access::Write) else {
                    failed.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                write(here.offset(8), value);
                let mut bytes = [0; 8];
                pin.read(8, &mut bytes);
                let mut together = u64::from_ne_bytes(bytes) == value;
                pin.write(16, &(!value).to_ne_bytes());
                together &= read(here.offset(16)) == Some(!value);
                parted.fetch_add(u64::from(!together), Ordering::Relaxed);
                pins.fetch_add(1, Ordering::Relaxed);
            }
        }),
        _ => {}
    });
    tally.note();
    note!("{} pins", pins.into_inner());
    let splits = tally.splits.into_inner();
    ensure(failed.into_inner() == 0, "a pin was refused")?;
    ensure(parted.into_inner() == 0, "a pin and its mapping parted")?;
    ensure(splits == world.times(40), format!("only {splits} splits were done"))
}

/// Small pages become a huge one, by copy as well as in place, while the other CPUs read and write
/// them: each reads what it wrote last.
pub(super) fn collapse_under_reads(world: &World) -> Check {
    let (space, at) = world.space_with(2 << 20)?;
    space.write(at, b"huge")?;
    let (stop, meeting, tally) = (AtomicBool::new(false), Meeting::of(world.cpus as u64), Tally::default());
    let (accesses, lost) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = spin::Mutex::new(None);
    everywhere(&|cpu| {
        if cpu == 0 {
            meeting.meet();
            for turn in 0..world.times(30) {
                await_progress(&accesses);
                if turn.is_multiple_of(3) {
                    // Page 511 gets another frame, as its own is pinned while it is given up: the
                    // collapse must copy.
                    let moved = || -> Check {
                        space.split_page(at, Order::PAGE)?;
                        let pinned = space.pin_pages(page(at, 511), PAGE_BYTES, Access::Read)?;
                        space.advise(page(at, 511), PAGE_BYTES, Advice::DontNeed)?;
                        space.write(page(at, 511), b"another frame")?;
                        drop(pinned);
                        Ok(())
                    };
                    if let Err(why) = moved() {
                        *failed.lock() = Some(why);
                    }
                }
                tally.split_and_collapse(&space, at);
            }
            stop.store(true, Ordering::Relaxed);
            return;
        }
        in_space(&space, || {
            meeting.meet();
            let mut value = 0;
            while !stop.load(Ordering::Relaxed) {
                value += 1;
                // Page 511 comes and goes.
                let mine = page(at, value % 511).offset(64 * cpu as u64);
                let kept = write(mine, value) && read(mine) == Some(value);
                lost.fetch_add(u64::from(!kept), Ordering::Relaxed);
                accesses.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    tally.note();
    note!("{} writes and reads", accesses.into_inner());
    if let Some(why) = failed.into_inner() {
        return Err(why);
    }
    ensure(lost.into_inner() == 0, "a write was lost")?;
    ensure(tally.in_place.into_inner() > 0, "nothing was collapsed in place")?;
    ensure(tally.by_copy.into_inner() > 0, "nothing was collapsed by copy")
}
