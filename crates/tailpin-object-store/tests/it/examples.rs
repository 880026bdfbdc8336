//! The examples run as they are.

#[path = "../../examples/budget.rs"]
mod budget;
#[path = "../../examples/keep_a_record.rs"]
mod keep_a_record;
#[path = "../../examples/ranges.rs"]
mod ranges;
