//! Where keeping by a pin becomes cheaper than keeping by a copy: the figures behind
//! `Policy::default()`.
//!
//! Records of one size fill 2 MiB buffers; a share of them, at random, is kept until the next
//! buffer has been read, as a cache would. Printed are, for each record size, the time a kept
//! record costs (taking it, giving it up, and its part of taking the buffer apart) and the memory
//! it keeps, by either way.
//!
//! ```sh
//! cargo run --release -p tailpin-arena --example break_even
//! ```

use std::hint::black_box;
use std::time::{Duration, Instant};

use tailpin_arena::{Arena, Kept, Policy};

const BUFFER: usize = 2 << 20;
const BUFFERS: usize = 48;
/// Records begin where the last one ended, after a header of this many bytes: as in a log, not on
/// page boundaries.
const HEADER: usize = 24;

struct Cost {
    ns: f64,
    bytes: f64,
}

/// Keeps `share` of the records of each buffer under `policy`.
fn measure(arena: &Arena, record: usize, share: f64, policy: Policy) -> Cost {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let (mut time, mut records, mut bytes) = (Duration::ZERO, 0usize, 0usize);
    let mut old: Vec<Kept> = Vec::new();
    for round in 0..BUFFERS {
        let mut buffer = arena.alloc(BUFFER).expect("the arena has room for two");
        buffer.fill(round as u8);
        let mut ranges = Vec::new();
        let mut at = 0;
        while at + HEADER + record <= BUFFER {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            if (seed >> 11) as f64 / (1u64 << 53) as f64 <= share {
                ranges.push(at + HEADER..at + HEADER + record);
            }
            at += HEADER + record;
        }
        let mut kept = Vec::with_capacity(ranges.len());
        let whole = buffer.freeze();
        let start = Instant::now();
        match policy {
            // What a copying program does: it needs no slice.
            Policy::CopyBelow(usize::MAX) => {
                kept.extend(
                    ranges.iter().map(|range| Kept::Copied(Box::from(black_box(&whole[range.clone()])))),
                );
            }
            _ => kept.extend(ranges.iter().map(|range| whole.slice(range.clone()).keep(policy))),
        }
        drop(whole);
        old.clear();
        time += start.elapsed();
        if round > 0 {
            // The heap rounds up to 16 and adds 8; the arena says what it keeps.
            let copied = kept.iter().filter(|kept| matches!(kept, Kept::Copied(_)));
            bytes += arena.stats().in_use()
                + copied.map(|kept| (kept.len() + 8).next_multiple_of(16)).sum::<usize>();
            records += kept.len();
        }
        old = kept;
    }
    Cost { ns: time.as_nanos() as f64 / records.max(1) as f64, bytes: bytes as f64 / records.max(1) as f64 }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arena = Arena::builder().size(64 << 20).populate(true).build()?;
    println!("share  record |  copy ns   pin ns | copy bytes  pin bytes (kept per byte)");
    for share in [0.01, 0.1, 0.3, 0.6] {
        for shift in 7..=16 {
            let record = 1 << shift;
            let mut best: [Option<Cost>; 2] = [None, None];
            for _ in 0..5 {
                for (best, policy) in
                    best.iter_mut().zip([Policy::CopyBelow(usize::MAX), Policy::CopyBelow(0)])
                {
                    let cost = measure(&arena, record, share, policy);
                    if best.as_ref().is_none_or(|best| cost.ns < best.ns) {
                        *best = Some(cost);
                    }
                }
            }
            let [Some(copy), Some(pin)] = best else { continue };
            println!(
                "{share:5.2} {record:7} | {:8.0} {:8.0} | {:10.0} {:10.0} ({:.2})",
                copy.ns,
                pin.ns,
                copy.bytes,
                pin.bytes,
                pin.bytes / record as f64
            );
        }
    }
    Ok(())
}
