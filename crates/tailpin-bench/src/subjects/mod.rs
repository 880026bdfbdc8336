//! The frame allocators, each behind the same small trait.

mod bitmap;
mod buddy_slab;
mod buddy_system;
mod frame_alloc;
mod machine;
mod ours;
mod parking;
mod spin_bitmap;

use tailpin::Zone;

use crate::recorder::Run;

pub(crate) use bitmap::Bitmap;
pub(crate) use buddy_system::BuddySystem;
pub(crate) use machine::{LazyEnv, Machine};
pub(crate) use ours::{Memory, Ours, zone};
#[cfg(target_os = "linux")]
pub(crate) use parking::Linux;
pub(crate) use parking::{OurFutex, ParkingLot, Waits};

/// An allocator of naturally aligned blocks of frames.
pub trait Frames: Sync {
    /// A block of its own making.
    type Held: Send;
    /// Its name in the tables.
    const NAME: &'static str;
    /// A block of `order`, if there is one.
    fn take(&self, order: u8) -> Option<Self::Held>;
    /// Gives a block of `order` back.
    fn give(&self, held: Self::Held, order: u8);
    /// Number of the block's first frame.
    fn frame(&self, held: &Self::Held) -> u64;
    /// Bytes of metadata, where they can be told from outside.
    fn metadata_bytes(&self) -> Option<usize> {
        None
    }
}

/// Something to be done with every allocator.
pub trait Group {
    /// The repetition for one of them.
    fn case<'s, S: Frames>(&self, subject: &'s S) -> Run<'s>;
    /// The repetition with our operations for many blocks at once, where it is about many.
    fn many<'s>(&self, _zone: &'s Zone<'s>) -> Option<Run<'s>> {
        None
    }
    /// The repetition by a thread that has its CPU to itself, where that is another one.
    fn local<'s>(&self, _zone: &'s Zone<'s>) -> Option<Run<'s>> {
        None
    }
}

/// Makes every allocator over `frames` frames and hands their cases to `run`.
pub fn with_subjects(frames: u64, group: &impl Group, run: impl FnOnce(Vec<(&'static str, Run<'_>)>)) {
    fn case<'s, S: Frames>(group: &impl Group, subject: &'s S) -> (&'static str, Run<'s>) {
        (S::NAME, group.case(subject))
    }
    let memory = Memory::new::<tailpin::OneWord<'_>>(frames);
    let one_word = zone::<tailpin::OneWord<'_>>(&memory, frames);
    let one_word = Ours::new(&one_word, memory.bytes());
    let memory = Memory::new::<tailpin_classic::Classic<'_>>(frames);
    let classic = zone::<tailpin_classic::Classic<'_>>(&memory, frames);
    let classic = Ours::new(&classic, memory.bytes());
    let summary = frame_alloc::Summary::new(frames);
    let depot = frame_alloc::Depot::new(frames);
    let buddy_system = buddy_system::BuddySystem::new(frames);
    let bitmap = bitmap::Bitmap::new(frames);
    let buddy_slab = buddy_slab::BuddySlab::new(frames);
    let spin_bitmap = spin_bitmap::SpinBitmap::new(frames);
    let memory = Memory::new::<tailpin::OneWord<'_>>(frames);
    let for_many = zone::<tailpin::OneWord<'_>>(&memory, frames);
    let memory = Memory::new::<tailpin::OneWord<'_>>(frames);
    let for_local = zone::<tailpin::OneWord<'_>>(&memory, frames);
    let mut cases = vec![
        case(group, &one_word),
        case(group, &classic),
        case(group, &summary),
        case(group, &depot),
        case(group, &buddy_system),
        case(group, &bitmap),
        case(group, &buddy_slab),
        case(group, &spin_bitmap),
    ];
    if let Some(many) = group.many(&for_many) {
        cases[0].0 = "tailpin-one-by-one";
        cases.insert(0, (Ours::<tailpin::OneWord<'_>>::NAME, many));
    }
    cases.extend(group.local(&for_local).map(|local| ("tailpin-local", local)));
    run(cases);
}

#[cfg(test)]
mod tests;
