//! What a thread believes of a word, and which of its beliefs a run that went wrong turns on.
//!
//! A thread *believes* of a word what it read or wrote there last. A belief is outdated when
//! another thread changes the word. Most outdated beliefs are harmless: the thread looks again. The
//! one that it acts on is the *clash*.

use std::ops::Range;

use crate::engine::MAIN;
use crate::trace::{Event, Name, Operation, Step};

/// A thread that knows a word as it no longer is, or memory that two threads use at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Belief {
    /// The thread that believes.
    pub(crate) thread: usize,
    /// Where it looked last.
    pub(crate) seen: usize,
    /// Where another thread changed it.
    pub(crate) changed: usize,
    /// What came of it.
    pub(crate) then: Then,
}

impl Belief {
    /// Whether this is a step at which the two threads meet: the look, the change, or what was
    /// written over it.
    pub(crate) fn meets_at(&self, at: usize) -> bool {
        at == self.seen || at == self.changed || self.then == Then::Overwrote(at)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The thread did not look again.
    Nothing,
    /// It looked again, here.
    Noticed(usize),
    /// It wrote over the change without a look, here.
    Overwrote(usize),
    /// It looked again and was shown the old value: `seen` is later than `changed`.
    SawOld,
    /// Two threads used the same memory with nothing that orders the one before the other.
    Unordered,
}

pub(crate) fn step(events: &[Event], at: usize) -> Option<&Step> {
    match &events[at] {
        Event::Word(step) => Some(step),
        _ => None,
    }
}

/// The one that a run turns on.
pub(crate) fn clash(events: &[Event], range: Range<usize>, what: &str) -> Option<Belief> {
    let named = numbers(what);
    let weight = |belief: &Belief| {
        let class = class(events, range.clone(), belief);
        let about = step(events, belief.changed).is_some_and(|step| named.contains(&step.name.frame));
        (class >= 3, about, class, belief.changed)
    };
    let mut beliefs = beliefs(events, range.clone());
    if what.starts_with("contents") {
        // What is not ordered is the end of it. It began where the thread acted on what was no
        // longer so, if it did.
        let last = events[range.end - 1].thread();
        beliefs.retain(|belief| belief.thread == last && class(events, range.clone(), belief) >= 2);
        return beliefs.into_iter().max_by_key(weight).or_else(|| unordered(events, range));
    }
    beliefs.retain(|belief| class(events, range.clone(), belief) > 0);
    beliefs.into_iter().max_by_key(weight)
}

/// How much harm an outdated belief may have done.
pub(crate) fn class(events: &[Event], range: Range<usize>, belief: &Belief) -> u8 {
    let acts = events[belief.changed..range.end]
        .iter()
        .filter(|event| event.thread() == belief.thread)
        .any(|event| !matches!(event, Event::Note(..)));
    match belief.then {
        Then::Overwrote(_) | Then::Unordered => 4,
        Then::Noticed(at) if at + 1 == range.end => 3,
        Then::Nothing | Then::SawOld if acts => 2,
        Then::Noticed(_) => 1,
        Then::Nothing | Then::SawOld => 0,
    }
}

/// Every belief that another thread has outdated.
pub(crate) fn beliefs(events: &[Event], range: Range<usize>) -> Vec<Belief> {
    let mut known: Vec<(usize, Name, usize)> = Vec::new();
    let mut changed: Vec<(Name, usize)> = Vec::new();
    let mut beliefs: Vec<Belief> = Vec::new();
    for at in range {
        let Some(now) = step(events, at).filter(|step| step.thread != MAIN) else { continue };
        let about =
            |belief: &Belief| step(events, belief.changed).is_some_and(|step| step.name.is(&now.name));
        if now.operation == Operation::LoadOld {
            let last = changed.iter().find(|(name, _)| name.is(&now.name)).map(|(_, at)| *at);
            let is_open = |belief: &Belief| matches!(belief.then, Then::Nothing | Then::SawOld);
            let mut own = beliefs.iter_mut().filter(|belief| belief.thread == now.thread && about(belief));
            match (own.find(|belief| is_open(belief)), last) {
                (Some(open), last) => {
                    let changed = last.unwrap_or(open.changed);
                    *open = Belief { thread: now.thread, seen: at, changed, then: Then::SawOld };
                }
                (None, Some(changed)) if events[changed].thread() != now.thread => {
                    beliefs.push(Belief { thread: now.thread, seen: at, changed, then: Then::SawOld });
                }
                _ => {}
            }
        } else {
            for belief in beliefs.iter_mut().filter(|belief| belief.thread == now.thread && about(belief)) {
                belief.then = match (belief.then, now.operation) {
                    (Then::Nothing | Then::SawOld, Operation::Store) => Then::Overwrote(at),
                    (Then::Nothing | Then::SawOld, _) => Then::Noticed(at),
                    (then, _) => then,
                };
            }
        }
        if now.before != now.after {
            for (thread, name, seen) in &known {
                let seen_there = step(events, *seen).is_some_and(|step| step.after == now.after);
                let open = |belief: &Belief| {
                    belief.thread == *thread && belief.then == Then::Nothing && about(belief)
                };
                if *thread != now.thread && name.is(&now.name) && !seen_there && !beliefs.iter().any(open) {
                    let (thread, seen) = (*thread, *seen);
                    beliefs.push(Belief { thread, seen, changed: at, then: Then::Nothing });
                }
            }
            match changed.iter_mut().find(|(name, _)| name.is(&now.name)) {
                Some(last) => last.1 = at,
                None => changed.push((now.name, at)),
            }
        }
        match known.iter_mut().find(|(thread, name, _)| *thread == now.thread && name.is(&now.name)) {
            Some(last) => last.2 = at,
            None => known.push((now.thread, now.name, at)),
        }
    }
    beliefs
}

/// The last use of memory, and the use by another thread that is not ordered before it.
fn unordered(events: &[Event], range: Range<usize>) -> Option<Belief> {
    let uses = |at: &usize| match &events[*at] {
        Event::Memory(memory) => Some((*at, *memory)),
        _ => None,
    };
    let (changed, last) = range.clone().rev().find_map(|at| uses(&at))?;
    let (seen, first) = (0..changed).rev().filter_map(|at| uses(&at)).find(|(_, other)| {
        (other.of, other.number) == (last.of, last.number)
            && other.thread != last.thread
            && (other.writes || last.writes)
    })?;
    Some(Belief { thread: first.thread, seen, changed, then: Then::Unordered })
}

/// The numbers in a text.
pub(crate) fn numbers(text: &str) -> Vec<u32> {
    text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}
