//! The safeguards of shootdowns, left out one at a time.

use tailpin_kernel::{Safeguard as KernelSafeguard, Safeguards};

use crate::safeguards::{LessOne, Safeguard, is_left_out};

impl Safeguards<KernelSafeguard> for LessOne {
    fn keeps(safeguard: KernelSafeguard) -> bool {
        !is_left_out(match safeguard {
            KernelSafeguard::KAsk => Safeguard::KAsk,
            KernelSafeguard::KFlush => Safeguard::KFlush,
            KernelSafeguard::KWait => Safeguard::KWait,
            KernelSafeguard::KAnswer => Safeguard::KAnswer,
            KernelSafeguard::KMark => Safeguard::KMark,
            KernelSafeguard::KShoot => Safeguard::KShoot,
            KernelSafeguard::KLoad => Safeguard::KLoad,
            KernelSafeguard::KSection => Safeguard::KSection,
        })
    }
}
