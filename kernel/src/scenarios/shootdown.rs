//! How many rounds of interrupts an operation takes, and rounds from all CPUs at once.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tailpin::{Order, PAGE_BYTES};
use tailpin_mm::{Access, CollapseLimits, HugePages, Map, Prot, Space, VirtAddr};

use super::{Check, Failure, World, ensure, page, word_of};
use crate::apic::everywhere;
use crate::breakable::Breakable;
use crate::cpus::{self, Meeting};
use crate::machine::{ROUNDS, TURNS_BEFORE_ASKING};
use crate::note;
use crate::traps::{in_space, read, write};

/// Rounds of an operation on this CPU while every other one runs `space`.
fn rounds(
    what: &str,
    space: &Space<'static, Breakable>,
    operation: impl Fn() -> Check + Sync,
) -> Result<u64, Failure> {
    let (meeting, stop) = (Meeting::of(cpus::online() as u64), AtomicBool::new(false));
    let (result, taken) = (spin::Mutex::new(Ok(())), AtomicU64::new(0));
    everywhere(&|cpu| {
        if cpu == 0 {
            meeting.meet();
            let before = ROUNDS.count();
            let end = operation();
            taken.store(ROUNDS.count() - before, Ordering::Relaxed);
            *result.lock() = end;
            stop.store(true, Ordering::Relaxed);
        } else {
            in_space(space, || {
                meeting.meet();
                while !stop.load(Ordering::Relaxed) {
                    core::hint::spin_loop();
                }
            });
        }
    });
    result.into_inner()?;
    let taken = taken.into_inner();
    note!("{what}: {taken} rounds");
    Ok(taken)
}

/// A space with small pages, all present.
fn small(world: &World, pages: u64) -> Result<(Space<'static, Breakable>, VirtAddr), Failure> {
    let space = world.space()?;
    let at = space.map(Map::anonymous(pages * PAGE_BYTES, Prot::READ_WRITE).huge(HugePages::Never))?;
    for index in 0..pages {
        space.fault(page(at, index), Access::Write)?;
    }
    Ok((space, at))
}

/// What operations cost in rounds where the other CPUs run the space, and that they cost none where
/// they don't.
pub(super) fn costs(world: &World) -> Check {
    let most = |what: &str, taken: u64, most: u64| {
        ensure(taken <= most, format!("{what} took {taken} rounds, {most} are enough"))
    };
    // With one CPU there is no other to ask.
    let one = u64::from(world.cpus > 1);
    let (other, _) = small(world, 1)?;
    let (space, at) = small(world, 512)?;
    let elsewhere =
        rounds("unmap 512 pages of a space that runs nowhere", &other, || Ok(space.unmap(at, 2 << 20)?))?;
    most("an unmap where the space runs nowhere", elsewhere, 0)?;
    let (space, at) = small(world, 512)?;
    let protect = rounds("protect 512 pages", &space, || Ok(space.protect(at, 2 << 20, Prot::READ)?))?;
    most("a protect of 512 pages", protect, one)?;
    let unmap = rounds("unmap 512 pages", &space, || Ok(space.unmap(at, 2 << 20)?))?;
    ensure(unmap == one, format!("an unmap of 512 pages took {unmap} rounds"))?;
    let ending = spin::Mutex::new(Some(small(world, 512)?.0));
    let exit = rounds("exit with 512 pages", &other, || {
        drop(ending.lock().take());
        Ok(())
    })?;
    most("an exit", exit, 0)?;

    let (space, at) = world.space_with(32 << 20)?;
    for index in 0..16 {
        space.fault(at.offset(index << 21), Access::Write)?;
    }
    let fork = rounds("fork with 16 huge pages, and exit of the child", &space, || {
        drop(space.fork()?);
        Ok(())
    })?;
    most("a fork", fork, one)?;
    let (second, third) = (at.offset(4 << 20), at.offset(8 << 20));
    let part = rounds("unmap one page of a huge one", &space, || Ok(space.unmap(page(at, 1), PAGE_BYTES)?))?;
    most("an unmap of a part", part, 2 * one)?;
    let split = rounds("split a huge page", &space, || {
        space.split_page(second, Order::PAGE)?;
        Ok(())
    })?;
    most("a split", split, one)?;
    rounds("collapse it", &space, || {
        space.collapse(second, CollapseLimits::default())?;
        Ok(())
    })?;
    let child = space.fork()?;
    let elsewhere = rounds("a write of the child's, which runs nowhere", &space, || {
        Ok(child.fault(third, Access::Write)?)
    })?;
    most("a copy on write where the space runs nowhere", elsewhere, 0)?;
    rounds("a write to a shared huge page", &child, || Ok(child.fault(at.offset(12 << 20), Access::Write)?))?;
    let next = page(at.offset(12 << 20), 1);
    let cow = rounds("a write to the next page", &child, || Ok(child.fault(next, Access::Write)?))?;
    most("a copy on write of one page", cow, one)?;
    drop(child);
    let huge = rounds("unmap 16 huge pages", &space, || Ok(space.unmap(at, 32 << 20)?))?;
    ensure(huge == one, format!("an unmap of 16 huge pages took {huge} rounds"))
}

/// Every CPU shoots down all the time, and it ends. First all in one space, where each waits for
/// the lock that another holds while that one waits for answers; then each in a space of its own
/// and in that of the next CPU, all at the same moment, so that CPUs ask each other.
pub(super) fn shootdown_storm(world: &World) -> Check {
    const PAGES: u64 = 64;
    let mut spaces = Vec::new();
    let at = VirtAddr::new(0x4000_0000);
    for _ in 0..world.cpus {
        let space = world.space()?;
        let bytes = world.cpus as u64 * PAGES * PAGE_BYTES;
        space.map(Map::anonymous(bytes, Prot::READ_WRITE).huge(HugePages::Never).at(at))?;
        spaces.push(space);
    }
    let (refused, wrong, meeting) = (AtomicU64::new(0), AtomicU64::new(0), Meeting::of(world.cpus as u64));
    let before = ROUNDS.count();
    TURNS_BEFORE_ASKING.store(20_000, Ordering::Relaxed);
    let change = |space: &Space<'static, Breakable>, word, prot| {
        let refusal = space.protect(word, PAGE_BYTES, prot).is_err();
        refused.fetch_add(u64::from(refusal), Ordering::Relaxed);
    };
    everywhere(&|cpu| {
        let mine = page(at, PAGES * cpu as u64);
        let word_of_turn = |turn: u64| page(mine, turn % PAGES);
        in_space(&spaces[0], || {
            for turn in 0..world.times(60) {
                let word = word_of_turn(turn);
                let mut right = write(word, turn) && read(word) == Some(turn);
                change(&spaces[0], word, Prot::READ);
                right &= !write(word, turn + 1);
                change(&spaces[0], word, Prot::READ_WRITE);
                right &= write(word, turn + 2) && read(word) == Some(turn + 2);
                wrong.fetch_add(u64::from(!right), Ordering::Relaxed);
            }
        });
        let next = &spaces[(cpu + 1) % spaces.len()];
        meeting.meet();
        in_space(&spaces[cpu], || {
            for turn in 0..world.times(60) {
                let word = word_of_turn(turn);
                // What is present there changes its rights, and so is shot down on the next CPU.
                refused.fetch_add(u64::from(next.write(word, b"next").is_err()), Ordering::Relaxed);
                meeting.meet();
                change(next, word, Prot::READ);
                change(next, word, Prot::READ_WRITE);
            }
        });
    });
    note!("{} rounds", ROUNDS.count() - before);
    ensure(refused.into_inner() == 0, "a change of rights failed")?;
    ensure(wrong.into_inner() == 0, "a page could be written that could not, or the other way round")
}

/// All CPUs in one space map, write, pin, fork, split, collapse, and unmap at random; each reads
/// what it wrote. It finds lost counts and deadlocks, and no missing interrupt: each CPU reads back
/// through its own translation, stale or not.
pub(super) fn storm(world: &World) -> Check {
    let (space, common) = world.space_with(4 << 20)?;
    let (turns, wrong, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let one_turn = |cpu: usize, turn: u64, next: &mut dyn FnMut(u64) -> u64| -> Result<bool, Failure> {
        let me = (cpu as u64 + 1) << 48;
        let mine = page(common, next(1024)).offset(64 * cpu as u64);
        let mut right = write(mine, me | turn) && read(mine) == Some(me | turn);
        match next(7) {
            0 => {
                let at = space.map(Map::anonymous(64 << 10, Prot::READ_WRITE))?;
                for index in 0..16 {
                    right &= write(page(at, index), me | index);
                }
                for index in 0..16 {
                    right &= read(page(at, index)) == Some(me | index);
                }
                space.unmap(at, 64 << 10)?;
            }
            1 => {
                let child = space.fork()?;
                right &= word_of(&child, mine)? == me | turn;
                right &= write(mine, me | turn | 1 << 40);
                right &= word_of(&child, mine)? == me | turn;
                right &= write(mine, me | turn);
            }
            // Refused where another CPU has changed the page, too.
            2 => _ = space.split_page(mine, Order::PAGE),
            3 => _ = space.collapse(mine, CollapseLimits::default()),
            4 | 5 => {
                let pin = space.pin_pages(mine, 8, Access::Write)?;
                for value in 0..200 {
                    right &= write(mine, me | value);
                    let mut bytes = [0; 8];
                    pin.read(0, &mut bytes);
                    right &= u64::from_ne_bytes(bytes) == me | value;
                }
                right &= write(mine, me | turn);
            }
            _ => _ = space.split_mapping(mine),
        }
        Ok(right && read(mine) == Some(me | turn))
    };
    everywhere(&|cpu| {
        let mut random = 0x9e37_79b9 * (cpu as u64 + 1);
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        in_space(&space, || {
            for turn in 0..world.times(60) {
                match one_turn(cpu, turn, &mut next) {
                    Ok(right) => _ = wrong.fetch_add(u64::from(!right), Ordering::Relaxed),
                    Err(_) => _ = failed.fetch_add(1, Ordering::Relaxed),
                }
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    let (wrong, failed) = (wrong.into_inner(), failed.into_inner());
    note!("{} turns", turns.into_inner());
    ensure(failed == 0, format!("{failed} operations failed"))?;
    ensure(wrong == 0, format!("{wrong} writes were lost, seen by a child, or not by a pin"))
}
