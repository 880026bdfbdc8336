//! The protective steps of pinning by address, left out one at a time.

use tailpin::AtomicWord;
use tailpin_mm::model::{Complete, Steps};

use crate::switches::{Switch, Switched, off};

impl Steps for Switched {
    fn second_look(entry: impl FnOnce() -> bool, walk: impl FnOnce() -> bool) -> bool {
        if off(Switch::H13Entry) {
            true
        } else if off(Switch::H19) {
            entry()
        } else {
            Complete::second_look(entry, walk)
        }
    }

    fn pin_barrier<W: AtomicWord>() {
        if !off(Switch::H21Pin) {
            Complete::pin_barrier::<W>();
        }
    }

    fn change_barrier<W: AtomicWord>() {
        if !off(Switch::H21Change) {
            Complete::change_barrier::<W>();
        }
    }
}
