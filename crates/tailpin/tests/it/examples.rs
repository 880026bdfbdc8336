//! The examples run as they are.

#[path = "../../examples/as_a_kernel.rs"]
mod as_a_kernel;
#[path = "../../examples/keep_a_page.rs"]
mod keep_a_page;
#[path = "../../examples/split_and_merge.rs"]
mod split_and_merge;
