//! The examples run as they are; `storm` is a stress of its own, which `stress.rs` has in small.

#[path = "../../examples/lock_pi.rs"]
mod lock_pi;
#[path = "../../examples/mutex.rs"]
mod mutex;
#[path = "../../examples/wait_and_wake.rs"]
mod wait_and_wake;
