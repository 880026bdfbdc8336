//! Copy-on-write between CPUs, and a page that very many spaces share.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tailpin_mm::{Access, HugePages, Map, Prot};

use super::{Check, Failure, World, await_progress, ensure, page, word_of};
use crate::apic::everywhere;
use crate::cpus::Meeting;
use crate::machine;
use crate::note;
use crate::traps::{in_space, read, write};

/// Parent and child on two CPUs write what they share; each sees only its own.
pub(super) fn cow(world: &World) -> Check {
    for huge in [HugePages::Never, HugePages::Always] {
        let parent = world.space()?;
        let at = parent.map(Map::anonymous(2 << 20, Prot::READ_WRITE).huge(huge))?;
        in_space(&parent, || {
            for index in 0..512 {
                write(page(at, index), index);
            }
        });
        let child = parent.fork()?;
        let (meeting, wrong) = (Meeting::of(2), AtomicU64::new(0));
        everywhere(&|cpu| {
            let (space, mine) = match cpu {
                0 => (&parent, 1 << 32),
                1 => (&child, 2 << 32),
                _ => return,
            };
            in_space(space, || {
                meeting.meet();
                for index in (0..512).step_by(7) {
                    write(page(at, index), mine | index);
                }
                meeting.meet();
                for index in 0..512 {
                    let expected = if index % 7 == 0 { mine | index } else { index };
                    wrong.fetch_add(u64::from(read(page(at, index)) != Some(expected)), Ordering::Relaxed);
                }
            });
        });
        ensure(wrong.into_inner() == 0, "the other one's writes were seen")?;
    }
    Ok(())
}

/// One CPU writes all the time, the other forks: what the child has must stand still. Without the
/// shootdown of `fork` the writer goes on through its old translation.
pub(super) fn fork_under_writes(world: &World) -> Check {
    let (parent, at) = world.space_with(2 << 20)?;
    let (stop, meeting, moved) = (AtomicBool::new(false), Meeting::of(2), AtomicU64::new(0));
    let (failed, writes) = (AtomicU64::new(0), AtomicU64::new(0));
    everywhere(&|cpu| match cpu {
        0 => {
            meeting.meet();
            for _ in 0..world.times(30) {
                await_progress(&writes);
                let watched = || -> Result<bool, Failure> {
                    let child = parent.fork()?;
                    let first = word_of(&child, at)?;
                    await_progress(&writes);
                    Ok(word_of(&child, at)? != first)
                };
                match watched() {
                    Ok(changed) => _ = moved.fetch_add(u64::from(changed), Ordering::Relaxed),
                    Err(_) => _ = failed.fetch_add(1, Ordering::Relaxed),
                }
            }
            stop.store(true, Ordering::Relaxed);
        }
        1 => in_space(&parent, || {
            write(at, 0);
            meeting.meet();
            let mut value = 0;
            while !stop.load(Ordering::Relaxed) {
                value += 1;
                write(at, value);
                writes.store(value, Ordering::Relaxed);
            }
        }),
        _ => {}
    });
    ensure(failed.into_inner() == 0, "a fork or a read of the child failed")?;
    ensure(moved.into_inner() == 0, "the child's memory changed under it")
}

/// One CPU forks, the others pin pages and write through mapping and pin in turn: a pin stays on
/// the page that the parent maps, whichever came first (H21).
pub(super) fn fork_under_pins(world: &World) -> Check {
    let (parent, at) = world.space_with(2 << 20)?;
    let (stop, meeting) = (AtomicBool::new(false), Meeting::of(world.cpus as u64));
    let (pins, parted, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    everywhere(&|cpu| {
        if cpu == 0 {
            meeting.meet();
            for _ in 0..world.times(40) {
                await_progress(&pins);
                match parent.fork() {
                    Ok(child) => drop(child),
                    Err(_) => _ = failed.fetch_add(1, Ordering::Relaxed),
                }
            }
            stop.store(true, Ordering::Relaxed);
            return;
        }
        in_space(&parent, || {
            meeting.meet();
            let mut value = 0;
            while !stop.load(Ordering::Relaxed) {
                value += 1;
                // Each CPU has a word of its own in the same pages.
                let mine = page(at, value % 8).offset(64 * cpu as u64);
                let Ok(pin) = parent.pin_pages(mine, 8, Access::Write) else {
                    failed.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                write(mine, value);
                let mut bytes = [0; 8];
                pin.read(0, &mut bytes);
                let mut together = u64::from_ne_bytes(bytes) == value;
                pin.write(0, &(!value).to_ne_bytes());
                together &= read(mine) == Some(!value);
                parted.fetch_add(u64::from(!together), Ordering::Relaxed);
                pins.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    note!("{} pins under {} forks", pins.into_inner(), world.times(40));
    ensure(failed.into_inner() == 0, "a fork or a pin failed")?;
    ensure(parted.into_inner() == 0, "a pin and its mapping parted")
}

/// More spaces share a page than a byte can count; the last one's write is its own.
pub(super) fn sharers(world: &World) -> Check {
    let number = world.times(1000) as usize;
    let space = world.space()?;
    let at = space.map(Map::anonymous(8192, Prot::READ_WRITE).huge(HugePages::Never))?;
    space.write(at, b"shared")?;
    let frame = space.mapping(at).ok_or("not mapped")?.frame;
    let start = machine::ticks();
    let mut children = Vec::new();
    for _ in 0..number {
        children.push(space.fork()?);
    }
    let references = world.zone.state(frame).ok_or("not of the zone")?;
    note!("{number} children in {} Mcycles, {references}", (machine::ticks() - start) / 1_000_000);
    let [.., before_last, last] = &children[..] else { return Err("too few children".into()) };
    last.write(at, b"SHARED")?;
    let mut bytes = [0; 6];
    before_last.read(at, &mut bytes)?;
    ensure(&bytes == b"shared", "the last one's write was seen")?;
    let moved = last.mapping(at).ok_or("not mapped")?.frame;
    ensure(moved != frame, format!("frame {frame} was written by a sharer"))
}
