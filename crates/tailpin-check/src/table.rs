//! A counterexample as text: one column per thread, one row per step.

use std::fmt::Write;

use crate::engine::MAIN;
use crate::runner::Counterexample;
use crate::story::{Mark, Story, letter};
use crate::trace::{Event, Step};

/// Rows shown of a run that goes on for ever.
const MOST_STEPS: usize = 400;

/// Columns that still fit beside each other.
const MOST_COLUMNS: usize = 3;

/// A table in the making.
struct Table {
    text: String,
    columns: usize,
    width: usize,
}

impl Table {
    fn new(threads: &[&str]) -> Self {
        let columns = threads.len();
        // 80 characters for two threads, what is still readable for three.
        let width = if columns == 3 { 32 } else { 74 / columns.max(1) - 2 };
        let mut table = Self { text: String::new(), columns, width };
        table.row("", threads.iter().enumerate().map(|(i, thread)| format!("{}: {thread}", letter(i))));
        table.rule();
        table
    }

    fn rule(&mut self) {
        self.text.push_str("----");
        for _ in 0..self.columns {
            self.text.push_str("+-");
            self.text.push_str(&"-".repeat(self.width));
        }
        self.text.push('\n');
    }

    /// A row with a cell for each thread.
    fn row(&mut self, number: &str, cells: impl Iterator<Item = String>) {
        let cells: Vec<Vec<String>> = cells.map(|cell| wrap(&cell, self.width)).collect();
        let lines = cells.iter().map(Vec::len).max().unwrap_or(1).max(1);
        for line in 0..lines {
            let _ = write!(self.text, "{:>3} ", if line == 0 { number } else { "" });
            for cell in &cells {
                let _ = write!(self.text, "| {:1$}", cell.get(line).map_or("", String::as_str), self.width);
            }
            self.text.truncate(self.text.trim_end_matches(' ').len());
            self.text.push('\n');
        }
    }

    /// A row of one thread.
    fn of_thread(&mut self, number: &str, thread: usize, text: &str) {
        let cells =
            (0..self.columns).map(|column| if column == thread { text.to_owned() } else { String::new() });
        self.row(number, cells);
    }
}

/// The counterexample told in at most so many rows. A crowd is too wide for a table: of that only
/// what broke is told.
pub fn story(found: &Counterexample, most: usize) -> String {
    if let Some(text) = crowd(found) {
        return text;
    }
    let told = Story::of(found, most);
    let mut text = String::new();
    if !told.before.is_empty() {
        let _ = writeln!(text, "At first: {}.", told.before.join("; "));
    }
    let mut table = Table::new(&told.threads);
    for (index, row) in told.rows.iter().enumerate() {
        let mark = match row.mark {
            Mark::None => "",
            Mark::Clash => ">",
            Mark::Break => "x",
        };
        table.of_thread(&format!("{mark}{}", index + 1), row.thread, &row.text);
    }
    table.rule();
    text.push_str(&table.text);
    if !told.after.is_empty() {
        let _ = writeln!(text, "At the end: {}.", told.after.join("; "));
    }
    for line in &told.believed {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "BROKE: {} (a run of {} steps)", told.broke, told.steps);
    text
}

/// Every step, ending in what broke.
pub fn steps(found: &Counterexample) -> String {
    if let Some(text) = crowd(found) {
        return text;
    }
    let mut table = Table::new(&found.threads);
    let shown = visible(&found.events);
    for (number, event) in shown.iter().take(MOST_STEPS).enumerate() {
        let what = describe(event);
        if event.thread() == MAIN {
            // What main does is before or after everything: no column of its own.
            let _ = writeln!(table.text, "{:>3} | {what}", number + 1);
        } else {
            table.of_thread(&(number + 1).to_string(), event.thread(), &what);
        }
    }
    if shown.len() > MOST_STEPS {
        let _ = writeln!(table.text, "    | … and {} more steps", shown.len() - MOST_STEPS);
    }
    table.rule();
    let _ = writeln!(table.text, "BROKE: {}", found.what);
    table.text
}

/// One step of a run, for a page that goes through all of them.
#[derive(Clone, Debug)]
pub struct ToldStep {
    /// Index of the thread; none for what is before and after all of them.
    pub thread: Option<usize>,
    /// What was done.
    pub text: String,
    /// The word that it was done to, and what that is afterwards.
    pub word: Option<(String, String)>,
}

/// Every step of a run, in order.
pub fn every_step(found: &Counterexample) -> Vec<ToldStep> {
    let told = |event: &&Event| ToldStep {
        thread: (event.thread() != MAIN).then(|| event.thread()),
        text: describe(event),
        word: match event {
            Event::Word(step) => Some((step.name.told(), (step.name.decode)(step.after))),
            _ => None,
        },
    };
    visible(&found.events).iter().map(told).collect()
}

fn crowd(found: &Counterexample) -> Option<String> {
    let threads = &found.threads;
    let told = || format!("{} threads: {}\nBROKE: {}\n", threads.len(), threads.join(" ‖ "), found.what);
    (threads.len() > MOST_COLUMNS || found.events.is_empty()).then(told)
}

/// Everything from where the threads start; of the set-up and the audit only what they note.
pub(crate) fn visible(events: &[Event]) -> Vec<&Event> {
    let shown =
        |event: &&Event| event.thread() != MAIN || matches!(event, Event::Note(..) | Event::Broke(..));
    events.iter().filter(shown).collect()
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("never empty");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > width - 1 {
            lines.push(format!("  {word}"));
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

/// An event in a list of all of them.
pub(crate) fn describe(event: &Event) -> String {
    match event {
        Event::Word(step) => step_in_full(step),
        Event::Memory(memory) => {
            let how = if memory.writes { "write" } else { "use" };
            format!("{how} the contents of {} {}", memory.of, memory.number)
        }
        Event::Note(_, note) => format!("[{note}]"),
        Event::Broke(_) => "BROKE".to_owned(),
    }
}

fn step_in_full(step: &Step) -> String {
    let (operation, word, decode) = (step.operation.name(), step.name.told(), step.name.decode);
    if step.before == step.after {
        format!("{operation} {word}: {}", decode(step.before))
    } else {
        format!("{operation} {word}: {} → {}", decode(step.before), decode(step.after))
    }
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn long_cells_are_wrapped_between_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "  three"]);
        assert_eq!(wrap("", 8), [""]);
    }
}
