//! Memory that is taken away while another CPU uses it: through the MMU, through the library, by a
//! walk, by a fault.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tailpin::{Order, PAGE_BYTES, PAGE_SIZE, Pfn, RawBlock, Request};
use tailpin_mm::{Access, Map, Prot, Space, VirtAddr};

use super::{Check, World, await_progress, ensure, linger, page};
use crate::apic::everywhere;
use crate::breakable::Breakable;
use crate::cpus::Meeting;
use crate::machine::{self, SLOW_FRAME, words};
use crate::note;
use crate::traps::{in_space, read, write};

const GOOD: u64 = 0x600d_600d_600d_600d;
const POISON: u64 = 0xbad0_bad0_bad0_bad0;

/// Takes free frames, as another owner would, and fills those of which `wanted` is true.
/// Returns how many it filled.
fn poison(world: &World, blocks: &[(Order, usize)], wanted: impl Fn(Pfn) -> bool) -> u64 {
    let (mut held, mut filled) = (Vec::<RawBlock>::new(), 0);
    for &(order, number) in blocks {
        for _ in 0..number {
            let Ok(block) = world.zone.raw().alloc(Request::new(order)) else { break };
            for frame in block.frames().iter().filter(|frame| wanted(*frame)) {
                for word in words(frame) {
                    word.store(POISON, Ordering::Relaxed);
                }
                filled += 1;
            }
            held.push(block);
        }
    }
    linger(500);
    for block in held {
        // A refusal is reported as misuse, for which the scenario fails.
        let _ = world.zone.raw().free(block);
    }
    filled
}

/// One CPU reads all the time, with interrupts off as a kernel that copies from its user; the other
/// unmaps, takes the frames for another owner and fills them. The reader must see its own value or
/// a fault.
pub(super) fn unmap_under_reads(world: &World) -> Check {
    let space = world.space()?;
    let (stop, meeting) = (AtomicBool::new(false), Meeting::of(2));
    let (good, refused, bad) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let failed = spin::Mutex::new(None);
    let (at, word) = (VirtAddr::new(0x4000_0000), VirtAddr::new(0x4000_5000));
    let filled = AtomicU64::new(0);
    let map = || -> Check {
        space.map(Map::anonymous(2 << 20, Prot::READ_WRITE).at(at))?;
        Ok(space.write(word, &GOOD.to_ne_bytes())?)
    };
    map()?;
    let turn = |turn: u64| -> Check {
        await_progress(&good);
        let frame = space.mapping(word).ok_or("not mapped")?.frame;
        if turn.is_multiple_of(2) {
            space.unmap(word, PAGE_BYTES)?;
        }
        space.unmap(at, 2 << 20)?;
        let found = poison(world, &[(Order::HUGE, 4), (Order::PAGE, 296)], |found| found == frame);
        filled.fetch_add(found, Ordering::Relaxed);
        map()
    };
    everywhere(&|cpu| match cpu {
        0 => {
            meeting.meet();
            for number in 0..world.times(60) {
                if let Err(why) = turn(number) {
                    *failed.lock() = Some(why);
                }
            }
            stop.store(true, Ordering::Relaxed);
        }
        1 => in_space(&space, || {
            meeting.meet();
            while !stop.load(Ordering::Relaxed) {
                machine::without_interrupts(|| {
                    for _ in 0..20_000 {
                        match read(word) {
                            Some(GOOD) => _ = good.fetch_add(1, Ordering::Relaxed),
                            // Between the mapping and the write.
                            Some(0) => {}
                            Some(_) => _ = bad.fetch_add(1, Ordering::Relaxed),
                            None => _ = refused.fetch_add(1, Ordering::Relaxed),
                        }
                    }
                });
            }
        }),
        _ => {}
    });
    let (bad, filled) = (bad.into_inner(), filled.into_inner());
    note!("{filled} frames filled; {} good, {} refused, {bad} bad", good.into_inner(), refused.into_inner());
    if let Some(why) = failed.into_inner() {
        return Err(why);
    }
    ensure(bad == 0, format!("{bad} reads of another owner's memory, through stale translations"))?;
    ensure(filled > 0, "no frame was had again, so nothing was tried")
}

/// The reader copies through the library, which pins nothing, and is held up between its walk and
/// the copy.
pub(super) fn unmap_under_copies(world: &World) -> Check {
    const BYTES: u64 = 64 << 10;
    let space = world.space()?;
    let (stop, meeting) = (AtomicBool::new(false), Meeting::of(2));
    let (copies, bad) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = spin::Mutex::new(None);
    let at = VirtAddr::new(0x4000_0000);
    let last = page(at, 15);
    let turn = || -> Check {
        space.map(Map::anonymous(BYTES, Prot::READ_WRITE).at(at))?;
        for index in 0..16 {
            space.write(page(at, index), &[0x60; PAGE_SIZE])?;
        }
        let frame = space.mapping(last).ok_or("not mapped")?.frame;
        SLOW_FRAME.store(frame.get(), Ordering::Relaxed);
        await_progress(&copies);
        linger(1000);
        space.unmap(at, BYTES)?;
        poison(world, &[(Order::PAGE, 64)], |found| found == frame);
        Ok(())
    };
    everywhere(&|cpu| match cpu {
        0 => {
            meeting.meet();
            for _ in 0..world.times(24) {
                if let Err(why) = turn() {
                    *failed.lock() = Some(why);
                }
            }
            stop.store(true, Ordering::Relaxed);
        }
        1 => {
            meeting.meet();
            let mut buffer = [0; PAGE_SIZE];
            while !stop.load(Ordering::Relaxed) {
                if space.read(last, &mut buffer).is_ok() {
                    copies.fetch_add(1, Ordering::Relaxed);
                    let clean = buffer.iter().all(|byte| *byte == 0x60 || *byte == 0);
                    bad.fetch_add(u64::from(!clean), Ordering::Relaxed);
                }
            }
        }
        _ => {}
    });
    let (copies, bad) = (copies.into_inner(), bad.into_inner());
    note!("{copies} copies, {bad} bad");
    if let Some(why) = failed.into_inner() {
        return Err(why);
    }
    ensure(bad == 0, format!("{bad} copies of another owner's memory"))?;
    ensure(copies > 0, "nothing was copied, so nothing was tried")
}

/// The frame of the last table on the way to `at`, read as the processor reads it.
fn last_table(space: &Space<'static, Breakable>, at: VirtAddr) -> Option<Pfn> {
    let mut table = space.load().root();
    for shift in [39, 30, 21] {
        let entry = words(table)[(at.get() >> shift) as usize % 512].load(Ordering::Relaxed);
        if entry & 1 == 0 || entry & 0x80 != 0 {
            return None;
        }
        table = Pfn::new((entry & 0x000f_ffff_ffff_f000) >> 12);
    }
    Some(table)
}

/// The entry of a page of 4 KiB, as the processor reads it.
pub(super) fn last_entry(space: &Space<'static, Breakable>, at: VirtAddr) -> Option<u64> {
    Some(words(last_table(space, at)?)[at.page() as usize % 512].load(Ordering::Relaxed))
}

/// Tables are taken out of use and are other memory next, filled with what would lead a walk
/// astray; the other CPU walks without a lock, and is held up inside the table.
pub(super) fn tables_under_walkers(world: &World) -> Check {
    const BYTES: u64 = 16 << 10;
    let space = world.space()?;
    let (stop, meeting) = (AtomicBool::new(false), Meeting::of(2));
    let (walks, astray) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = spin::Mutex::new(None);
    let at = VirtAddr::new(0x40_0000_0000);
    let turn = || -> Check {
        space.map(Map::anonymous(BYTES, Prot::READ_WRITE).at(at))?;
        space.write(at, b"x")?;
        SLOW_FRAME.store(last_table(&space, at).ok_or("no table")?.get(), Ordering::Relaxed);
        linger(3000);
        space.unmap(at, BYTES)?;
        poison(world, &[(Order::PAGE, 16)], |_| true);
        Ok(())
    };
    everywhere(&|cpu| match cpu {
        0 => {
            meeting.meet();
            for _ in 0..world.times(60) {
                if let Err(why) = turn() {
                    *failed.lock() = Some(why);
                }
            }
            stop.store(true, Ordering::Relaxed);
        }
        1 => {
            meeting.meet();
            while !stop.load(Ordering::Relaxed) {
                let found = space.mapping(at).map(|found| found.frame);
                // What the poison would be as an entry.
                let wrong = found.is_some_and(|frame| frame.get() == (POISON & 0x000f_ffff_ffff_f000) >> 12);
                astray.fetch_add(u64::from(wrong), Ordering::Relaxed);
                walks.fetch_add(1, Ordering::Relaxed);
            }
        }
        _ => {}
    });
    note!("{} walks", walks.into_inner());
    if let Some(why) = failed.into_inner() {
        return Err(why);
    }
    ensure(astray.into_inner() == 0, "a walk went through a table that was other memory already")
}

/// One CPU unmaps and maps again what the others fault in at the same moment: each access sees
/// zeroes, what the CPU has written since, or a refusal; and nothing is lost.
pub(super) fn unmap_against_fault(world: &World) -> Check {
    let (space, at) = (world.space()?, VirtAddr::new(0x4000_0000));
    let (stop, meeting) = (AtomicBool::new(false), Meeting::of(world.cpus as u64));
    let (done, refused, wrong) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let failed = spin::Mutex::new(None);
    everywhere(&|cpu| {
        if cpu == 0 {
            meeting.meet();
            for turn in 0..world.times(60) {
                // Huge and small in turn.
                let bytes = if turn.is_multiple_of(2) { 2 << 20 } else { 64 << 10 };
                let changed = || -> Check {
                    space.map(Map::anonymous(bytes, Prot::READ_WRITE).at(at))?;
                    await_progress(&done);
                    space.unmap(at, bytes)?;
                    Ok(())
                };
                if let Err(why) = changed() {
                    *failed.lock() = Some(why);
                }
            }
            stop.store(true, Ordering::Relaxed);
            return;
        }
        in_space(&space, || {
            meeting.meet();
            let mut value = 0;
            let mine = page(at, 3).offset(64 * cpu as u64);
            while !stop.load(Ordering::Relaxed) {
                value += 1;
                if !write(mine, value) {
                    refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                done.fetch_add(1, Ordering::Relaxed);
                if let Some(seen) = read(mine) {
                    wrong.fetch_add(u64::from(seen != value && seen != 0), Ordering::Relaxed);
                }
                let _ = space.fault(mine, Access::Write);
            }
        });
    });
    let (done, refused) = (done.into_inner(), refused.into_inner());
    note!("{done} writes, {refused} refused");
    if let Some(why) = failed.into_inner() {
        return Err(why);
    }
    ensure(wrong.into_inner() == 0, "a word was read that this CPU did not write")?;
    ensure(done > 0 && refused > 0, "the two did not meet, so nothing was tried")
}
