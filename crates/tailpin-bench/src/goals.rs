//! What tailpin has to reach, relative to the others in the same run: every goal by name.

/// A goal: a name for it, the scenario it is about, and what must hold there.
pub(crate) struct Goal {
    pub(crate) name: &'static str,
    /// A scenario; of [`Limit::Flat`] the ending of its scenarios' names; of those about facts, the
    /// fact.
    pub(crate) scenario: &'static str,
    /// On so many threads; `None` for every number of threads there is.
    pub(crate) threads: Option<usize>,
    pub(crate) limit: Limit,
}

/// What must hold.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    /// At most this many times the best peer's time.
    Peers(f64),
    /// At most this many times the time of the named subject in the same scenario.
    Subject(f64, &'static str),
    /// At most this many times our own time in another scenario, on one thread.
    Own(f64, &'static str),
    /// All threads together at least this many times as fast as one alone.
    Rate(f64),
    /// At least this many times as fast as the named subject in the same scenario.
    Faster(f64, &'static str),
    /// Nothing failed.
    NoneFailed,
    /// At least this many of each 204 2 MiB blocks are left.
    HugeOf204(u64),
    /// At least as many 2 MiB blocks are left as the best peer has.
    HugePeers,
    /// The slowest size at most this many times the time of the smallest.
    Flat(f64),
    /// A fact is at most this.
    Fact(f64),
    /// A fact is at most another.
    FactBelow(&'static str),
}

const fn goal(name: &'static str, scenario: &'static str, threads: usize, limit: Limit) -> Goal {
    Goal { name, scenario, threads: Some(threads), limit }
}

const fn always(name: &'static str, scenario: &'static str, limit: Limit) -> Goal {
    Goal { name, scenario, threads: None, limit }
}

const CAS: &str = "bare-cas-511";
const PAIR: &str = "bare-fetch-add-sub";
const CLASSIC: &str = "tailpin-classic";
const LOT: &str = "parking_lot_core";
const PIN: &str = "bare-try-pin";
const DEPOT: &str = "frame-alloc-depot";
const MIMALLOC: &str = "mimalloc";
const MALLOC: &str = "linux-malloc";
const BYTES: &str = "bytes";
const BARE_READ: &str = "bare-read";
const RECORDED: &str = "bare-recorded-rate";

/// All of them.
pub(crate) const GOALS: &[Goal] = {
    use Limit::{Fact, FactBelow, Faster, Flat, HugeOf204, HugePeers, NoneFailed, Own, Peers, Rate, Subject};
    &[
        goal("order-0-pair-hot", "pair-o0-fresh", 1, Peers(0.8)),
        goal("order-0-pair-half-full", "pair-o0-half-full", 1, Peers(0.8)),
        goal("order-0-bulk-alloc", "bulk-o0-alloc", 1, Peers(1.0)),
        goal("order-0-bulk-free", "bulk-o0-free-random", 1, Peers(1.0)),
        goal("order-1-pair", "pair-o1", 1, Subject(0.75, DEPOT)),
        goal("order-2-pair", "pair-o2", 1, Subject(0.75, DEPOT)),
        goal("order-3-pair", "pair-o3", 1, Subject(0.75, DEPOT)),
        goal("order-4-pair", "pair-o4", 1, Subject(0.75, DEPOT)),
        goal("order-5-pair", "pair-o5", 1, Subject(0.75, DEPOT)),
        goal("order-6-pair", "pair-o6", 1, Subject(0.75, DEPOT)),
        goal("order-7-pair", "pair-o7", 1, Subject(0.75, DEPOT)),
        goal("order-8-pair", "pair-o8", 1, Subject(0.75, DEPOT)),
        goal("order-9-pair", "pair-o9", 1, Peers(0.6)),
        goal("runs-of-5", "runs-5", 1, Peers(1.0)),
        goal("runs-of-48", "runs-48", 1, Peers(1.0)),
        goal("runs-of-512", "runs-512", 1, Peers(1.0)),
        goal("runs-of-3000", "runs-3000", 1, Peers(1.0)),
        goal("order-9-bulk-alloc", "bulk-o9-alloc", 1, Peers(0.6)),
        goal("order-9-bulk-free", "bulk-o9-free-random", 1, Peers(0.6)),
        goal("two-threads-order-0-pair", "pair-o0-fresh", 2, Rate(1.8)),
        goal("two-threads-order-9-pair", "pair-o9", 2, Rate(1.8)),
        goal("two-threads-order-0-bulk-alloc", "bulk-o0-alloc", 2, Rate(1.8)),
        goal("two-threads-order-0-bulk-free", "bulk-o0-free-random", 2, Rate(1.8)),
        goal("two-threads-order-9-bulk-alloc", "bulk-o9-alloc", 2, Rate(1.8)),
        goal("two-threads-order-9-bulk-free", "bulk-o9-free-random", 2, Rate(1.8)),
        goal("remote-free-order-0", "remote-free-o0", 2, Peers(0.8)),
        goal("remote-free-order-9", "remote-free-o9", 2, Peers(0.8)),
        goal("churn-mixed-time", "churn-90-mixed", 1, Subject(1.0, DEPOT)),
        goal("churn-mixed-none-failed", "churn-90-mixed", 1, NoneFailed),
        goal("churn-mixed-huge-left", "churn-90-mixed", 1, HugeOf204(178)),
        goal("churn-order-0-huge-left", "churn-90-o0", 1, HugeOf204(204)),
        goal("bursts-90-huge-left", "bursts-90-o0", 1, HugePeers),
        goal("bursts-98-huge-left", "bursts-98-o0", 1, HugePeers),
        goal("page-ref-beside-bare", "pageref-clone-drop", 1, Subject(1.1, PAIR)),
        goal("page-ref-beside-arc", "pageref-clone-drop", 1, Subject(1.0, "arc")),
        goal("speculative-get-beside-bare", "speculative-get-drop", 1, Subject(1.1, "bare-get-unless-zero")),
        goal("speculative-get-beside-arc", "speculative-get-drop", 1, Subject(1.0, "arc")),
        goal("block-2m-handle-as-page", "block-2m-clone-drop", 1, Own(1.1, "block-4k-clone-drop")),
        goal("block-1g-handle-as-page", "block-1g-clone-drop", 1, Own(1.1, "block-4k-clone-drop")),
        goal("contended-page", "contended-page", 2, Subject(1.1, PAIR)),
        goal("contended-tail", "contended-tail", 2, Subject(1.1, PAIR)),
        goal("two-tails-apart", "two-tails", 2, Subject(1.2, PAIR)),
        goal("split-unpinned", "split-2m-0-pins", 1, Subject(1.6, CAS)),
        goal("split-one-pin", "split-2m-1-pin", 1, Subject(1.6, CAS)),
        goal("split-100-pins", "split-2m-100-pins", 1, Subject(2.2, CAS)),
        goal("merge", "merge-2m", 1, Subject(2.2, CAS)),
        goal("split-around-one", "split-2m-around-one", 1, Subject(0.2, CAS)),
        goal("last-slice", "last-slice-2m", 1, Subject(1.0, CAS)),
        goal("tail-beside-classic", "tail-get-put", 1, Faster(5.0, CLASSIC)),
        goal("two-tails-beside-classic", "tail-get-put", 2, Faster(10.0, CLASSIC)),
        always("replay-guest-pins-beside-recorded", "replay-guest-pins", Faster(3.0, RECORDED)),
        always("replay-guest-pins-beside-classic", "replay-guest-pins", Faster(2.0, CLASSIC)),
        always("replay-guest-pins-clean", "replay-guest-pins", NoneFailed),
        always("replay-node-beside-recorded", "replay-node", Faster(3.0, RECORDED)),
        always("replay-node-beside-classic", "replay-node", Faster(2.0, CLASSIC)),
        always("replay-node-clean", "replay-node", NoneFailed),
        goal("metadata-per-frame", "metadata-per-frame", 1, Fact(8.5)),
        goal("metadata-per-frame-large", "start-metadata-per-frame", 1, Fact(8.5)),
        goal("metadata-lines-apart", "metadata-lines-shared", 1, Fact(0.0)),
        goal("lines-order-0-pair", "lines-pair-o0-128", 1, Fact(0.0)),
        goal("lines-order-1-pair", "lines-pair-o1-128", 1, Fact(0.0)),
        goal("lines-order-2-pair", "lines-pair-o2-128", 1, Fact(0.0)),
        goal("lines-order-3-pair", "lines-pair-o3-128", 1, Fact(0.0)),
        goal("lines-order-4-pair", "lines-pair-o4-128", 1, Fact(0.0)),
        goal("lines-order-5-pair", "lines-pair-o5-128", 1, Fact(0.0)),
        goal("lines-order-6-pair", "lines-pair-o6-128", 1, Fact(0.0)),
        goal("lines-order-7-pair", "lines-pair-o7-128", 1, Fact(0.0)),
        goal("lines-order-8-pair", "lines-pair-o8-128", 1, Fact(0.0)),
        goal("lines-order-9-pair", "lines-pair-o9-128", 1, Fact(0.0)),
        goal("lines-churn-mixed", "lines-churn-mixed-128", 1, Fact(1.0)),
        goal("lines-churn-mixed-hottest", "lines-churn-mixed-hottest-128", 1, Fact(0.02)),
        goal("start-leaves-frame-words", "start-touched-frame-words", 1, Fact(0.0)),
        goal("start-touches-summary-only", "start-touched", 1, FactBelow("start-summary")),
        goal("growth-order-0-pair", "o0", 1, Flat(1.3)),
        goal("growth-order-0-batch", "o0-batch", 1, Flat(1.3)),
        goal("growth-order-9-pair", "o9", 1, Flat(1.3)),
        goal("growth-mm-pin", "mm-pin", 1, Flat(1.3)),
        goal("growth-mm-fault", "mm-fault", 1, Flat(1.5)),
        goal("mm-pin-page", "mm-pin-1", 1, Peers(0.5)),
        goal("mm-pin-huge", "mm-pin-512", 1, Peers(0.25)),
        goal("mm-split-beside-linux", "mm-split-0-pins", 1, Subject(0.25, "linux-thp")),
        goal("mm-split-one-pin", "mm-split-1-pin", 1, Own(1.3, "mm-split-0-pins")),
        goal("mm-split-one-pin-done", "mm-split-1-pin", 1, NoneFailed),
        goal("mm-collapse-one-pin-done", "mm-collapse-1-pin", 1, NoneFailed),
        goal("mm-unmap-4k-time", "mm-unmap-4k", 1, Peers(0.5)),
        goal("mm-unmap-4k-comes-back", "mm-unmap-4k-kept", 1, Fact(1.0)),
        goal("mm-dontneed-4k-time", "mm-dontneed-4k", 1, Peers(1.0)),
        goal("mm-dontneed-4k-comes-back", "mm-dontneed-4k-kept", 1, Fact(1.0)),
        goal("mm-fork-huge", "mm-fork-huge", 1, Subject(0.5, "linux-fork")),
        goal("futex-key-anonymous", "futex-key-anonymous", 1, Subject(4.0, PIN)),
        goal("futex-key-file", "futex-key-file", 1, Subject(4.0, PIN)),
        goal("futex-key-hugetlb", "futex-key-hugetlb", 1, Subject(4.0, PIN)),
        goal("futex-wake-nobody", "futex-wake-nobody", 1, Peers(1.0)),
        goal("futex-wake-nobody-shared", "futex-wake-nobody-shared", 1, Subject(0.5, "linux-futex")),
        goal("futex-wake-1-of-1000", "futex-wake-1-of-1000", 1, Own(1.3, "futex-wake-1-of-1")),
        goal("futex-wake-1-of-100000", "futex-wake-1-of-100000", 1, Own(1.3, "futex-wake-1-of-1")),
        goal("futex-wake-1000-words", "futex-wake-1000-words", 1, Own(2.0, "futex-wake-1-of-1")),
        goal("futex-wake-100000-words", "futex-wake-100000-words-wide", 1, Subject(3.0, "bare-cold-lines")),
        goal("futex-wake-thread", "futex-wake-1-of-1-threads", 1, Subject(1.25, LOT)),
        goal("futex-wake-1000-threads", "futex-wake-1-of-1000-threads", 1, Subject(1.25, LOT)),
        goal("futex-ping-pong", "futex-ping-pong", 2, Subject(1.25, LOT)),
        always("arena-alloc-4k", "arena-alloc-4k", Subject(1.0, MIMALLOC)),
        always("arena-alloc-64k", "arena-alloc-64k", Subject(1.0, MIMALLOC)),
        always("arena-alloc-256k", "arena-alloc-256k", Subject(1.0, MIMALLOC)),
        always("arena-alloc-2m", "arena-alloc-2m", Subject(1.0, MIMALLOC)),
        always("arena-alloc-2m-and-1", "arena-alloc-2m-and-1", Subject(1.0, MIMALLOC)),
        goal("arena-remote-4k", "arena-remote-4k", 2, Peers(1.0)),
        goal("arena-remote-64k", "arena-remote-64k", 2, Peers(1.0)),
        goal("arena-remote-256k", "arena-remote-256k", 2, Peers(1.0)),
        goal("arena-remote-2m", "arena-remote-2m", 2, Peers(1.0)),
        goal("arena-remote-2m-and-1", "arena-remote-2m-and-1", 2, Peers(1.0)),
        goal("arena-slice-200", "arena-slice-200", 1, Subject(1.5, BYTES)),
        goal("arena-slice-4k", "arena-slice-4k", 1, Subject(2.0, BYTES)),
        goal("arena-slice-64k-piece", "arena-slice-64k-piece", 1, Subject(1.5, BYTES)),
        goal("arena-slice-64k-across", "arena-slice-64k-across", 1, Subject(6.0, BYTES)),
        goal("arena-clone-drop", "arena-clone-drop", 1, Subject(1.3, BYTES)),
        goal("arena-keep-200", "arena-keep-200", 1, Subject(1.0, MALLOC)),
        goal("arena-scrape-1t", "arena-scrape-1t", 1, Fact(10.0)),
        goal("lines-arena-4k", "lines-arena-4k-128", 1, Fact(0.0)),
        goal("lines-arena-64k", "lines-arena-64k-128", 1, Fact(0.0)),
        goal("lines-arena-2m", "lines-arena-2m-128", 1, Fact(0.0)),
        goal("arena-records-1-of-100", "arena-records-1-of-100", 1, Subject(0.9, MALLOC)),
        goal("arena-records-1-of-10", "arena-records-1-of-10", 1, Subject(0.9, MALLOC)),
        goal("arena-release-between-pages", "arena-release-between-pages", 1, Subject(1.0, BARE_READ)),
    ]
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::GOALS;

    #[test]
    fn no_two_goals_have_one_name() {
        let names: BTreeSet<&str> = GOALS.iter().map(|goal| goal.name).collect();
        assert_eq!(names.len(), GOALS.len());
    }
}
