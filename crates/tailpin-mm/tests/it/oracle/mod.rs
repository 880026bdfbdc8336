//! Random programs on several address spaces, against a sequential model, byte for byte.
//!
//! Two or three hundred lines of model (`model.rs`) say what memory is to its users: which space
//! sees whose writes, what a fork copies, that a pin and its mapping never part, which accesses are
//! errors. Everything below that (huge pages, splits, collapses, page tables, counts) must not
//! show. After each program, and at steps in it, all pages that were ever written are compared, and
//! the accounts (`accounts.rs`) are exact: each frame in use has an owner.
//!
//! `PROPTEST_CASES` says how many programs. Those that once failed are in `found.rs`.

#![allow(unreachable_pub)] // A test has no outside.

mod found;
mod model;
mod program;
mod run;

use proptest::prelude::*;
use tailpin_mm::{Cow, MmConfig};

/// As many as told, else enough for every day.
fn config(cases: u32) -> ProptestConfig {
    let told = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    // Programs that fail go to `found.rs`.
    let failure_persistence = None;
    let cases = told.unwrap_or(cases);
    ProptestConfig { cases, max_shrink_iters: 3000, failure_persistence, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn spaces_do_what_the_model_does(steps in program::program(false)) {
        run::run(&steps, MmConfig::default());
    }

    #[test]
    fn so_they_do_when_huge_pages_are_copied_whole(steps in program::program(false)) {
        run::run(&steps, MmConfig { cow: Cow::Whole, ..MmConfig::default() });
    }

    #[test]
    fn so_they_do_when_allocations_fail(steps in program::program(true)) {
        run::run(&steps, MmConfig::default());
    }
}
