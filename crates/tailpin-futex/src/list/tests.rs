//! The queue against a vector.

use core::sync::atomic::AtomicU64;
use std::boxed::Box;
use std::pin::Pin;
use std::vec::Vec;

use proptest::prelude::*;

use super::{DequeueReason, Links, Node, NodeState, Queue, Visit};
use crate::key::Key;
use crate::memory::{Address, SpaceId};
use crate::scheduler::Priority;

const NODES: usize = 12;

fn key(n: u64) -> Key {
    Key::private(SpaceId(n), Address::new(0))
}

#[derive(Clone, Debug)]
enum Action {
    Push { node: usize, queue: usize, key: u64, priority: u32 },
    Remove(usize),
    Wake { queue: usize, key: u64, most: usize, odd: bool },
    Requeue { from: usize, to: usize, key: u64, target: u64, most: usize, odd: bool },
    Reorder { node: usize, priority: u32 },
}

fn action() -> impl Strategy<Value = Action> {
    let (node, queue, key, priority) = (0..NODES, 0..2_usize, 0..3_u64, 0..3_u32);
    prop_oneof![
        4 => (node.clone(), queue.clone(), key.clone(), priority.clone())
            .prop_map(|(node, queue, key, priority)| Action::Push { node, queue, key, priority }),
        2 => node.clone().prop_map(Action::Remove),
        1 => (queue.clone(), key.clone(), 0..4_usize, any::<bool>())
            .prop_map(|(queue, key, most, odd)| Action::Wake { queue, key, most, odd }),
        1 => (queue.clone(), queue, key.clone(), key, 0..4_usize, any::<bool>())
            .prop_map(|(from, to, key, target, most, odd)| Action::Requeue { from, to, key, target, most, odd }),
        1 => (node, priority).prop_map(|(node, priority)| Action::Reorder { node, priority }),
    ]
}

/// A waiter as the model has it: its place is its place in the vector among those of its queue and
/// key.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    node: usize,
    queue: usize,
    key: u64,
    priority: u32,
}

/// Behind all that are as urgent or more.
fn insert(model: &mut Vec<Entry>, entry: Entry) {
    let same = |other: &Entry| (other.queue, other.key) == (entry.queue, entry.key);
    let at = model.iter().position(|other| same(other) && other.priority < entry.priority);
    model.insert(at.unwrap_or(model.len()), entry);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_a_vector_does(actions in prop::collection::vec(action(), 0..120)) {
        let nodes: Vec<Pin<Box<Node<AtomicU64, usize>>>> = (0..NODES).map(|_| Box::pin(Node::new())).collect();
        let mut queues = [Queue::new(0), Queue::new(1)];
        let mut model: Vec<Entry> = Vec::new();
        for action in actions {
            match action {
                Action::Push { node, queue, key: k, priority } => {
                    // SAFETY: the nodes are boxed and outlive the queues' last use.
                    #[allow(unsafe_code)]
                    let pushed = unsafe { queues[queue].push(nodes[node].as_ref(), key(k), Priority(priority), node) };
                    let free = !model.iter().any(|entry| entry.node == node);
                    prop_assert_eq!(pushed.is_ok(), free);
                    if free {
                        insert(&mut model, Entry { node, queue, key: k, priority });
                    }
                }
                Action::Remove(node) => {
                    let at = model.iter().position(|entry| entry.node == node);
                    let queue = at.map_or(0, |at| model[at].queue);
                    prop_assert_eq!(queues[1 - queue].remove(&nodes[node], DequeueReason::Idle), None);
                    prop_assert_eq!(queues[queue].remove(&nodes[node], DequeueReason::Idle), at.map(|_| node));
                    at.map(|at| model.remove(at));
                }
                Action::Wake { queue, key: k, most, odd } => {
                    let (mut left, mut taken) = (most, Vec::new());
                    queues[queue].visit(
                        &key(k),
                        |&mut node| {
                            if left == 0 {
                                Visit::Stop
                            } else if odd && node.is_multiple_of(2) {
                                Visit::Keep
                            } else {
                                left -= 1;
                                Visit::Dequeue(DequeueReason::Woken)
                            }
                        },
                        |&node| taken.push(node),
                    );
                    let wanted = |entry: &Entry| (entry.queue, entry.key) == (queue, k) && !(odd && entry.node.is_multiple_of(2));
                    let expected: Vec<usize> =
                        model.iter().filter(|entry| wanted(entry)).take(most).map(|entry| entry.node).collect();
                    model.retain(|entry| !expected.contains(&entry.node));
                    prop_assert!(taken.iter().all(|&node| nodes[node].state() == NodeState::Dequeued(DequeueReason::Woken)));
                    prop_assert_eq!(taken, expected);
                }
                Action::Requeue { from, to, key: k, target, most, odd } => {
                    let [first, second] = &mut queues;
                    let may = |&node: &usize| !(odd && node.is_multiple_of(2));
                    let moved = match (from, to) {
                        (0, 1) => first.requeue(&key(k), Some(second), key(target), most, may),
                        (1, 0) => second.requeue(&key(k), Some(first), key(target), most, may),
                        (0, _) => first.requeue(&key(k), None, key(target), most, may),
                        _ => second.requeue(&key(k), None, key(target), most, may),
                    };
                    let same: Vec<Entry> =
                        model.iter().copied().filter(|entry| (entry.queue, entry.key) == (from, k)).collect();
                    if k == target && from == to {
                        prop_assert_eq!(moved, same.len().min(most));
                    } else if k == target {
                        // A key has one bucket: this is never asked for, and nothing moves.
                        prop_assert_eq!(moved, same.len().min(most));
                    } else {
                        let expected: Vec<Entry> =
                            same.into_iter().take_while(|entry| may(&entry.node)).take(most).collect();
                        prop_assert_eq!(moved, expected.len());
                        model.retain(|entry| !expected.contains(entry));
                        for entry in expected {
                            insert(&mut model, Entry { queue: to, key: target, ..entry });
                        }
                    }
                }
                Action::Reorder { node, priority } => {
                    if let Some(at) = model.iter().position(|entry| entry.node == node) {
                        let entry = model[at];
                        queues[entry.queue].reorder(&key(entry.key), Priority(priority), |&other| other == node);
                        if entry.priority != priority {
                            model.remove(at);
                            insert(&mut model, Entry { priority, ..entry });
                        }
                    }
                }
            }
            for (queue, real) in queues.iter_mut().enumerate() {
                for k in 0..3 {
                    let expected: Vec<Entry> =
                        model.iter().copied().filter(|entry| (entry.queue, entry.key) == (queue, k)).collect();
                    let mut found = Vec::new();
                    real.visit(&key(k), |&mut node| { found.push(node); Visit::Keep }, |_| {});
                    prop_assert_eq!(found, expected.iter().map(|entry| entry.node).collect::<Vec<_>>());
                    prop_assert_eq!(real.count(&key(k)), expected.len());
                    let top = expected.first().map(|entry| (entry.node, Priority(entry.priority)));
                    prop_assert_eq!(real.first(&key(k)).map(|(&node, priority)| (node, priority)), top);
                }
                let keys = (0..3).filter(|&k| model.iter().any(|entry| (entry.queue, entry.key) == (queue, k)));
                prop_assert_eq!(real.tops().count(), keys.count());
                prop_assert_eq!(real.is_empty(), !model.iter().any(|entry| entry.queue == queue));
            }
            for (node, real) in nodes.iter().enumerate() {
                let state = model.iter().find(|entry| entry.node == node).map(|entry| NodeState::Queued(entry.queue));
                prop_assert_eq!(state.is_none(), matches!(real.state(), NodeState::Dequeued(_)));
                prop_assert!(state.is_none_or(|state| state == real.state()));
            }
        }
    }
}

/// A look for a key goes past waiters for others: it reads the key and where the chain goes on.
#[test]
fn what_a_look_for_another_key_touches_lies_side_by_side() {
    let links = core::mem::offset_of!(Node<AtomicU64, u64>, links);
    let past = core::mem::offset_of!(Links<AtomicU64, u64>, next);
    assert_eq!((links + past, size_of::<Key>()), (48, 24));
}
