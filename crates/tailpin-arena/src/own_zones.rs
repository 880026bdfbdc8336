//! The zone as each thread uses it that has a [slot of its own](crate::thread_slot).

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;

use tailpin::{Local, Zone};

use crate::thread_slot::{ThreadSlot, own_slots};

/// What one thread uses, on cache lines of its own. It is not dropped: what it remembers are hints,
/// and the words they are of may be gone.
#[repr(align(128))]
#[derive(Default)]
struct OwnZone(UnsafeCell<Option<ManuallyDrop<Local<'static>>>>);

/// A zone as the threads with slots of their own use it, each by its number.
///
/// # Invariants
/// An entry is reached by the one thread that has its number, and by the next thread that has it
/// after that one has given it back, which orders what both do.
pub(crate) struct OwnZones(Box<[OwnZone]>);

// SAFETY: an entry belongs to the thread that has its number, wherever the whole goes.
unsafe impl Send for OwnZones {}
// SAFETY: by the invariant no two threads reach the same entry at once.
unsafe impl Sync for OwnZones {}

impl OwnZones {
    pub(crate) fn new() -> Self {
        Self((0..own_slots()).map(|_| OwnZone::default()).collect())
    }

    /// The zone as this thread uses it; `None` if the thread shares slots.
    ///
    /// # Safety
    /// It is the same zone each time, and is there, at that place, as long as what is returned is
    /// used here.
    #[inline]
    pub(crate) unsafe fn of(&self, slot: ThreadSlot, zone: &Zone<'static>) -> Option<&Local<'static>> {
        let OwnZone(entry) = self.0.get(slot.own_index()?)?;
        // SAFETY: the entry is this thread's, see the invariant. It is written to only below, where
        // nothing is there yet that could be borrowed.
        match unsafe { &*entry.get() } {
            Some(local) => Some(local),
            // SAFETY: the caller's promise.
            None => Some(unsafe { Self::begin(entry, slot, zone) }),
        }
    }

    /// # Safety
    /// As [`OwnZones::of`]; the entry is this thread's, and empty.
    #[cold]
    #[inline(never)]
    unsafe fn begin<'a>(
        entry: &'a UnsafeCell<Option<ManuallyDrop<Local<'static>>>>,
        slot: ThreadSlot,
        zone: &Zone<'static>,
    ) -> &'a Local<'static> {
        // SAFETY: the caller sees to it that the zone is there while this is used.
        let zone: &'static Zone<'static> = unsafe { &*std::ptr::from_ref(zone) };
        // SAFETY: the entry is this thread's, and nothing of it is borrowed, as it is empty.
        unsafe { &mut *entry.get() }.insert(ManuallyDrop::new(zone.local(slot.index())))
    }
}
