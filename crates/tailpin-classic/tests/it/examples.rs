//! The examples run as they are.

#[path = "../../examples/as_in_2013.rs"]
mod as_in_2013;
#[path = "../../examples/kept_by_one_pin.rs"]
mod kept_by_one_pin;
#[path = "../../examples/split_under_a_pin.rs"]
mod split_under_a_pin;
