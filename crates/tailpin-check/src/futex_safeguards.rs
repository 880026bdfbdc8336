//! The futexes' protective steps, left out one at a time.

use std::sync::atomic::Ordering;

use tailpin::AtomicWord;
use tailpin_futex::{Access, Complete, Steps};

use crate::safeguards::{LessOne, Safeguard, is_left_out};

impl Steps for LessOne {
    fn asks_next(proved: Access) -> Access {
        if is_left_out(Safeguard::H8) { Access::Write } else { Complete::asks_next(proved) }
    }

    fn asks_afresh(before: Access) -> Access {
        if is_left_out(Safeguard::H25) { before } else { Complete::asks_afresh(before) }
    }

    fn before_unpin<T>(read: impl FnOnce() -> T, unpin: impl FnOnce()) -> T {
        if is_left_out(Safeguard::H9) {
            unpin();
            read()
        } else {
            Complete::before_unpin(read, unpin)
        }
    }

    fn whose_index<P>(page: P, head: impl FnOnce() -> P) -> P {
        if is_left_out(Safeguard::H10) { head() } else { Complete::whose_index(page, head) }
    }

    fn whose_owner<P>(page: P, head: impl FnOnce() -> P) -> P {
        if is_left_out(Safeguard::H11) { head() } else { Complete::whose_owner(page, head) }
    }

    fn waiter_barrier<W: AtomicWord>() {
        if !is_left_out(Safeguard::FWait) {
            Complete::waiter_barrier::<W>();
        }
    }

    fn waker_barrier<W: AtomicWord>() {
        if is_left_out(Safeguard::FWake) {
            W::fence(Ordering::Release);
        } else {
            Complete::waker_barrier::<W>();
        }
    }

    fn reads_early<T>(read: impl FnOnce() -> T) -> Option<T> {
        if is_left_out(Safeguard::FLook) { Some(read()) } else { Complete::reads_early(read) }
    }

    fn announces_moved(moved: u64) -> u64 {
        if is_left_out(Safeguard::FMove) { 0 } else { Complete::announces_moved(moved) }
    }
}
