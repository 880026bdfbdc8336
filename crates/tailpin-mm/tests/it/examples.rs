//! The examples run as they are.

#[path = "../../examples/fork_and_write.rs"]
mod fork_and_write;
#[path = "../../examples/minimal_kernel_mm.rs"]
mod minimal_kernel_mm;
#[path = "../../examples/pin_for_a_device.rs"]
mod pin_for_a_device;
