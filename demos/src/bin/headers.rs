//! Headers: 41 values of each frame are kept, cut from read buffers of 2 MiB.
//!
//! An HTTP/2 decoder can hand out header values as slices of its read buffer, which is quick and
//! keeps 2 MiB for 20 bytes, or as copies, which is 41 allocations a frame. Here 8,000 requests are
//! under way, each with its headers; each new one takes the place of one that is over, which may be
//! any of them. Bodies are read and forgotten.

use std::error::Error;
use std::ops::Range;
use std::sync::Barrier;

use bytes::Bytes;
use tailpin_arena::{Arena, Policy, bytes::detach_with};
use tailpin_demos::arms::{arm, median, numbers, picture};
use tailpin_demos::cost::{cpu_seconds, held, machine, mib};
use tailpin_demos::picture::{Bar, Panel, bars};

const BUFFER: usize = 2 << 20;
const VALUES: usize = 41;
/// A request: a frame of headers, and a body behind it.
const REQUEST: usize = 16 << 10;
const PAGE: usize = 4096;
/// Requests that all threads together read.
const REQUESTS: usize = 100_000;
/// Requests under way at a time, on all threads together.
const UNDER_WAY: usize = 8000;
const RUNS: usize = 3;

const ARMS: [(&str, &str); 6] = [
    ("read", "only read, none kept"),
    ("sharing", "slices of Bytes"),
    ("copying", "copies, a value each"),
    ("block", "copies, a frame each"),
    ("fragments", "Tailpin, fragments"),
    ("repin", "Tailpin, re-pin"),
];

/// A frame of headers as it comes: its bytes, and where its values are.
struct Frame {
    bytes: Vec<u8>,
    values: [Range<usize>; VALUES],
}

/// Lengths from 4 to 40, 22 on average, with as much for a name before each.
fn frame() -> Frame {
    let mut bytes = Vec::new();
    let values = std::array::from_fn(|i| {
        bytes.extend(std::iter::repeat_n(b':', 4 + i % 9));
        let start = bytes.len();
        bytes.extend((0..4 + (i * 17) % 37).map(|j| b'a' + ((i + j) % 26) as u8));
        start..bytes.len()
    });
    Frame { bytes, values }
}

/// What a request has of its headers.
type Headers = [Bytes; VALUES];

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(arm) = arm() {
        return run(&arm, std::env::var("DEMO_THREADS")?.parse()?);
    }
    let Frame { bytes, values } = frame();
    let alive: usize = values.iter().map(Range::len).sum();
    println!("{}", machine());
    println!("median of {RUNS} runs; {REQUESTS} requests of 16 KiB, each with a frame of headers of");
    println!("{} bytes with {VALUES} values ({alive} bytes); {UNDER_WAY} under way at a time", bytes.len());
    println!("\n{:<24} {:>22} {:>22} {:>22}", "", "1 thread", "2 threads", "8 threads");
    let mut panels = Vec::new();
    for threads in ["1", "2", "8"] {
        let plural = if threads == "1" { "" } else { "s" };
        for what in ["CPU time a request", "held for the requests under way"] {
            panels.push(Panel { title: format!("{what}, {threads} thread{plural}"), bars: Vec::new() });
        }
    }
    for (arm, name) in ARMS {
        print!("{name:<24}");
        for (i, threads) in ["1", "2", "8"].into_iter().enumerate() {
            let runs = numbers(arm, RUNS, &[("DEMO_THREADS", threads)])?;
            let (ns, held) = (median(&runs, 0), median(&runs, 1));
            print!(" {ns:>8.0} ns {held:>6.1} MiB");
            let ours = name.starts_with("Tailpin");
            let bar = |value, told| Bar { name: name.to_owned(), value, told, ours };
            panels[2 * i].bars.push(bar(ns, format!("{ns:.0} ns")));
            panels[2 * i + 1].bars.push(bar(held, format!("{held:.1} MiB")));
        }
        println!();
    }
    let [values, handles] = [alive, size_of::<Headers>()].map(|bytes| mib((UNDER_WAY * bytes) as u64));
    println!("\nalive in each: {values:.1} MiB of values, {handles:.1} MiB of handles");
    if let Some(path) = picture() {
        // One thread and eight; two are in the table.
        panels.drain(2..4);
        std::fs::write(path, bars(&panels))?;
    }
    Ok(())
}

fn run(arm: &str, threads: usize) -> Result<(), Box<dyn Error>> {
    let arena = Arena::builder().limit(1 << 30).build()?;
    let frame = frame();
    let (before, started) = (held(), cpu_seconds());
    let all_are_done = Barrier::new(threads + 1);
    let may_go = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let kept = connection(arm, &arena, &frame, threads);
                all_are_done.wait();
                may_go.wait();
                for headers in kept.iter().flatten() {
                    for (value, range) in headers.iter().zip(&frame.values) {
                        assert_eq!(value[..], frame.bytes[range.clone()], "what is kept is what came");
                    }
                }
            });
        }
        all_are_done.wait();
        let _ = arena.release(usize::MAX);
        let (cpu, held) = (cpu_seconds() - started, held().saturating_sub(before));
        println!("{} {}", cpu * 1e9 / REQUESTS as f64, mib(held));
        may_go.wait();
    });
    Ok(())
}

/// Reads its share of the requests; returns the headers of those that are under way at the end.
fn connection(arm: &str, arena: &Arena, frame: &Frame, threads: usize) -> Vec<Option<Headers>> {
    let mut under_way: Vec<Option<Headers>> = (0..UNDER_WAY / threads).map(|_| None).collect();
    let mut seed = 7_usize;
    let mut cut = |block: Block<'_>| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let slots = under_way.len();
        under_way[(seed >> 33) % slots] = headers(arm, arena, block, frame);
    };
    // What comes from byte `at` of a buffer on, in whole pages.
    let receive = |at: usize, part: &mut [u8]| {
        for (i, page) in part.chunks_exact_mut(PAGE).enumerate() {
            let is_first = (at + i * PAGE).is_multiple_of(REQUEST);
            let (headers, body) = page.split_at_mut(if is_first { frame.bytes.len() } else { 0 });
            headers.copy_from_slice(&frame.bytes[..headers.len()]);
            body.fill(7);
        }
    };
    let frames = || (0..BUFFER / REQUEST).map(|i| i * REQUEST..i * REQUEST + frame.bytes.len());
    // Where values don't lie in the read buffer, it is used again.
    let mut own = vec![0; BUFFER];
    for _ in 0..REQUESTS / threads / (BUFFER / REQUEST) {
        match arm {
            "sharing" => {
                let mut buffer = vec![0; BUFFER];
                receive(0, &mut buffer);
                let buffer = Bytes::from(buffer);
                frames().for_each(|range| cut(Block::Shared(&buffer.slice(range))));
            }
            "repin" => {
                // In pages of their own, as `readv` fills them: any page that is free will do.
                let mut buffer = arena.alloc_scattered(BUFFER, PAGE).expect("within the limit");
                for at in (0..BUFFER).step_by(PAGE) {
                    receive(at, &mut buffer.spare()[..PAGE]);
                    buffer.advance(PAGE);
                }
                for page in buffer.freeze().into_iter().step_by(REQUEST / PAGE) {
                    let page = Bytes::from(page);
                    cut(Block::Shared(&page.slice(..frame.bytes.len())));
                }
            }
            _ => {
                receive(0, &mut own);
                frames().for_each(|range| cut(Block::Lent(&own[range])));
            }
        }
    }
    under_way
}

/// A frame in the read buffer.
enum Block<'a> {
    /// A part of the buffer that can be kept.
    Shared(&'a Bytes),
    /// To be copied from.
    Lent(&'a [u8]),
}

/// The values of a frame, in the way that the arm says.
fn headers(arm: &str, arena: &Arena, block: Block<'_>, frame: &Frame) -> Option<Headers> {
    let of = |block: &Bytes| -> Headers { std::array::from_fn(|i| block.slice(frame.values[i].clone())) };
    match (arm, block) {
        ("sharing", Block::Shared(block)) => Some(of(block)),
        // One pin on the pages of the frame; its values share it.
        ("repin", Block::Shared(block)) => Some(of(&detach_with(block, Policy::CopyBelow(0)))),
        ("copying", Block::Lent(block)) => {
            Some(std::array::from_fn(|i| Bytes::copy_from_slice(&block[frame.values[i].clone()])))
        }
        ("block", Block::Lent(block)) => Some(together(block, frame, Bytes::copy_from_slice)),
        ("fragments", Block::Lent(block)) => {
            Some(together(block, frame, |values| Bytes::from(arena.copy(values).expect("within the limit"))))
        }
        _ => None,
    }
}

/// All values of a frame in one copy, of which each is a slice.
fn together(block: &[u8], frame: &Frame, copy: impl FnOnce(&[u8]) -> Bytes) -> Headers {
    let mut values = [0; 1024];
    let mut end = 0;
    let ranges = frame.values.each_ref().map(|range| {
        let start = end;
        end += range.len();
        values[start..end].copy_from_slice(&block[range.clone()]);
        start..end
    });
    let copy = copy(&values[..end]);
    ranges.map(|range| copy.slice(range))
}
