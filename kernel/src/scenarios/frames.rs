//! Frames alone: handing out, taking out of service, running out, and memory above 4 GiB.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::{Order, PAGE_BYTES, Request, SetAside};
use tailpin_mm::{Access, FaultError, HugePages, Map, Prot};

use super::{Check, World, ensure, page, word_of};
use crate::apic::everywhere;
use crate::machine::words;
use crate::note;
use crate::traps::{in_space, read, write};

/// Every CPU allocates, clones and frees pages and huge blocks; nothing is lost.
pub(super) fn churn(world: &World) -> Check {
    let refused = AtomicU64::new(0);
    everywhere(&|_| {
        for turn in 0..world.times(20_000) {
            let order = if turn % 64 == 0 { Order::HUGE } else { Order::PAGE };
            match world.zone.alloc(order) {
                Ok(block) => {
                    let second = block.clone();
                    drop(block);
                    drop(second);
                }
                Err(_) => _ = refused.fetch_add(1, Ordering::Relaxed),
            }
        }
    });
    ensure(refused.into_inner() == 0, "a request was refused with most of memory free")
}

/// A page that is mapped is to leave service: it stays readable, and is never handed out again
/// after it was unmapped. The frame is out of service for the rest of the run, so it is one that
/// the zone is given back as another: the count of free frames is made up for here.
pub(super) fn set_aside_mapped(world: &World) -> Check {
    let space = world.space()?;
    let at = space.map(Map::anonymous(16 << 12, Prot::READ_WRITE).huge(HugePages::Never))?;
    let frame = in_space(&space, || {
        for index in 0..16 {
            ensure(write(page(at, index), index + 1), "a write was refused")?;
        }
        let frame = space.mapping(page(at, 5)).ok_or("not mapped")?.frame;
        ensure(world.zone.set_aside(frame) == SetAside::WhenFreed, "not noticed to be in use")?;
        ensure(read(page(at, 5)) == Some(6), "the page changed")?;
        ensure(write(page(at, 5), 7) && read(page(at, 5)) == Some(7), "the page is gone")?;
        Ok::<_, super::Failure>(frame)
    })?;
    let before = world.zone.set_aside_frames();
    drop(space);
    ensure(world.zone.set_aside_frames() >= before, "the frame is in service again")?;
    // Everything that is free is handed out, and the frame is not among it.
    let (mut held, mut seen) = (Vec::new(), false);
    while let Ok(block) = world.zone.raw().alloc(Request::new(Order::HUGE)) {
        seen |= block.frames().contains(frame);
        held.push(block);
    }
    while let Ok(block) = world.zone.raw().alloc(Request::new(Order::PAGE)) {
        seen |= block.frames().contains(frame);
        held.push(block);
    }
    note!("{} blocks handed out, frame {frame} not among them", held.len());
    for block in held {
        world.zone.raw().free(block)?;
    }
    ensure(!seen, "a frame that was set aside was handed out")
}

/// A fault that finds no frame says so, and everything comes back.
pub(super) fn exhaustion(world: &World) -> Check {
    let space = world.space()?;
    let at = space.map(Map::anonymous(world.zone.usable_frames() * PAGE_BYTES * 2, Prot::READ_WRITE))?;
    let mut bytes = 0;
    let end = loop {
        let here = at.offset(bytes);
        match space.fault(here, Access::Write) {
            Ok(()) => bytes += space.mapping(here).ok_or("not mapped")?.order.bytes(),
            Err(error) => break error,
        }
    };
    note!("{} MiB until: {end}", bytes >> 20);
    ensure(matches!(end, FaultError::OutOfMemory { .. }), format!("another error: {end}"))?;
    ensure(word_of(&space, at)? == 0, "memory that was there is not")
}

/// Pages above 4 GiB are mapped, written by the processor and read through the direct map.
pub(super) fn high_memory(world: &World) -> Check {
    const FOUR_GIB: u64 = 1 << 20;
    // Low frames go out first, so that the next ones are high.
    let mut held = Vec::new();
    let first_high = loop {
        let block = world.zone.raw().alloc(Request::new(Order::HUGE))?;
        held.push(block);
        if block.pfn().get() >= FOUR_GIB {
            break block;
        }
    };
    held.retain(|block| *block != first_high);
    world.zone.raw().free(first_high)?;
    let (space, at) = world.space_with(4 << 20)?;
    let high = in_space(&space, || {
        let mut high = 0;
        for index in 0..1024 {
            ensure(write(page(at, index), index ^ 0x5a5a), "a write was refused")?;
            let frame = space.mapping(page(at, index)).ok_or("not mapped")?.frame;
            high += u64::from(frame.get() >= FOUR_GIB);
            let seen = words(frame)[0].load(Ordering::Relaxed);
            ensure(seen == index ^ 0x5a5a, format!("{seen:#x} in frame {frame}"))?;
        }
        Ok::<_, super::Failure>(high)
    });
    for block in held {
        world.zone.raw().free(block)?;
    }
    let high = high?;
    note!("{high} of 1024 pages above 4 GiB");
    ensure(high > 0, "no page above 4 GiB")
}
