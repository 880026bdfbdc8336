//! The reader against every kind of damage: always an error that says where, never a panic.

use super::{Op, RecordFault, Trace, TraceError, builtins, read};
use crate::support::{Dice, Writer, compress};
use crate::{Reading, compile};

const LIMIT: u64 = 1 << 26;

fn open(file: &[u8]) -> Result<Trace, TraceError> {
    read("test".into(), file, LIMIT)
}

/// Reads and checks everything there is to check.
fn full(file: &[u8]) -> Result<(), TraceError> {
    let trace = open(file)?;
    for merges in [false, true] {
        compile(&trace, Reading { as_recorded: merges, merges })?;
    }
    Ok(())
}

fn sample() -> Writer {
    let mut writer = Writer::new(4096);
    writer.alloc(512, 9).pin(700, 2).alloc(3, 0).split_fail(512, 9).unpin(700, 2).free(512, 9).time();
    writer.alloc(1024, 9).pin(1030, 1).unpin(1030, 1).split(1024, 9, 0).collapse(1024).free(1030, 0);
    writer
}

fn fault(writer: &Writer) -> (u64, RecordFault) {
    match full(&writer.file()) {
        Err(TraceError::Record { index, fault, .. }) => (index, fault),
        other => panic!("expected a faulty record, found {other:?}"),
    }
}

#[test]
fn sample_is_sound() {
    full(&sample().file()).unwrap();
    let trace = open(&sample().file()).unwrap();
    assert_eq!((trace.len(), trace.duration_ns()), (13, 13_000));
    assert!(
        matches!(trace.records().next(), Some(Ok(record)) if matches!(record.op, Op::Alloc { pfn: 512, .. }))
    );
}

#[test]
fn builtins_are_sound() {
    for builtin in builtins() {
        let trace = builtin.open().unwrap();
        assert_eq!(trace.header.records, trace.len() as u64);
        assert!(trace.text.contains(&format!("stat records {}\n", trace.len())));
    }
}

#[test]
fn an_empty_trace_is_a_trace() {
    full(&Writer::new(0).file()).unwrap();
}

#[test]
fn every_truncation_is_an_error() {
    let (raw, file) = (sample().raw(), sample().file());
    for length in 0..raw.len() {
        let error = full(&compress(&raw[..length])).expect_err("truncated before compression");
        assert!(!error.to_string().is_empty());
        if length > raw.len() - sample().records.len() {
            let index = (length - (raw.len() - sample().records.len())) / 16;
            assert!(error.to_string().contains(&format!("record {index} of 13")), "{error}");
        }
    }
    for length in 0..file.len() {
        full(&file[..length]).expect_err("truncated after compression");
    }
}

#[test]
fn trailing_bytes_are_an_error() {
    let mut raw = sample().raw();
    raw.push(0);
    assert!(matches!(full(&compress(&raw)), Err(TraceError::TooLong { records: 13 })));
    let mut file = sample().file();
    file.extend_from_slice(b"tail");
    assert!(matches!(full(&file), Err(TraceError::Damaged { .. })));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let raw = sample().raw();
    // The duration and the text are not covered by the checksum and decide nothing.
    let free = (32..40).chain(64..64 + sample().text.len());
    let free: Vec<usize> = free.collect();
    for at in (0..raw.len()).filter(|at| !free.contains(at)) {
        for bit in 0..8 {
            let mut raw = raw.clone();
            raw[at] ^= 1 << bit;
            let result = full(&compress(&raw));
            // Of the highest frame number only those bits matter that some record needs.
            assert!(result.is_err() || (24..32).contains(&at), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn damaged_compression_never_panics() {
    let file = sample().file();
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut file = file.clone();
            file[at] ^= 1 << bit;
            let _ = full(&file);
        }
    }
    let builtin = builtins()[0].open().unwrap();
    drop(builtin);
}

#[test]
fn random_records_never_panic() {
    let mut dice = Dice(0x7a11);
    let mut whole = 0;
    for _ in 0..3000 {
        let mut writer = Writer::new(2048);
        for _ in 0..dice.below(60) {
            let order = if dice.below(4) == 0 { 9 } else { dice.below(3) as u8 };
            let pfn = (dice.below(2048) as u32) >> order << order;
            let aux = dice.below(3) as u32;
            writer.record(dice.below(10) as u8, pfn, aux, order, dice.below(2) as u8);
        }
        if dice.below(3) == 0 && !writer.records.is_empty() {
            let at = dice.below(writer.records.len() as u64) as usize;
            writer.records[at] = dice.roll() as u8;
        }
        whole += u32::from(full(&writer.file()).is_ok());
    }
    assert!(whole > 0, "not even the empty ones were sound");
}

#[test]
fn random_bytes_never_panic() {
    let mut dice = Dice(0xbad5eed);
    for length in 0..400 {
        let bytes: Vec<u8> = (0..length).map(|_| dice.roll() as u8).collect();
        full(&bytes).expect_err("noise");
        full(&compress(&bytes)).expect_err("compressed noise");
        let mut header = sample().raw();
        header.truncate(16);
        header.extend_from_slice(&bytes);
        full(&compress(&header)).expect_err("noise after a magic");
    }
}

#[test]
fn claims_are_not_believed() {
    let claim = |at: usize, value: u64| {
        let mut raw = sample().raw();
        raw[at..at + 8].copy_from_slice(&value.to_le_bytes());
        full(&compress(&raw)).expect_err("false claim").to_string()
    };
    assert!(claim(16, u64::MAX).contains("more than the limit"));
    assert!(claim(16, u64::MAX / 16).contains("more than the limit"));
    assert!(claim(16, LIMIT / 16).contains("more than the limit"));
    assert!(claim(16, LIMIT / 16 - 100).contains("truncated: ends before record 13 of"));
    assert!(claim(16, 12).contains("goes on after record 11"));
    assert!(claim(24, u64::MAX).contains("32 bits"));
    assert!(claim(40, 1).contains("checksum mismatch: records 0 to 12"));
    assert!(claim(48, u64::MAX).contains("text is longer"));
    assert!(claim(48, 1 << 20).contains("of its text"));
    assert!(claim(56, 1).contains("not zero"));
    // Version and record size share eight bytes.
    assert!(claim(8, 2 | 16 << 32).contains("version 2"));
    assert!(claim(8, 1 | 24 << 32).contains("records of 24 bytes"));
}

#[test]
fn a_bomb_is_refused_at_its_header() {
    let mut raw = Writer::new(1).raw();
    raw[16..24].copy_from_slice(&(u64::MAX >> 8).to_le_bytes());
    raw.resize(64 << 20, 0);
    assert!(matches!(full(&compress(&raw)), Err(TraceError::TooLarge { .. })));
}

#[test]
fn foreign_files_are_named_so() {
    assert!(matches!(full(b""), Err(TraceError::Empty)));
    assert!(matches!(full(b"\x7fELF\x02\x01\x01"), Err(TraceError::NotZstd)));
    let foreign = full(&compress(b"hello, this is some text that is long enough to be no trace at all...."));
    assert!(matches!(foreign, Err(TraceError::BadMagic { .. })));
    assert!(matches!(full(&compress(b"PFTRACE1")), Err(TraceError::ShortHeader { bytes: 8 })));
}

#[test]
fn each_record_is_checked_by_itself() {
    use RecordFault as F;
    let only = |op, pfn, aux, order, mt| {
        let mut writer = Writer::new(1024);
        writer.time().record(op, pfn, aux, order, mt);
        let (index, fault) = fault(&writer);
        assert_eq!(index, 1);
        fault
    };
    assert_eq!(only(0, 0, 0, 0, 0), F::UnknownOp { op: 0 });
    assert_eq!(only(9, 0, 0, 0, 0), F::UnknownOp { op: 9 });
    assert_eq!(only(1, 0, 0, 19, 0), F::BadOrder { order: 19 });
    assert!(matches!(only(1, 1, 0, 1, 0), F::Unaligned { pfn: 1, .. }));
    assert!(matches!(only(1, u32::MAX, 0, 1, 0), F::Unaligned { pfn: u32::MAX, .. }));
    assert_eq!(only(2, 0, 3, 0, 0), F::BadAux { op: "FREE", aux: 3 });
    assert_eq!(only(3, 0, 2, 9, 0), F::BadAux { op: "SPLIT", aux: 2 });
    assert!(matches!(only(3, 0, 0, 9, 9), F::SplitNotSmaller { .. }));
    assert!(matches!(only(3, 0, 0, 9, 10), F::SplitNotSmaller { .. }));
    assert!(matches!(only(3, 0, 0, 9, 255), F::BadOrder { order: 255 }));
    assert!(matches!(only(8, 0, 0, 0, 0), F::SplitNotSmaller { .. }));
    assert_eq!(only(4, 0, 0, 0, 0), F::NoReferences);
    assert_eq!(only(5, 0, 65_536, 0, 0), F::TooManyReferences { refs: 65_536 });
    assert!(matches!(only(4, 1024, 1, 0, 0), F::NotLive { op: "PIN", pfn: 1024 }));
}

#[test]
fn each_record_is_checked_against_those_before() {
    use RecordFault as F;
    let after = |build: &dyn Fn(&mut Writer) -> &mut Writer| {
        let mut writer = Writer::new(4096);
        writer.alloc(512, 9).alloc(3, 0).pin(600, 2);
        build(&mut writer);
        let (index, fault) = fault(&writer);
        assert_eq!(index, writer.records.len() as u64 / 16 - 1);
        fault
    };
    assert!(matches!(after(&|w| w.alloc(600, 0)), F::OverLive { live: 512, .. }));
    assert!(matches!(after(&|w| w.alloc(0, 2)), F::OverLive { live: 3, .. }));
    assert!(matches!(after(&|w| w.alloc(0, 11)), F::OverLive { .. }));
    assert!(matches!(after(&|w| w.free(4, 0)), F::NotLive { op: "FREE", pfn: 4 }));
    assert!(matches!(after(&|w| w.free(513, 0)), F::NotLive { op: "FREE", .. }));
    assert!(matches!(after(&|w| w.free(512, 8)), F::WrongOrder { op: "FREE", .. }));
    assert!(matches!(after(&|w| w.free(512, 9)), F::FreedWhilePinned { pfn: 600, refs: 2 }));
    assert!(matches!(after(&|w| w.free(3, 0).free(3, 0)), F::NotLive { .. }));
    assert!(matches!(after(&|w| w.split(1024, 9, 0)), F::NotLive { op: "SPLIT", .. }));
    assert!(matches!(after(&|w| w.split(512, 8, 0)), F::WrongOrder { op: "SPLIT", .. }));
    assert!(matches!(after(&|w| w.split(512, 9, 1).split(512, 9, 0)), F::WrongOrder { .. }));
    assert!(matches!(after(&|w| w.split_fail(1024, 9)), F::NotLive { op: "SPLITFAIL", .. }));
    assert!(matches!(after(&|w| w.pin(1024, 1)), F::NotLive { op: "PIN", .. }));
    assert!(matches!(after(&|w| w.unpin(601, 1)), F::NotPinned { held: 0, .. }));
    assert!(matches!(after(&|w| w.unpin(600, 1).unpin(600, 2)), F::NotPinned { held: 1, .. }));
    assert!(matches!(after(&|w| w.record(2, 512, 2, 8, 0)), F::WrongOrder { op: "FREE", .. }));
    assert!(matches!(after(&|w| w.record(2, 512, 2, 9, 0)), F::FreedWhilePinned { .. }));
}

#[test]
fn hostile_sizes_are_bounded() {
    // Each of these asks for more than any machine recorded has.
    let mut live = Writer::new(1 << 32);
    for block in 0..1000 {
        live.alloc(block << 18, 18);
    }
    assert!(matches!(fault(&live), (256, RecordFault::Beyond { .. })));

    let mut refs = Writer::new(1024);
    refs.alloc(512, 9);
    for page in 0..512 {
        refs.pin(512 + page, 65_535);
    }
    assert!(matches!(fault(&refs), (65, RecordFault::Beyond { .. })));
}

#[test]
fn the_highest_frame_of_the_header_is_a_hint() {
    // A recorder that counts first frames alone says 513 of a block of 512 frames at 512; others
    // may say nothing.
    for hint in [0, 1, 513, 1 << 32] {
        let mut writer = Writer::new(hint);
        writer.alloc(512, 9).pin(1023, 1).collapse(900).unpin(1023, 1).free(512, 9);
        writer.alloc(u32::MAX, 0).free(u32::MAX, 0).alloc(0xfffc_0000, 18).pin(u32::MAX - 1, 1);
        let trace = open(&writer.file()).unwrap();
        assert_eq!(trace.header.frames, hint);
        compile(&trace, Reading { as_recorded: false, merges: true }).unwrap();
    }
}

/// What another program has packed is told by its name.
#[test]
fn what_is_packed_otherwise_says_how() {
    let of = |start: &[u8]| full(&[start, &[7; 100]].concat()).map(drop).unwrap_err().to_string();
    for (start, name) in [
        (&b"\x1f\x8b\x08\x00"[..], "gzip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh91AY", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"PK\x03\x04", "zip"),
        (b"\x37\xa4\x30\xec", "dictionary"),
        (b"\xef\xbb\xbfPFTRACE1", "text"),
    ] {
        let said = of(start);
        assert!(said.contains(name) && said.contains("zstd"), "{said}");
    }
    assert!(matches!(full(b"\x1f"), Err(TraceError::NotZstd)));
    // What only a dictionary decodes.
    let mut needs = compress(&sample().raw());
    needs.splice(4..5, [needs[4] | 1, 77]);
    let said = full(&needs).map(drop).unwrap_err().to_string();
    assert!(said.to_lowercase().contains("dictionary"), "{said}");
}

/// A frame that decoders skip.
fn skippable(nibble: u8, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x50 | nibble, 0x2a, 0x4d, 0x18];
    frame.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    frame.extend_from_slice(bytes);
    frame
}

/// One frame as zstd's tools make it with these settings.
fn frame(bytes: &[u8], level: i32, set: impl FnOnce(&mut zstd::Encoder<'_, Vec<u8>>)) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
    set(&mut encoder);
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_kind_of_zstd_stream_is_read() {
    let raw = sample().raw();
    let empty = compress(b"");
    let (head, tail) = raw.split_at(70);
    let plain = compress(&raw);
    let streams = [
        ("not compressed", raw.clone()),
        ("skippable first", [skippable(0, b"name"), plain.clone()].concat()),
        ("skippable last", [plain.clone(), skippable(15, b"")].concat()),
        ("empty first", [empty.clone(), plain.clone()].concat()),
        ("empty last", [plain.clone(), empty.clone(), empty.clone()].concat()),
        ("two frames", [compress(head), compress(tail)].concat()),
        (
            "all between",
            [compress(head), skippable(7, &[0; 300]), empty.clone(), skippable(3, b""), compress(tail)]
                .concat(),
        ),
        ("a frame a byte", raw.iter().flat_map(|byte| compress(&[*byte])).collect()),
        ("checksum", frame(&raw, 3, |zstd| zstd.include_checksum(true).unwrap())),
        ("no content size", frame(&raw, 3, |zstd| zstd.include_contentsize(false).unwrap())),
        ("content size", frame(&raw, 3, |zstd| zstd.set_pledged_src_size(Some(raw.len() as u64)).unwrap())),
        ("fast", frame(&raw, -7, |_| {})),
        ("long window", frame(&raw, 1, |zstd| zstd.window_log(31).unwrap())),
        (
            "ultra, long",
            frame(&raw, 3, |zstd| {
                zstd.long_distance_matching(true).unwrap();
                zstd.window_log(30).unwrap();
            }),
        ),
    ];
    for (what, stream) in streams {
        let trace = open(&stream).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(trace.len(), 13, "{what}");
    }
    // In a stream without a checksum of its own, the trace's own finds what is damaged or cut.
    assert!(matches!(
        full(&[compress(head), skippable(0, b"x")].concat()),
        Err(TraceError::ShortText { .. })
    ));
    assert!(matches!(full(&empty), Err(TraceError::ShortHeader { bytes: 0 })));
    assert!(matches!(full(&skippable(1, b"only")), Err(TraceError::ShortHeader { bytes: 0 })));
    for length in 0..raw.len() {
        full(&raw[..length]).expect_err("cut");
    }
    let mut more = raw;
    more.push(0);
    assert!(matches!(full(&more), Err(TraceError::TooLong { records: 13 })));
}

#[test]
fn a_source_that_gives_a_byte_at_a_time_is_read() {
    struct Slow<'b>(&'b [u8]);
    impl std::io::Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let wanted = into.len().min(1);
            std::io::Read::read(&mut self.0, &mut into[..wanted])
        }
    }
    for file in [sample().file(), sample().raw()] {
        assert_eq!(read("slow".into(), Slow(&file), LIMIT).unwrap().len(), 13);
    }
}
