//! The examples run as they are.

#[path = "../../examples/course_of_a_replay.rs"]
mod course_of_a_replay;
#[path = "../../examples/replay_a_trace.rs"]
mod replay_a_trace;
#[path = "../../examples/write_a_trace.rs"]
mod write_a_trace;
