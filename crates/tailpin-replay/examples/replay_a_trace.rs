//! Carries out a recorded trace on two threads and audits what is left.
//!
//! `cargo run --release -p tailpin-replay --example replay_a_trace`

use std::error::Error;

use tailpin_replay::{NoWatch, Protocol, Reading, Setup, compile, trace};

fn main() -> Result<(), Box<dyn Error>> {
    let trace = trace::builtins()[0].open()?;
    let protocol = Protocol::OneWord;
    let plan = compile(&trace, Reading { as_recorded: false, merges: protocol.merges() })?;
    let measured = Setup { protocol, threads: 2, zone_frames: None }.round(&plan, &NoWatch)?;
    let tally = &measured.tally;
    println!("{} blocks split, {} of them while pages were pinned", tally.splits, tally.splits_under_pins);
    assert!(measured.is_clean() && tally.splits_under_pins > 0);
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
