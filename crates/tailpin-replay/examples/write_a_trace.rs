//! Writes a trace of a program's own events, reads it back and replays it.
//!
//! `cargo run -p tailpin-replay --example write_a_trace`

use std::error::Error;

use tailpin::Order;
use tailpin_replay::trace::{self, Circumstance, FreeKind, Op, Writer};
use tailpin_replay::{NoWatch, Protocol, Reading, Setup, compile};

fn main() -> Result<(), Box<dyn Error>> {
    let mut writer = Writer::default();
    let (pfn, order) = (1024, Order::HUGE);
    let events = [
        Op::Alloc { pfn, order },
        Op::Pin { pfn: 1030, refs: 1 },
        Op::Split { pfn, order, to: Order::PAGE },
        Op::Unpin { pfn: 1030, refs: 1 },
        Op::Free { pfn: 1031, order: Order::PAGE, kind: FreeKind::Seen },
    ];
    for (op, ns) in events.into_iter().zip((0..).step_by(1000)) {
        writer.add(Circumstance { ns, ..Circumstance::default() }, op);
    }
    let file = writer.finish("recorder example\n");

    let trace = trace::read("example".to_owned(), &file[..], file.len() as u64)?;
    assert_eq!((trace.len(), trace.duration_ns()), (5, 4000));
    let protocol = Protocol::OneWord;
    let plan = compile(&trace, Reading { as_recorded: true, merges: protocol.merges() })?;
    let measured = Setup { protocol, threads: 1, zone_frames: None }.round(&plan, &NoWatch)?;
    println!("{} pages are left of a block that was split under a pin", measured.live_frames_at_end);
    assert!(measured.is_clean());
    assert_eq!(measured.live_frames_at_end, 511);
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
