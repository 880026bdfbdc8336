//! The safeguards of the futexes, left out one at a time.

use tailpin_futex::{Safeguard as FutexSafeguard, Safeguards};

use crate::safeguards::{LessOne, Safeguard, is_left_out};

impl Safeguards<FutexSafeguard> for LessOne {
    fn keeps(safeguard: FutexSafeguard) -> bool {
        !is_left_out(match safeguard {
            FutexSafeguard::H8 => Safeguard::H8,
            FutexSafeguard::H25 => Safeguard::H25,
            FutexSafeguard::H32 => Safeguard::H32,
            FutexSafeguard::H33 => Safeguard::H33,
            FutexSafeguard::FWait => Safeguard::FWait,
            FutexSafeguard::FWake => Safeguard::FWake,
            FutexSafeguard::FLook => Safeguard::FLook,
            FutexSafeguard::FMove => Safeguard::FMove,
        })
    }
}
