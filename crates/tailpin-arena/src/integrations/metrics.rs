//! `metrics`: an arena's figures as gauges and counters of whatever recorder the program has.

use ::metrics::{counter, gauge};

use crate::arena::Arena;

/// Tells the program's recorder the arena's [`counters`](Arena::counters), under the label `arena`;
/// to be called before each scrape, or every few seconds.
///
/// | name | kind |
/// | --- | --- |
/// | `tailpin_arena_in_use_bytes`, `…_resident_bytes`, `…_limit_bytes` (if there is one), `…_largest_free_bytes` | gauge |
/// | `tailpin_arena_waiting_requests`, `…_split_huge_pages` | gauge |
/// | `tailpin_arena_refused_total`, `…_on_heap_total`, `…_waited_total`, `…_releases_total` | counter |
/// | `tailpin_arena_released_bytes_total`, `…_stuck_bytes_total` | counter |
/// | `tailpin_arena_tag_in_use_bytes`, with the label `tag` | gauge |
///
/// ```
/// use tailpin_arena::{Arena, metrics};
///
/// let arena = Arena::builder().limit(64 << 20).build()?;
/// metrics::publish(&arena, "blocks"); // to nothing here, as no recorder is installed
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn publish(arena: &Arena, name: &str) {
    let now = arena.counters();
    let set = |what: &'static str, value: f64| gauge!(what, "arena" => name.to_owned()).set(value);
    set("tailpin_arena_in_use_bytes", now.in_use as f64);
    set("tailpin_arena_resident_bytes", now.resident as f64);
    set("tailpin_arena_largest_free_bytes", now.largest_free as f64);
    set("tailpin_arena_waiting_requests", now.waiting as f64);
    set("tailpin_arena_split_huge_pages", now.split_huge_pages as f64);
    if let Some(limit) = now.limit {
        set("tailpin_arena_limit_bytes", limit as f64);
    }
    let count = |what: &'static str, total| counter!(what, "arena" => name.to_owned()).absolute(total);
    count("tailpin_arena_refused_total", now.refused);
    count("tailpin_arena_on_heap_total", now.on_heap);
    count("tailpin_arena_waited_total", now.waited);
    count("tailpin_arena_releases_total", now.releases);
    count("tailpin_arena_released_bytes_total", now.released);
    count("tailpin_arena_stuck_bytes_total", now.stuck);
    for tag in arena.tags() {
        let labels = [("arena", name.to_owned()), ("tag", tag.name().to_owned())];
        gauge!("tailpin_arena_tag_in_use_bytes", &labels).set(tag.in_use() as f64);
    }
}
