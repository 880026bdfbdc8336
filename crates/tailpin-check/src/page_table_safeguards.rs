//! The protective steps of pinning by address, left out one at a time.

use tailpin::AtomicWord;
use tailpin_mm::model::{Complete, Steps};

use crate::safeguards::{LessOne, Safeguard, is_left_out};

impl Steps for LessOne {
    fn second_look(entry: impl FnOnce() -> bool, walk: impl FnOnce() -> bool) -> bool {
        if is_left_out(Safeguard::H13Entry) {
            true
        } else if is_left_out(Safeguard::H19) {
            entry()
        } else {
            Complete::second_look(entry, walk)
        }
    }

    fn pin_barrier<W: AtomicWord>() {
        if !is_left_out(Safeguard::H21Pin) {
            Complete::pin_barrier::<W>();
        }
    }

    fn change_barrier<W: AtomicWord>() {
        if !is_left_out(Safeguard::H21Change) {
            Complete::change_barrier::<W>();
        }
    }
}
