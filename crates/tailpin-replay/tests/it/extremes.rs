//! Public functions that take numbers, with the smallest and the largest there are.

use tailpin_replay::trace::{
    Circumstance, FreeKind, LONGEST_SILENCE_NS, Op, Trace, TraceError, Writer, builtins, find, open, read,
};
use tailpin_replay::{
    MOST_FRAMES, Measured, NoWatch, Outcome, Plan, Protocol, Reading, ReplayError, Setup, compile,
};

fn written(ops: impl IntoIterator<Item = (u64, Op)>) -> Vec<u8> {
    let mut writer = Writer::default();
    for (ns, op) in ops {
        writer.add(Circumstance { ns, cpu: u8::MAX, flags: u32::MAX, migratetype: u8::MAX }, op);
    }
    writer.finish("")
}

fn of(file: &[u8]) -> Result<Trace, TraceError> {
    read("test".to_owned(), file, u64::MAX)
}

fn plan(file: &[u8]) -> Plan {
    compile(&of(file).unwrap(), Reading { as_recorded: false, merges: true }).unwrap()
}

fn page(order: u8) -> tailpin::Order {
    tailpin::Order::new(order).unwrap()
}

fn pair(pfn: u32, order: tailpin::Order) -> [(u64, Op); 2] {
    [(0, Op::Alloc { pfn, order }), (0, Op::Free { pfn, order, kind: FreeKind::Seen })]
}

#[test]
fn limits_of_a_trace_are_kept_whatever_they_are() {
    let file = written(pair(0, page(0)));
    let path = std::env::temp_dir().join(format!("tailpin-limits-{}.pft", std::process::id()));
    std::fs::write(&path, &file).unwrap();
    for (limit, fits) in [(0, false), (1, false), (file.len() as u64 - 1, false), (file.len() as u64, true)]
        .into_iter()
        .chain([(1 << 63, true), (u64::MAX, true)])
    {
        let ways = [read("test".to_owned(), &file[..], limit), open(&path, limit), find(&path, limit)];
        for trace in ways {
            match trace {
                Ok(trace) => assert!(fits && trace.len() == 2, "{limit}"),
                Err(TraceError::TooLarge { limit: told, .. }) => assert!(!fits && told == limit),
                Err(error) => panic!("{limit}: {error}"),
            }
        }
    }
    std::fs::remove_file(&path).unwrap();
    // What is built in has a limit of its own.
    assert!(find(builtins()[0].name.as_ref(), 0).is_ok());
}

#[test]
fn frames_at_the_end_of_their_numbers_are_read() {
    for order in [0, 9, 18] {
        let order = page(order);
        let last = u32::MAX - (order.frames() - 1) as u32;
        let trace = of(&written(pair(last, order))).unwrap();
        assert_eq!(trace.header.frames, 1 << 32);
        let measured = Setup { protocol: Protocol::OneWord, threads: 1, zone_frames: None }
            .round(&plan(&written(pair(last, order))), &NoWatch)
            .unwrap();
        assert!(measured.is_clean() && measured.tally.frees == 1);
    }
    let all = [
        Op::Pin { pfn: u32::MAX, refs: u16::MAX },
        Op::Unpin { pfn: u32::MAX, refs: u16::MAX },
        Op::Collapse { pfn: Some(u32::MAX) },
        Op::SplitFail { pfn: u32::MAX, order: page(18) },
        Op::Split { pfn: u32::MAX, order: page(18), to: page(0) },
        Op::Free { pfn: u32::MAX, order: page(18), kind: FreeKind::Larger },
    ];
    for op in all {
        // Each is written; what can't be is refused when it is read.
        let reading = Reading { as_recorded: false, merges: true };
        let compiled = of(&written([(0, op)])).and_then(|trace| compile(&trace, reading));
        assert_eq!(compiled.is_ok(), matches!(op, Op::Collapse { .. }), "{op:?}");
    }
}

#[test]
fn a_clock_that_leaps_fills_no_memory() {
    let times = [(u64::MAX, 1), (0, 1), (0, 2)];
    let file = written(times.map(|(ns, pfn)| (ns, Op::Alloc { pfn, order: page(0) })).into_iter().take(2));
    assert_eq!((of(&file).unwrap().len(), of(&file).unwrap().duration_ns()), (2, 0), "it only goes back");
    let file = written([(0, Op::Time), (u64::MAX, Op::Time), (u64::MAX, Op::Time)]);
    let trace = of(&file).unwrap();
    assert_eq!((trace.duration_ns(), trace.header.duration_ns), (LONGEST_SILENCE_NS, LONGEST_SILENCE_NS));
    assert!(trace.len() <= (1 << 18) + 3);
}

#[test]
fn rounds_and_counts_take_any_number() {
    let plan = plan(&written(pair(0, page(0))));
    for protocol in Protocol::ALL {
        let setup = Setup { protocol, threads: 0, zone_frames: None };
        assert_eq!(setup.rounds(&plan, 0, &NoWatch).unwrap().tally.allocs, 1, "0 counts as 1");
        for frames in [MOST_FRAMES + 1, u64::MAX] {
            let setup = Setup { zone_frames: Some(frames), ..setup };
            let no_room = ReplayError::NoRoom { frames, limit: MOST_FRAMES };
            assert_eq!(setup.rounds(&plan, u64::MAX, &NoWatch).err(), Some(no_room));
            assert_eq!(setup.frames(&plan), Err(no_room));
            assert_eq!(setup.course(&plan), Err(no_room));
        }
        let setup = Setup { threads: usize::MAX, ..setup };
        assert!(setup.rounds(&plan, u64::MAX, &NoWatch).is_err());
    }
    for n in [0, 1, u64::MAX] {
        let outcome = Outcome::new("test", Protocol::OneWord, n, n, Some(n), &plan, Measured::default());
        assert_eq!(outcome.events, plan.events().saturating_mul(n));
        assert_eq!(outcome.is_clean(), n > 0);
    }
}
