//! Taking a reference and giving it back, beside `Arc`, `Weak`, `Bytes` and bare atomics.
//!
//! Nothing forces the handles into memory, ours or theirs: compilers don't remove atomic
//! operations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tailpin::{OneWord, Order, Protocol};
use tailpin_classic::Classic;

use super::cases::case;
use crate::recorder::{Recorder, Run};
use crate::subjects::{Memory, zone};

/// Frames of the zone: room for a block of 1 GiB and one more.
const FRAMES: u64 = 2 << 18;

/// A bare word with a cache line of its own.
#[repr(align(128))]
#[derive(Default)]
struct Alone(AtomicU64);

fn add_sub(word: &AtomicU64) {
    word.fetch_add(1, Ordering::Relaxed);
    word.fetch_sub(1, Ordering::AcqRel);
}

fn get_unless_zero(word: &AtomicU64) {
    let mut seen = word.load(Ordering::Relaxed);
    while seen != 0 {
        match word.compare_exchange_weak(seen, seen + 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => {
                word.fetch_sub(1, Ordering::AcqRel);
                return;
            }
            Err(now) => seen = now,
        }
    }
}

/// The cases of one protocol in the scenarios of one thread.
fn handles<'z, P: Protocol>(scenario: &str, zone: &'z tailpin::Zone<'z, P>) -> Option<Run<'z>> {
    let one_gib = Order::new(18)?;
    Some(match scenario {
        "pageref-clone-drop" => {
            let page = zone.alloc(Order::PAGE).ok()?;
            let pin = page.pin(0).ok()?;
            case("pageref-clone-drop", 1, move |_| {
                let _keep = &page;
                drop(pin.clone());
            })
        }
        "speculative-get-drop" => {
            let page = zone.alloc(Order::PAGE).ok()?;
            case("speculative-get-drop", 1, move |_| {
                drop(zone.try_pin(page.pfn()));
            })
        }
        "speculative-get-drop-tail" => {
            let block = zone.alloc(Order::HUGE).ok()?;
            case("speculative-get-drop-tail", 1, move |_| {
                drop(zone.try_pin(block.pfn().offset(77)));
            })
        }
        "block-4k-clone-drop" | "block-2m-clone-drop" | "block-1g-clone-drop" => {
            let (name, order) = match scenario {
                "block-4k-clone-drop" => ("block-4k-clone-drop", Order::PAGE),
                "block-2m-clone-drop" => ("block-2m-clone-drop", Order::HUGE),
                _ => ("block-1g-clone-drop", one_gib),
            };
            let block = zone.alloc(order).ok()?;
            case(name, 1, move |_| {
                drop(block.clone());
            })
        }
        "contended-page" => {
            let page = zone.alloc(Order::PAGE).ok()?;
            let pin = page.pin(0).ok()?;
            case("contended-page", 2, move |_| {
                let _keep = &page;
                drop(pin.clone());
            })
        }
        "contended-tail" => {
            let block = zone.alloc(Order::HUGE).ok()?;
            let pin = block.pin(77).ok()?;
            case("contended-tail", 2, move |_| {
                let _keep = &block;
                drop(pin.clone());
            })
        }
        "two-tails" => {
            let block = zone.alloc(Order::HUGE).ok()?;
            let pins = [block.pin(64).ok()?, block.pin(128).ok()?];
            case("two-tails", 2, move |seat| {
                let _keep = &block;
                drop(pins[seat].clone());
            })
        }
        _ => return None,
    })
}

/// Measures scenarios that are compared with each other in turn, subject by subject; `bare` has the
/// cases of the others.
fn measure<'b>(
    recorder: &mut Recorder<'_>,
    scenarios: &[&'static str],
    bare: impl Fn(&'static str) -> Vec<(&'static str, Run<'b>)>,
) {
    let wanted: Vec<_> = scenarios.iter().copied().filter(|scenario| recorder.wants(scenario)).collect();
    let memories: Vec<_> = wanted
        .iter()
        .map(|_| (Memory::new::<OneWord<'_>>(FRAMES), Memory::new::<Classic<'_>>(FRAMES)))
        .collect();
    let zones: Vec<_> = memories
        .iter()
        .map(|(ours, theirs)| (zone::<OneWord<'_>>(ours, FRAMES), zone::<Classic<'_>>(theirs, FRAMES)))
        .collect();
    let mut cases = Vec::new();
    for (&scenario, (one_word, classic)) in wanted.iter().zip(&zones) {
        cases.extend(bare(scenario));
        cases.extend(handles(scenario, one_word).map(|run| ("tailpin", run)));
        cases.extend(handles(scenario, classic).map(|run| ("tailpin-classic", run)));
    }
    recorder.interleave(recorder.effort.repetitions, cases);
}

/// The peers, for as many threads as the scenario has.
fn peers<'s>(
    scenario: &'static str,
    threads: usize,
    things: &'s (Arc<[u8; 64]>, Weak<[u8; 64]>, Bytes),
    words: &'s [Alone; 2],
    own: bool,
) -> Vec<(&'static str, Run<'s>)> {
    let word = move |seat: usize| &words[if own { seat } else { 0 }].0;
    let mut cases = vec![
        ("bare-fetch-add-sub", case(scenario, threads, move |seat| add_sub(word(seat)))),
        ("bare-get-unless-zero", case(scenario, threads, move |seat| get_unless_zero(word(seat)))),
    ];
    if !own {
        let (arc, weak, bytes) = things;
        cases.push(("arc", case(scenario, threads, move |_| drop(Arc::clone(arc)))));
        cases.push(("weak-upgrade", case(scenario, threads, move |_| drop(weak.upgrade()))));
        cases.push(("bytes", case(scenario, threads, move |_| drop(bytes.clone()))));
    }
    cases
}

fn things() -> (Arc<[u8; 64]>, Weak<[u8; 64]>, Bytes) {
    let arc = Arc::new([1; 64]);
    let weak = Arc::downgrade(&arc);
    let bytes = Bytes::from(vec![1; 64]);
    drop(bytes.clone()); // Its first clone moves it to a shared form.
    (arc, weak, bytes)
}

fn words() -> [Alone; 2] {
    std::array::from_fn(|_| Alone(AtomicU64::new(1)))
}

pub(super) fn one_thread(recorder: &mut Recorder<'_>) {
    let (things, words) = (things(), words());
    let many: Vec<AtomicU64> = (0..512).map(|_| AtomicU64::new(1)).collect();
    let bare = |scenario| {
        let mut bare = peers(scenario, 1, &things, &words, false);
        if scenario == "block-2m-clone-drop" {
            bare.push(("bare-512-counts", case(scenario, 1, |_| many.iter().for_each(add_sub))));
        }
        bare
    };
    measure(recorder, &["pageref-clone-drop"], bare);
    measure(recorder, &["speculative-get-drop"], bare);
    measure(recorder, &["speculative-get-drop-tail"], bare);
    measure(recorder, &["block-4k-clone-drop", "block-2m-clone-drop", "block-1g-clone-drop"], bare);
}

pub(super) fn two_threads(recorder: &mut Recorder<'_>) {
    if recorder.cores() < 2 {
        return;
    }
    let (things, words) = (things(), words());
    for (scenario, own) in [("contended-page", false), ("contended-tail", false), ("two-tails", true)] {
        measure(recorder, &[scenario], |scenario| peers(scenario, 2, &things, &words, own));
    }
}
