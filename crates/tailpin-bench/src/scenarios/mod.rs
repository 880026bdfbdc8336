//! What is measured, one file per idea.

mod blocks;
mod bulk;
mod churn;
mod counts;
mod pairs;
mod remote;
mod space;

use crate::recorder::Recorder;

/// Every group of scenarios, in the order in which they run.
pub(crate) const GROUPS: &[fn(&mut Recorder<'_>)] = &[
    pairs::order_0,
    pairs::order_9,
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
    blocks::tails,
    space::metadata,
    space::start,
    space::growth,
];
