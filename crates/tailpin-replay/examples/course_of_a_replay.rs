//! What a zone has in use in the course of a replay, beside what the recorded machine had.
//!
//! `cargo run --release -p tailpin-replay --example course_of_a_replay`

use std::error::Error;

use tailpin_replay::{Protocol, Reading, Setup, compile, trace};

fn main() -> Result<(), Box<dyn Error>> {
    let trace = trace::Builtin::named("guest-pins").ok_or("it is built in")?.open()?;
    let protocol = Protocol::OneWord;
    let plan = compile(&trace, Reading { as_recorded: false, merges: protocol.merges() })?;
    let course = Setup { protocol, threads: 1, zone_frames: None }.course(&plan)?;
    let recorded = &plan.timeline.points;
    for (here, there) in course.iter().zip(recorded).step_by(recorded.len().div_ceil(10)) {
        println!("{:>8} frames in use, {:>8} in the trace", here.used_frames, there.frames);
    }
    assert_eq!(course.len(), recorded.len());
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
