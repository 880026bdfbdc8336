//! The safeguards of pinning by address, left out one at a time.

use tailpin_mm::model::{Safeguard as MmSafeguard, Safeguards};

use crate::safeguards::{LessOne, Safeguard, is_left_out};

impl Safeguards<MmSafeguard> for LessOne {
    fn keeps(safeguard: MmSafeguard) -> bool {
        !is_left_out(match safeguard {
            MmSafeguard::H13Entry => Safeguard::H13Entry,
            MmSafeguard::H19 => Safeguard::H19,
            MmSafeguard::H21Pin => Safeguard::H21Pin,
            MmSafeguard::H21Change => Safeguard::H21Change,
        })
    }
}
