//! What the processor makes of the tables: walks, accessed and dirty bits, rights, execution,
//! programs in ring 3, several spaces, leaves of 1 GiB.

use alloc::format;
use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::{Order, PAGE_BYTES};
use tailpin_mm::{Access, HugePages, Map, ObjectConfig, Prot, VirtAddr};

use super::{Check, Failure, World, ensure, page, word_of};
use crate::apic::{self, everywhere};
use crate::cpus::{Meeting, faults};
use crate::machine::{self, DIRECT_MAP, words};
use crate::note;
use crate::traps::{UserEnd, in_space, read, read_half, run_user, write};

/// What is written through the library is read by the processor, and the other way round, with one
/// fault for 2 MiB.
pub(super) fn walks(world: &World) -> Check {
    let (space, at) = world.space_with(8 << 20)?;
    space.write(at.offset(16), &0x1122_3344_5566_7788_u64.to_ne_bytes())?;
    let taken = in_space(&space, || {
        let before = faults();
        ensure(read(at.offset(16)) == Some(0x1122_3344_5566_7788), "the processor reads something else")?;
        ensure(faults() == before, "a fault where the page was")?;
        for index in 0..2048 {
            ensure(write(page(at, index), index + 1), "a write was refused")?;
        }
        Ok::<_, Failure>(faults() - before)
    })?;
    note!("{taken} faults for 2048 pages");
    ensure(taken == 3, "not one fault for each of the other 2 MiB")?;
    for index in 1..2048 {
        ensure(word_of(&space, page(at, index))? == index + 1, "the library reads something else")?;
    }
    ensure(space.usage().huge_bytes == 8 << 20, "not huge")
}

/// The accessed and dirty bits that the processor sets are seen.
pub(super) fn dirty(world: &World) -> Check {
    let space = world.space()?;
    let object = world.mm.object(ObjectConfig::new(1 << 20))?;
    let at = space.map(Map::shared(&object, 0, 1 << 20, Prot::READ_WRITE))?;
    let (clean, written) = in_space(&space, || {
        read(at);
        let clean = space.mapping(at);
        write(at, 1);
        (clean, space.mapping(at))
    });
    let (clean, written) = (clean.ok_or("not mapped")?, written.ok_or("not mapped")?);
    ensure(clean.accessed && !clean.dirty, "read, and not just accessed")?;
    ensure(written.accessed && written.dirty, "written, and not dirty")
}

/// Rights are the processor's to enforce: reading only, no mapping, nothing after `protect`.
pub(super) fn rights(world: &World) -> Check {
    let space = world.space()?;
    let read_only = space.map(Map::anonymous(1 << 20, Prot::READ))?;
    let both = space.map(Map::anonymous(1 << 20, Prot::READ_WRITE))?;
    let guard = space.map(Map::guard(PAGE_BYTES))?;
    in_space(&space, || {
        ensure(read(read_only) == Some(0), "a page of zeroes can't be read")?;
        ensure(!write(read_only, 1), "a read-only page was written")?;
        ensure(write(both, 1) && read(both) == Some(1), "a page can't be written")?;
        ensure(read(guard).is_none() && read(VirtAddr::new(PAGE_BYTES)).is_none(), "a guard was read")?;
        space.protect(both, PAGE_BYTES, Prot::READ)?;
        ensure(!write(both, 2) && read(both) == Some(1), "written through a stale translation")?;
        space.protect(both, PAGE_BYTES, Prot::READ_WRITE)?;
        ensure(write(both, 3) && read(both) == Some(3), "a page can't be written again")
    })
}

/// `mov rdi, 42; int 0x80`.
const RETURN_42: [u8; 9] = [0x48, 0xc7, 0xc7, 42, 0, 0, 0, 0xcd, 0x80];

/// Ring 3 executes what may be executed, and what may be written may not.
pub(super) fn execution(world: &World) -> Check {
    let space = world.space()?;
    let code = space.map(Map::anonymous(PAGE_BYTES, Prot { read: true, write: true, exec: true }))?;
    let data = space.map(Map::anonymous(8192, Prot::READ_WRITE).huge(HugePages::Never))?;
    space.write(code, &RETURN_42)?;
    space.write(data, &RETURN_42)?;
    let stack = data.offset(8192);
    in_space(&space, || {
        ensure(run_user(code, stack, 0) == UserEnd::Left(42), "the program did not run")?;
        ensure(run_user(data, stack, 0) == UserEnd::Refused, "data was executed")?;
        // Not present: the fetch alone gets nothing mapped.
        let before = faults();
        ensure(run_user(page(data, 1), stack, 0) == UserEnd::Refused, "an absent page was executed")?;
        let mapped = space.mapping(page(data, 1)).is_some();
        ensure(!mapped && faults() == before + 1, "a fetch that is refused mapped the page")?;
        space.protect(code, PAGE_BYTES, Prot::READ)?;
        ensure(run_user(code, stack, 0) == UserEnd::Refused, "executed through a stale translation")?;
        space.protect(code, PAGE_BYTES, Prot::READ_EXEC)?;
        ensure(run_user(code, stack, 0) == UserEnd::Left(42), "the program did not run again")?;
        ensure(!write(code, 0), "what may be executed was written")
    })
}

/// Registers of a device are mapped for reading: the processor reaches them, uncached, the library
/// refuses to, and the frame is neither counted nor freed.
pub(super) fn device(world: &World) -> Check {
    let space = world.space()?;
    let at = space.map(machine::apic_for_users())?;
    let expected = apic::version();
    in_space(&space, || {
        let seen = read_half(at.offset(apic::VERSION));
        ensure(seen == Some(expected), format!("{seen:x?} in place of {expected:#x}"))?;
        ensure(!write(at.offset(apic::VERSION), 0), "a register that may only be read was written")
    })?;
    let leaf = space.mapping(at).ok_or("not mapped")?;
    ensure(leaf.foreign && space.usage().foreign_bytes == PAGE_BYTES, "taken for memory")?;
    // Cache disable, or the processor would keep what the registers were.
    let entry = super::unmap::last_entry(&space, at).ok_or("no entry")?;
    ensure(entry & 1 << 4 != 0, "mapped cached")?;
    let refused =
        space.read(at, &mut [0; 4]).is_err() && space.pin_pages(at, PAGE_BYTES, Access::Read).is_err();
    ensure(refused, "the library reached what is no memory")?;
    let child = space.fork()?;
    space.unmap(at, PAGE_BYTES)?;
    ensure(in_space(&space, || read_half(at)).is_none(), "still there after the unmap")?;
    let seen = in_space(&child, || read_half(at.offset(apic::VERSION)));
    ensure(seen == Some(expected), "the child has lost it")
}

/// A program in ring 3 writes a word in each of 256 pages, which fault, and returns the first. One
/// that reads the kernel's memory is refused.
pub(super) fn ring3(world: &World) -> Check {
    const PROGRAM: [u8; 29] = [
        0xb9, 0, 1, 0, 0, // mov ecx, 256
        0x48, 0x89, 0xfb, // mov rbx, rdi
        0x48, 0x89, 0x0b, // again: mov [rbx], rcx
        0x48, 0x81, 0xc3, 0, 0x10, 0, 0, // add rbx, 4096
        0xe2, 0xf4, // loop again
        0x48, 0x8b, 0x3f, // mov rdi, [rdi]
        0xcd, 0x80, // int 0x80
        0x0f, 0x0b, 0x90, 0x90, // ud2
    ];
    let space = world.space()?;
    let code = space.map(Map::anonymous(PAGE_BYTES, Prot { read: true, write: true, exec: true }))?;
    let data = space.map(Map::anonymous(1 << 20, Prot::READ_WRITE).huge(HugePages::Never))?;
    space.write(code, &PROGRAM)?;
    let stack = data.offset(1 << 20);
    let (end, taken) = in_space(&space, || {
        let before = faults();
        (run_user(code, stack, data.get()), faults() - before)
    });
    note!("{end:?} after {taken} faults");
    ensure(end == UserEnd::Left(256), "the program came to something else")?;
    ensure(taken == 256, "not one fault for each page")?;
    ensure(word_of(&space, page(data, 255))? == 1, "the last page was not written")?;
    let mut wild = [0x90; 13];
    // mov rax, DIRECT_MAP; mov rax, [rax]
    wild[..2].copy_from_slice(&[0x48, 0xb8]);
    wild[2..10].copy_from_slice(&DIRECT_MAP.to_le_bytes());
    wild[10..].copy_from_slice(&[0x48, 0x8b, 0x00]);
    space.write(code, &wild)?;
    ensure(
        in_space(&space, || run_user(code, stack, 0)) == UserEnd::Refused,
        "a user read the kernel's memory",
    )
}

/// Two spaces on one CPU, one after the other: each has its own page at the same address.
pub(super) fn two_spaces(world: &World) -> Check {
    let at = VirtAddr::new(0x40_0000_0000);
    let spaces = [world.space()?, world.space()?];
    for space in &spaces {
        space.map(Map::anonymous(2 << 20, Prot::READ_WRITE).at(at))?;
    }
    for turn in 0..world.times(40) {
        for (number, space) in (0..).zip(&spaces) {
            in_space(space, || {
                let expected = if turn == 0 { 0 } else { number << 32 | turn };
                ensure(read(at) == Some(expected), "the other space's page")?;
                ensure(write(at, number << 32 | (turn + 1)), "a write was refused")
            })?;
        }
    }
    Ok(())
}

/// A CPU has run a space and runs none. While it does, a page is unmapped and the frame is
/// another's. When the CPU runs the space again, it must not find the page by what it remembers.
pub(super) fn stale_after_switch(world: &World) -> Check {
    const OURS: u64 = 0x0123;
    const THEIRS: u64 = 0x0bad;
    let (space, at) = (world.space()?, VirtAddr::new(0x40_0000_0000));
    let (meeting, stale, read_well) = (Meeting::of(2), AtomicU64::new(0), AtomicU64::new(0));
    let failed = spin::Mutex::new(None);
    everywhere(&|cpu| match cpu {
        0 => {
            for _ in 0..world.times(20) {
                let turn = || -> Check {
                    space.map(Map::anonymous(PAGE_BYTES, Prot::READ_WRITE).at(at))?;
                    space.write(at, &OURS.to_ne_bytes())?;
                    let frame = space.mapping(at).ok_or("not mapped")?.frame;
                    meeting.meet();
                    meeting.meet();
                    space.unmap(at, PAGE_BYTES)?;
                    // The frame's next owner.
                    words(frame)[0].store(THEIRS, Ordering::SeqCst);
                    Ok(())
                };
                if let Err(why) = turn() {
                    *failed.lock() = Some(why);
                }
                meeting.meet();
                meeting.meet();
            }
        }
        1 => {
            for _ in 0..world.times(20) {
                meeting.meet();
                in_space(&space, || {
                    read_well.fetch_add(u64::from(read(at) == Some(OURS)), Ordering::Relaxed);
                });
                meeting.meet();
                meeting.meet();
                in_space(&space, || {
                    stale.fetch_add(u64::from(read(at).is_some()), Ordering::Relaxed);
                });
                meeting.meet();
            }
        }
        _ => {}
    });
    if let Some(why) = failed.into_inner() {
        return Err(why);
    }
    ensure(read_well.into_inner() == world.times(20), "the page was not there before")?;
    ensure(stale.into_inner() == 0, "a page was read that was unmapped while another space ran")
}

/// A leaf of 1 GiB maps all of a hugetlb object: one fault, and its last word is where the block
/// ends.
pub(super) fn gigantic_leaf(world: &World) -> Check {
    if !crate::boot::has_gigantic_leaves() {
        note!("this processor has no leaves of 1 GiB");
        return Ok(());
    }
    const GIB: u64 = 1 << 30;
    let object = world.mm.object(ObjectConfig::new(GIB).hugetlb(Order::MAX))?;
    let space = world.space()?;
    let at = space.map(Map::shared(&object, 0, GIB, Prot::READ_WRITE).huge(HugePages::Always))?;
    in_space(&space, || {
        let before = faults();
        for part in 0..512 {
            ensure(write(at.offset(part * (2 << 20) + 8 * part), part + 1), "a write was refused")?;
        }
        ensure(write(at.offset(GIB - 8), 99), "the last word can't be written")?;
        ensure(faults() == before + 1, format!("{} faults", faults() - before))?;
        let leaf = space.mapping(at).ok_or("not mapped")?;
        ensure(leaf.order == Order::MAX && leaf.dirty, "no leaf of 1 GiB")?;
        let last = words(leaf.frame.offset(Order::MAX.frames() - 1))[511].load(Ordering::Relaxed);
        ensure(last == 99, "the last word is elsewhere")
    })?;
    space.fault(at, Access::Read)?;
    ensure(word_of(&space, at.offset(511 * (2 << 20) + 8 * 511))? == 512, "the library reads something else")
}
