//! The examples run as they are.

#[path = "../../examples/budget_of_a_store.rs"]
mod budget_of_a_store;
#[path = "../../examples/keep_a_record.rs"]
mod keep_a_record;
#[path = "../../examples/ranges.rs"]
mod ranges;
