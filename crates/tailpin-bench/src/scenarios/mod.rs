//! What is measured, one file per idea.
//!
//! To add rows:
//!
//! 1. Write a file here with a function that takes the [`Recorder`]. It asks [`Recorder::wants`]
//!    first, sets the stage, makes one case for each subject and hands them to
//!    [`Recorder::interleave`], which lets them take turns. For one operation over and over,
//!    [`cases::case`] makes the case:
//!
//!    ```text
//!    pub(super) fn wake(recorder: &mut Recorder<'_>) {
//!        const NAME: &str = "futex-wake-nobody";
//!        if recorder.wants(NAME) {
//!            let table = Table::new();
//!            let ours = case(NAME, 1, |_thread| drop(table.wake(1)));
//!            let theirs = case(NAME, 1, |_thread| unpark(1));
//!            let repetitions = recorder.effort.repetitions;
//!            recorder.interleave(repetitions, vec![("tailpin", ours), ("parking_lot_core", theirs)]);
//!        }
//!    }
//!    ```
//!
//!    Scenarios of another crate begin with its name (`mm-`, `futex-`). Subjects are `tailpin`,
//!    `tailpin-classic`, a peer by its crate's name or as `linux-…`, or a limit as `bare-…`: the
//!    table's ratios and the goals go by that. For something to be done with every frame allocator,
//!    implement [`crate::Group`] and use [`crate::with_subjects`]. For work that is no such
//!    repetition, a [`crate::Run`] of your own times it with [`crate::clock::once`]; both kinds of
//!    clock can also count instructions (`--profile`), if the scenario runs on one thread. What is
//!    no time is a [`crate::Fact`].
//! 2. Name the file below, and its functions in [`GROUPS`].
//! 3. Give what must hold a name and a line in [`crate::goals`].

#[cfg(target_os = "linux")]
mod arena;
#[cfg(target_os = "linux")]
mod arena_floors;
#[cfg(target_os = "linux")]
mod arena_keep;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod arena_lines;
mod blocks;
mod bulk;
mod cases;
mod churn;
mod counts;
mod futex_key;
mod futex_queue;
mod futex_threads;
mod growth;
mod lines;
mod metadata;
mod mm_fork;
mod mm_growth;
mod mm_pin;
mod mm_split;
mod mm_unmap;
mod pairs;
mod remote;
mod replay;
mod runs;
mod start;

use crate::recorder::Recorder;

/// Every group of scenarios, in the order in which they run.
pub(crate) const GROUPS: &[fn(&mut Recorder<'_>)] = &[
    // First: all that the others leave in this process would be in the copies that it watches.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    arena_lines::fetched,
    pairs::order_0,
    pairs::orders_1_to_8,
    pairs::order_9,
    runs::of_every_length,
    bulk::order_0,
    bulk::order_9,
    remote::order_0,
    remote::order_9,
    churn::mixed,
    churn::order_0,
    churn::bursts,
    counts::one_thread,
    counts::two_threads,
    blocks::split_and_merge,
    blocks::last_slice,
    blocks::tails,
    replay::builtins,
    growth::half_full,
    start::large,
    metadata::bytes,
    metadata::lines,
    lines::fetched,
    mm_pin::huge,
    mm_split::pages,
    mm_unmap::holes_in_huge_pages,
    mm_fork::huge,
    mm_growth::mapped,
    futex_key::kinds,
    futex_key::wake_without_waiter,
    futex_queue::wake_one,
    futex_threads::wake_one,
    futex_threads::ping_pong,
    #[cfg(target_os = "linux")]
    arena::buffers,
    #[cfg(target_os = "linux")]
    arena::remote,
    #[cfg(target_os = "linux")]
    arena::slices,
    #[cfg(target_os = "linux")]
    arena_keep::hybrid,
    #[cfg(target_os = "linux")]
    arena_keep::release,
    #[cfg(target_os = "linux")]
    arena_floors::scrape,
];
