//! Four to eight threads: random schedules, and the machine's own threads.

use tailpin_check::family::{ClassicFamily, OneWordFamily};
use tailpin_check::stress::{machine, random};

#[test]
fn random_schedules() {
    for threads in [4, 6, 8] {
        random::<OneWordFamily>(threads, 1_000).unwrap();
        random::<ClassicFamily>(threads, 300).unwrap();
    }
}

#[test]
fn on_the_machine() {
    machine::<OneWordFamily>(8, 300);
    machine::<ClassicFamily>(8, 300);
}
