//! Frames that leave service: on demand, or because somebody misused them.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::frame::{FrameRange, Order, Pfn};
use crate::protocol::{Owner, PageState, Protocol};
use crate::report::{Cause, Misuse, Operation};

use super::Zone;

/// What became of a frame that was to go out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetAside {
    /// It was free and is out of service.
    Done,
    /// It is in use and leaves service when it is freed.
    WhenFreed,
    /// It is not in service: outside the zone, reserved, out of service already, or on its way between owners.
    NotInService,
}

impl<P: Protocol> Zone<'_, P> {
    /// Takes a frame out of service for good (memory failure): at once if it is free, else when it is freed.
    ///
    /// Progress: lock-free; as [`Zone::try_pin`] and [`Zone::drain`].
    pub fn set_aside(&self, frame: Pfn) -> SetAside {
        if !self.protocol.covers(frame) {
            return SetAside::NotInService;
        }
        if self.protocol.poison(frame, self) {
            return SetAside::WhenFreed;
        }
        // It may be loose.
        for _ in 0..2 {
            if self.retire_free(frame) {
                return SetAside::Done;
            }
            self.drain();
        }
        SetAside::NotInService
    }

    /// Frames that have gone out of service.
    pub fn set_aside_frames(&self) -> u64 {
        self.set_aside.load(Ordering::Relaxed)
    }

    /// A frame that was to be given to the store is there already. Only reported, not searched for among the
    /// loose ones: this may be what gathers them.
    #[cold]
    pub(super) fn refuse_free_frame(&self, frame: Pfn) {
        let state = self.protocol.state(frame);
        self.tell(&Misuse { frame, state, operation: Operation::Free, cause: Cause::AlreadyFree });
        self.retire_free(frame);
    }

    pub(super) fn tell(&self, misuse: &Misuse) {
        if let Some(sink) = self.config.sink {
            sink.misuse(misuse);
        }
    }

    /// Takes a frame out of service that is free in the store; false if it is not.
    fn retire_free(&self, frame: Pfn) -> bool {
        let taken = self.store.take_frame(frame);
        if taken {
            self.protocol.retire(frame);
            self.count_set_aside(1);
        }
        taken
    }

    /// A frame that came from the store is not in a state to be handed out: it leaves service, the rest of the
    /// block goes back.
    #[cold]
    pub(in crate::alloc) fn refuse_bad_frame(&self, head: Pfn, order: Order, bad: Pfn) {
        let state = self.protocol.state(bad);
        self.protocol.retire(bad);
        self.count_set_aside(1);
        self.tell(&Misuse { frame: bad, state, operation: Operation::Allocate, cause: Cause::BadState });
        for frame in FrameRange::block(head, order).iter().filter(|frame| *frame != bad) {
            self.give(frame, Order::PAGE);
        }
    }

    pub(super) fn count_set_aside(&self, frames: u64) {
        // Relaxed: a statistic.
        self.set_aside.fetch_add(frames, Ordering::Relaxed);
    }

    /// Reports a misuse and sets the frame aside; a frame outside the zone is only reported.
    pub(crate) fn report(&self, frame: Pfn, operation: Operation, cause: Cause) -> Misuse {
        let state = self.state(frame).unwrap_or(PageState::NOT_IN_ZONE);
        let misuse = Misuse { frame, state, operation, cause };
        self.misuse(misuse);
        misuse
    }
}
