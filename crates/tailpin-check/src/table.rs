//! A counter-example as a table: one column per thread, one row per step.

use std::fmt::Write;

use crate::engine::MAIN;
use crate::runner::Counterexample;
use crate::trace::{Event, Step};

const WIDTH: usize = 46;
/// Rows shown of a run that goes on for ever.
const MOST: usize = 120;

/// Columns that still fit beside each other.
const MOST_COLUMNS: usize = 3;

/// The table, ending in what broke. A crowd is too wide for one: of that only what broke is told.
pub fn render(found: &Counterexample) -> String {
    let mut text = String::new();
    let columns = found.threads.len();
    if columns > MOST_COLUMNS {
        let _ = writeln!(text, "{} threads: {}", columns, found.threads.join(" ‖ "));
        let _ = writeln!(text, "BROKE: {}", found.what);
        return text;
    }
    let rule = |text: &mut String| {
        text.push_str("------");
        for _ in 0..columns {
            text.push_str("+-");
            text.push_str(&"-".repeat(WIDTH));
        }
        text.push('\n');
    };
    row(
        &mut text,
        "step",
        found.threads.iter().enumerate().map(|(i, thread)| format!("{}: {thread}", letter(i))),
    );
    rule(&mut text);
    let shown = visible(&found.events);
    for (number, event) in shown.iter().take(MOST).enumerate() {
        let (thread, what) = match event {
            Event::Word(step) => (step.thread, describe(step)),
            Event::Note(thread, note) => (*thread, format!("[{note}]")),
        };
        if thread == MAIN {
            // What main does is before or after everything: no column of its own.
            let _ = writeln!(text, "{:>4}  | {what}", number + 1);
        } else {
            let cells =
                (0..columns).map(|column| if column == thread { what.clone() } else { String::new() });
            row(&mut text, &(number + 1).to_string(), cells);
        }
    }
    if shown.len() > MOST {
        let _ = writeln!(text, "      | … and {} more steps", shown.len() - MOST);
    }
    rule(&mut text);
    let _ = writeln!(text, "BROKE: {}", found.what);
    text
}

/// Everything from where the threads start; of the set-up and the audit only what they note.
fn visible(events: &[Event]) -> Vec<&Event> {
    events
        .iter()
        .filter(|event| match event {
            Event::Word(step) => step.thread != MAIN,
            Event::Note(..) => true,
        })
        .collect()
}

fn letter(index: usize) -> char {
    char::from(b'A' + index as u8)
}

fn row(text: &mut String, number: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<Vec<String>> = cells.map(|cell| wrap(&cell)).collect();
    let lines = cells.iter().map(Vec::len).max().unwrap_or(1).max(1);
    for line in 0..lines {
        let _ = write!(text, "{:>4}  ", if line == 0 { number } else { "" });
        for cell in &cells {
            let _ = write!(text, "| {:WIDTH$}", cell.get(line).map_or("", String::as_str));
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
}

fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("never empty");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > WIDTH - 1 {
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

fn describe(step: &Step) -> String {
    let decode = step.name.decode;
    let word = if step.name.field.is_empty() {
        format!("page {}", step.name.frame)
    } else {
        format!("{}[{}]", step.name.field, step.name.frame)
    };
    if step.before == step.after {
        format!("{} {word}: {}", step.operation, decode(step.before))
    } else {
        format!("{} {word}: {} → {}", step.operation, decode(step.before), decode(step.after))
    }
}
