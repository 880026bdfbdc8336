//! A counterexample as a story: of a few hundred steps those that tell what went wrong.
//!
//! The story is told around the clash: between two switches of threads each word that a belief is
//! about is told once, with what it was and what it became, and what the threads say about
//! themselves is told in full.

use crate::belief::{Belief, Then, beliefs, clash, class, numbers, step};
use crate::engine::MAIN;
use crate::runner::Counterexample;
use crate::trace::{Event, Name, Operation, Step};

/// How a row is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Not at all.
    None,
    /// One of the two steps that clash.
    Clash,
    /// Where the run broke.
    Break,
}

/// One row: what a thread did, in words.
#[derive(Clone, Debug)]
pub struct Row {
    /// Index of the thread.
    pub thread: usize,
    /// What it did.
    pub text: String,
    /// Whether it is one of the steps that matter most.
    pub mark: Mark,
    /// The event that the row ends with.
    at: usize,
    /// The lower, the sooner the row is left out where there are too many.
    weight: u8,
}

/// A run that went wrong, told.
#[derive(Clone, Debug)]
pub struct Story {
    /// What each thread does.
    pub threads: Vec<&'static str>,
    /// What was there before the threads started.
    pub before: Vec<String>,
    /// What they did that matters.
    pub rows: Vec<Row>,
    /// What was done after they had ended.
    pub after: Vec<String>,
    /// What the threads believed, and what was true.
    pub believed: Vec<String>,
    /// What broke.
    pub broke: String,
    /// Steps that the threads took, told or not.
    pub steps: usize,
}

/// What is to be told of a run.
struct Telling<'a> {
    clash: Option<Belief>,
    /// The step at which a thread noticed that something broke.
    last: Option<usize>,
    what: &'a str,
    /// Every word that changes, also where no belief is about it.
    all: bool,
}

/// Rows that are too few to understand a run by.
const FEW: usize = 6;

impl Story {
    /// The story of a run, in at most so many rows.
    pub fn of(found: &Counterexample, most: usize) -> Self {
        let (events, broken_by) = match found.events.split_last() {
            Some((Event::Broke(thread), before)) => (before, Some(*thread)),
            _ => (&found.events[..], found.events.last().map(Event::thread)),
        };
        let start = events.iter().position(starts).map_or(0, |start| start + 1);
        let end = events.iter().rposition(|event| event.thread() != MAIN).map_or(start, |last| last + 1);
        let clash = clash(events, start..end, &found.what);
        // The step at which a thread noticed it has a row of its own.
        let last = broken_by.filter(|&thread| thread != MAIN).map(|_| end - 1);
        let mut rows = rows(events, start..end, &Telling { clash, last, what: &found.what, all: false });
        if rows.len() < FEW {
            rows = self::rows(events, start..end, &Telling { clash, last, what: &found.what, all: true });
        }
        if let Some(row) = rows.last_mut()
            && Some(row.at) == last
        {
            row.mark = Mark::Break;
        }
        thin_out(&mut rows, most);
        let told = |range: std::ops::Range<usize>| {
            let notes = events[range].iter().filter_map(|event| match event {
                Event::Note(_, note) => Some(note.clone()),
                _ => None,
            });
            joined(notes.collect())
        };
        Self {
            threads: found.threads.clone(),
            before: told(0..start.saturating_sub(1)),
            after: told(end..events.len()),
            believed: clash.map(|clash| believed(events, clash, &rows)).unwrap_or_default(),
            rows,
            broke: found.what.clone(),
            steps: events[start..end].iter().filter(|event| matches!(event, Event::Word(_))).count(),
        }
    }
}

fn starts(event: &Event) -> bool {
    matches!(event, Event::Note(MAIN, note) if note == "the threads start")
}

/// The letter of a thread.
pub(crate) fn letter(index: usize) -> char {
    char::from(b'A' + index as u8)
}

/// What is told of a run, in order.
fn rows(events: &[Event], range: std::ops::Range<usize>, telling: &Telling<'_>) -> Vec<Row> {
    let &Telling { clash, last, what, all } = telling;
    let outdated = beliefs(events, range.clone());
    let named = numbers(what);
    let at_clash = |at: usize| clash.is_some_and(|clash| clash.meets_at(at));
    let weight = |name: &Name| {
        let clashes = clash.and_then(|clash| step(events, clash.changed)).map(|step| step.name);
        if clashes.is_some_and(|word| word.is(name)) {
            5
        } else if clashes.is_some_and(|word| word.frame == name.frame) || named.contains(&name.frame) {
            3
        } else {
            1
        }
    };
    // Whether a thread is wrong about this word, or makes another be wrong about it; of a word that
    // it only reads, whether it acts on what it reads after that was outdated.
    let believed = |name: &Name, thread: usize, reads: bool| {
        let about = |belief: &&Belief| step(events, belief.changed).is_some_and(|step| step.name.is(name));
        outdated.iter().filter(about).any(|belief| {
            let own = belief.thread == thread;
            let acts = own && class(events, range.clone(), belief) >= 2;
            if reads { acts } else { own || events[belief.changed].thread() == thread }
        })
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut from = range.start;
    while from < range.end {
        let thread = events[from].thread();
        let until = (from..range.end).find(|at| events[*at].thread() != thread).unwrap_or(range.end);
        if thread != MAIN {
            let mut told: Vec<Row> = Vec::new();
            let mut begun: Vec<(Name, u64)> = Vec::new();
            for at in from..until {
                let (text, weight) = match &events[at] {
                    Event::Note(_, note) => (note.clone(), 4),
                    Event::Memory(memory) if at_clash(at) || Some(at) == last => {
                        let how = if memory.writes { "writes" } else { "uses" };
                        (format!("{how} the contents of {} {}", memory.of, memory.number), 6)
                    }
                    Event::Memory(_) | Event::Broke(_) => continue,
                    Event::Word(step) => {
                        let name = step.name;
                        let first = begun.iter().find(|(word, _)| word.is(&name)).map(|(_, value)| *value);
                        if first.is_none() {
                            begun.push((name, step.before));
                        }
                        let has_own_row = |at: usize| at_clash(at) || Some(at) == last;
                        // A word that is told again before the next switch is told there.
                        let again = (at + 1..until).filter(|at| !has_own_row(*at)).any(|at| {
                            let later = self::step(events, at).filter(|later| later.name.is(&name));
                            later.is_some_and(|later| !later.operation.only_reads())
                        });
                        let reads =
                            first.is_none_or(|value| value == step.after) && step.operation.only_reads();
                        let matters = (believed(&name, thread, reads) || all && !reads) && !again;
                        if !matters && !has_own_row(at) {
                            continue;
                        }
                        let before = if has_own_row(at) { step.before } else { first.unwrap_or(step.before) };
                        begun.retain(|(word, _)| !word.is(&name));
                        begun.push((name, step.after));
                        if step.operation.only_reads() && first == Some(step.after) && !has_own_row(at) {
                            continue;
                        }
                        (sentence(step, before), if has_own_row(at) { 6 } else { weight(&name) })
                    }
                };
                let mark = if at_clash(at) { Mark::Clash } else { Mark::None };
                told.push(Row { thread, text, mark, at, weight });
            }
            rows.extend(merged(told));
        }
        from = until;
    }
    rows
}

/// A step, or several on one word without a switch between them.
fn sentence(step: &Step, before: u64) -> String {
    let (word, decode) = (step.name.told(), step.name.decode);
    let after = decode(step.after);
    match step.operation {
        Operation::LoadOld => format!("sees {word} as it was: {after}"),
        Operation::CasFails => format!("fails at {word}: it is {after}"),
        _ if before == step.after && step.operation.only_reads() => format!("sees {word}: {after}"),
        Operation::Store if before == step.after => format!("stores {word}: {after}"),
        _ if before == step.after && step.before == step.after => format!("finds {word}: {after}"),
        _ if before == step.after => format!("{word}: {after}, changed and back"),
        _ if decode(before) == after => format!("{word}: {after}, with another mark or generation"),
        _ => format!("{word}: {} → {after}", decode(before)),
    }
}

/// Neighbours that differ in one number are one row.
fn merged(rows: Vec<Row>) -> Vec<Row> {
    let mut merged: Vec<Row> = Vec::new();
    for row in rows {
        let together = merged.last().and_then(|last| {
            let plain = last.mark == Mark::None && row.mark == Mark::None && last.weight == row.weight;
            plain.then(|| together(&last.text, &row.text)).flatten()
        });
        match (together, merged.last_mut()) {
            (Some(text), Some(last)) => (last.text, last.at) = (text, row.at),
            _ => merged.push(row),
        }
    }
    merged
}

fn joined(notes: Vec<String>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    for note in notes {
        match joined.last_mut().and_then(|last| Some((together(last, &note)?, last))) {
            Some((text, last)) => *last = text,
            None => joined.push(note),
        }
    }
    joined
}

/// Both in one, where the second differs from the first in one number alone.
fn together(first: &str, second: &str) -> Option<String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut rest = first;
    let mut begins = 0;
    // The place of the one number: what stands before it and behind it is the same.
    while let Some(offset) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let start = begins + offset;
        let list = |letter: char| letter.is_ascii_digit() || letter == ',' || letter == ' ';
        let whole = first[start..].find(|letter| !list(letter)).map_or(first.len(), |end| start + end);
        let end = start + first[start..whole].trim_end_matches([',', ' ']).len();
        let (head, tail) = (&first[..start], &first[end..]);
        if let Some(number) = second.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail))
            && is_number(number)
            && !head.ends_with('x')
            && number != &first[start..end]
        {
            return Some(format!("{head}{}, {number}{tail}", &first[start..end]));
        }
        begins = end;
        rest = &first[end..];
    }
    None
}

/// Leaves out what matters least, until no more than `most` are left.
fn thin_out(rows: &mut Vec<Row>, most: usize) {
    for least in 0..6 {
        let mut over = rows.len().saturating_sub(most);
        rows.retain(|row| {
            let keep = over == 0 || row.weight != least || row.mark != Mark::None;
            over -= usize::from(!keep);
            keep
        });
    }
}

/// What was believed, what was true, and which rows say so.
fn believed(events: &[Event], clash: Belief, rows: &[Row]) -> Vec<String> {
    let row = |at: usize| rows.iter().position(|row| row.at == at).map_or(0, |index| index + 1);
    let (a, b) = (letter(clash.thread), letter(events[clash.changed].thread()));
    let (seen, changed) = (row(clash.seen), row(clash.changed));
    if clash.then == Then::Unordered {
        return vec![format!("Nothing orders what {a} did at {seen} before what {b} did at {changed}.")];
    }
    let (Some(saw), Some(change)) = (step(events, clash.seen), step(events, clash.changed)) else {
        return Vec::new();
    };
    let (word, was, is) = (saw.name.told(), (saw.name.decode)(saw.after), (saw.name.decode)(change.after));
    let mut told = vec![
        format!("{a} believed at {seen}: {word} is {was}."),
        format!("True since {changed}, by {b}: {is}."),
    ];
    match clash.then {
        Then::Noticed(at) if row(at) == rows.len() => told.push(format!("{a} found out at {}.", row(at))),
        Then::Overwrote(at) => told.push(format!("At {} {a} wrote over it without a look.", row(at))),
        Then::SawOld => told.push(format!("{a} looked later, but nothing orders {changed} before {seen}.")),
        _ => {}
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_that_differ_in_one_number_are_joined() {
        let both = |a: &str, b: &str| together(a, b);
        assert_eq!(both("frees frame 1", "frees frame 2").as_deref(), Some("frees frame 1, 2"));
        assert_eq!(both("frees frame 1, 2", "frees frame 3").as_deref(), Some("frees frame 1, 2, 3"));
        assert_eq!(
            both("has block 0, order 1", "has block 2, order 1").as_deref(),
            Some("has block 0, 2, order 1")
        );
        assert_eq!(both("has block 0, order 1", "has block 2, order 2"), None);
        assert_eq!(both("has split 0", "has split 0"), None);
        assert_eq!(both("has block 0x10", "has block 0x20"), None);
        assert_eq!(both("frees", "frees"), None);
    }

    fn decode(value: u64) -> String {
        value.to_string()
    }

    fn word(thread: usize, frame: u32, operation: Operation, before: u64, after: u64) -> Event {
        Event::Word(Step { thread, name: Name { frame, field: "", decode }, operation, before, after })
    }

    fn run(events: Vec<Event>) -> Counterexample {
        let start = Event::Note(MAIN, "the threads start".to_owned());
        let events = std::iter::once(start).chain(events).collect();
        Counterexample { what: "page 0 is wrong".to_owned(), events, threads: vec!["a", "b"] }
    }

    #[test]
    fn a_change_that_is_written_over_is_the_clash() {
        use Operation::{Add, Load, Store};
        let told = Story::of(
            &run(vec![
                word(0, 0, Load, 1, 1),
                word(0, 7, Load, 5, 5),
                word(1, 0, Add, 1, 2),
                word(1, 7, Load, 5, 5),
                word(0, 0, Store, 2, 9),
                word(1, 0, Load, 9, 9),
                Event::Broke(1),
            ]),
            20,
        );
        let marked: Vec<_> =
            told.rows.iter().filter(|row| row.mark == Mark::Clash).map(|row| &*row.text).collect();
        assert_eq!(marked, ["sees page 0: 1", "page 0: 1 → 2", "page 0: 2 → 9"]);
        assert!(told.rows.iter().all(|row| !row.text.contains("page 7")), "{:?}", told.rows);
        assert_eq!(told.rows.last().map(|row| (row.thread, row.mark)), Some((1, Mark::Break)));
        assert_eq!(told.believed[0], "A believed at 1: page 0 is 1.");
        assert_eq!(told.believed[1], "True since 2, by B: 2.");
        assert_eq!(told.believed[2], "At 3 A wrote over it without a look.");
    }

    #[test]
    fn a_thread_that_looks_again_is_not_the_clash_where_another_did_not() {
        use Operation::{Add, CasFails, Load};
        let told = Story::of(
            &run(vec![
                word(0, 3, Load, 1, 1),
                word(0, 0, Load, 1, 1),
                word(1, 0, Add, 1, 2),
                word(1, 3, Add, 1, 2),
                word(0, 3, CasFails, 2, 2),
                word(0, 4, Add, 0, 1),
                Event::Broke(0),
            ]),
            20,
        );
        assert_eq!(told.believed, ["A believed at 1: page 0 is 1.", "True since 2, by B: 2."]);
    }

    #[test]
    fn what_matters_least_is_left_out_first() {
        let row = |weight, mark| Row { thread: 0, text: String::new(), mark, at: 0, weight };
        let mut rows = vec![row(1, Mark::None), row(0, Mark::Clash), row(3, Mark::None), row(1, Mark::None)];
        thin_out(&mut rows, 2);
        assert_eq!(rows.iter().map(|row| row.weight).collect::<Vec<_>>(), [0, 3]);
    }
}
