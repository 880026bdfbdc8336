//! Figures that cost the same whatever the arena's size, and who is told of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use tailpin_arena::{AllocError, Arena};

use crate::common::{HUGE, MIB, PAGE};

#[test]
fn counters_follow_what_happens() {
    let arena = Arena::builder().size(64 * MIB).limit(8 * MIB).build().unwrap();
    let before = arena.counters();
    assert_eq!((before.in_use, before.refused, before.waited, before.released), (0, 0, 0, 0));
    assert_eq!((before.limit, before.largest_free), (Some(8 * MIB), 64 * MIB));

    let mut kept = arena.alloc(6 * MIB).unwrap();
    kept.fill(1);
    assert!(arena.try_alloc(4 * MIB).is_err());
    assert!(arena.try_reserve(4 * MIB).is_err());
    assert!(arena.alloc(9 * MIB).is_err());
    assert!(arena.reserve_timeout(4 * MIB, Duration::from_millis(1)).is_err());
    assert!(arena.tag("t").unwrap().try_alloc(4 * MIB).is_err());
    let counters = arena.counters();
    assert_eq!((counters.in_use, counters.refused, counters.waited), (6 * MIB, 5, 1));
    assert!(counters.resident >= 6 * MIB, "{counters}");

    thread::scope(|scope| {
        let waits = scope.spawn(|| arena.alloc(4 * MIB).unwrap());
        while arena.counters().waiting == 0 {
            thread::yield_now();
        }
        drop(kept);
        drop(waits.join().unwrap());
    });
    let counters = arena.counters();
    assert_eq!((counters.in_use, counters.refused, counters.waited, counters.waiting), (0, 5, 2, 0));

    let released = arena.release(usize::MAX).unwrap();
    let counters = arena.counters();
    assert_eq!((counters.releases, counters.released), (1, released.returned as u64));
    assert_eq!(counters.resident, 0);
}

#[test]
fn the_largest_free_block_is_seen_without_a_walk() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    assert_eq!(arena.counters().largest_free, 16 * MIB);
    let mut all: Vec<_> = (0..8).map(|_| arena.alloc(HUGE).unwrap().freeze()).collect();
    assert_eq!(arena.counters().largest_free, 0);
    let pinned: Vec<_> = all.drain(..1).map(|whole| whole.slice(PAGE..2 * PAGE)).collect();
    assert_eq!(arena.counters().largest_free, MIB);
    drop(pinned);
    assert!(arena.counters().largest_free >= MIB);
    assert_eq!(arena.largest_free(), HUGE);
    drop(all);
    assert!(arena.counters().largest_free >= HUGE);
    assert_eq!(arena.largest_free(), 16 * MIB);
    assert_eq!(arena.counters().largest_free, 16 * MIB, "once free pages have been gathered");
}

/// Minor page faults of this thread so far.
fn page_faults() -> i64 {
    // SAFETY: zeroes are one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: room for what is written.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
    usage.ru_minflt
}

/// A walk would touch a page of words for each few pageblocks, and so have more than ten thousand
/// page faults in an arena that was never used; a look touches as many as it has words to look at.
#[test]
fn a_scrape_touches_as_few_words_at_a_tebibyte_as_at_a_gibibyte() {
    let faults = [1_usize << 30, 1 << 40].map(|size| {
        let arena = match Arena::builder().size(size).build() {
            Ok(arena) => arena,
            Err(error) => {
                println!("skipped: no address space of {size} bytes: {error}");
                return 0;
            }
        };
        let kept = arena.alloc(PAGE).unwrap();
        let before = page_faults();
        let counters = arena.counters();
        let faults = page_faults() - before;
        assert_eq!((counters.in_use, counters.largest_free), (PAGE, (1 << 30).min(size / 2)));
        let before = page_faults();
        assert_eq!(arena.counters(), counters);
        assert!(page_faults() - before <= 4, "the second look finds the same words");
        drop(kept);
        faults
    });
    assert!(faults.iter().all(|faults| *faults <= 100), "{faults:?}");
}

#[test]
fn who_keeps_the_most_is_found_part_by_part() {
    let arena = Arena::builder().size(64 * MIB).build().unwrap();
    let kept: Vec<_> = (0..20)
        .map(|i| arena.alloc_tagged(HUGE, &format!("buffer {i}")).unwrap().freeze().slice(..(i + 1) * PAGE))
        .collect();
    let large = arena.alloc_tagged(8 * MIB, "large").unwrap();
    let all = arena.worst_holders(usize::MAX);
    assert_eq!((all.len(), all[0].tag.as_deref(), all[0].kept_bytes), (21, Some("large"), 8 * MIB));
    for most in [1, 3, 7, 100] {
        let mut found = Vec::new();
        let mut calls = 0;
        loop {
            let (some, done) = arena.worst_holders_within(usize::MAX, most);
            assert!(some.len() <= most, "{most}: at most a buffer of each 2 MiB here");
            found.extend(some);
            calls += 1;
            if done {
                break;
            }
        }
        assert_eq!(calls, 21_usize.div_ceil(most).max(1), "{most}");
        let places = |holders: &[tailpin_arena::Holder]| {
            holders.iter().map(|holder| (holder.offset, holder.kept_bytes)).collect::<BTreeMap<_, _>>()
        };
        assert_eq!((places(&found), found.len()), (places(&all), all.len()), "{most}");
    }
    drop((kept, large));
    assert_eq!(arena.worst_holders_within(1, 1).0, []);
}

/// A recorder that keeps the last value of each metric.
#[derive(Clone, Default)]
struct Values(Arc<Mutex<BTreeMap<String, f64>>>);

struct Value {
    values: Values,
    name: String,
}

impl Values {
    fn value(&self, key: &Key) -> Arc<Value> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(Value { values: self.clone(), name: format!("{}{{{}}}", key.name(), labels.join(",")) })
    }
}

impl Value {
    fn keep(&self, value: f64) {
        self.values.0.lock().unwrap().insert(self.name.clone(), value);
    }
}

impl GaugeFn for Value {
    fn increment(&self, _value: f64) {
        unreachable!("gauges are set")
    }
    fn decrement(&self, _value: f64) {
        unreachable!("gauges are set")
    }
    fn set(&self, value: f64) {
        self.keep(value);
    }
}

impl CounterFn for Value {
    fn increment(&self, _value: u64) {
        unreachable!("counters are absolute")
    }
    fn absolute(&self, value: u64) {
        self.keep(value as f64);
    }
}

impl Recorder for Values {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value(key))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn a_recorder_is_told_all_of_it() {
    let arena = Arena::builder().size(64 * MIB).limit(8 * MIB).build().unwrap();
    let tenant = arena.tag("tenant").unwrap();
    let kept = tenant.alloc(MIB).unwrap();
    assert!(matches!(arena.try_alloc(8 * MIB), Err(AllocError::OverLimit { .. })));
    let values = Values::default();
    metrics::with_local_recorder(&values, || tailpin_arena::metrics::publish(&arena, "blocks"));
    let values = values.0.lock().unwrap();
    let value = |name: &str| values.get(name).copied();
    assert_eq!(value("tailpin_arena_in_use_bytes{arena=blocks}"), Some(MIB as f64));
    assert_eq!(value("tailpin_arena_limit_bytes{arena=blocks}"), Some(8.0 * MIB as f64));
    assert_eq!(value("tailpin_arena_refused_total{arena=blocks}"), Some(1.0));
    assert_eq!(value("tailpin_arena_tag_in_use_bytes{arena=blocks,tag=tenant}"), Some(MIB as f64));
    assert_eq!(values.len(), 13, "{values:?}");
    drop(kept);
}

/// A subscriber that keeps the messages of events.
struct Messages(Arc<Mutex<Vec<String>>>);

impl tracing::field::Visit for Messages {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

impl tracing::Subscriber for Messages {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "tailpin_arena"
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Messages(Arc::clone(&self.0)));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_subscriber_hears_of_what_happens_seldom() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    tracing::subscriber::with_default(Messages(Arc::clone(&heard)), || {
        let arena = Arena::builder().size(8 * MIB).limit(MIB).build().unwrap();
        let mut kept = arena.alloc(MIB).unwrap();
        kept.fill(1);
        assert!(arena.try_alloc(1).is_err());
        assert!(arena.reserve_timeout(1, Duration::from_millis(1)).is_err());
        arena.release(usize::MAX).unwrap();
        drop(arena);
        drop(kept);
    });
    assert_eq!(
        *heard.lock().unwrap(),
        [
            "a request was refused",
            "a request waits for a limit",
            "a request was refused",
            "memory went back to the system",
            "in use as the last handle goes",
        ]
    );
}
