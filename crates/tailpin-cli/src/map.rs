//! `tailpin map`: each 2 MiB of a running program's arenas as a cell, and the pages of one.

use serde_json::{Map, Value, json};
use tailpin::PAGE_SIZE;
use tailpin_arena::outside::{Contents, PageContents, Pageblock};

use crate::Status;
use crate::arenas::{self, Key, Line, Lines, Paint, Seen, View, cut};
use crate::units::bytes;

const EXAMPLES: &str = "\
Examples:
  tailpin map 1234               a cell for each 2 MiB
  tailpin map 1234 --zoom 7      the 512 pages of the eighth 2 MiB
  tailpin map --json 1234        those of which any page has memory or is in use

A cell:  █ in use in whole blocks, all of it   ▓ some of it in whole blocks
         1 to 9 pages kept, + up to 99, # more
         ░ free, and some of it has memory     · free, without memory   x out of service
A page:  █ in a block   1 to 9 pins, + more   f shared by small copies
         ░ free, with memory   · free, without memory   x out of service

Keys of the live screen (feature `live`): arrows move, Enter shows the pages of a cell, Esc goes back, q ends.

Exit codes: as of tailpin top.";

/// Shows each 2 MiB of a running program's arenas as a cell
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = "More, with examples: tailpin map --help")]
pub(crate) struct Args {
    #[command(flatten)]
    arenas: arenas::Options,

    /// Shows the pages of this pageblock, counted from 0
    #[arg(long, value_name = "N")]
    zoom: Option<usize>,
}

pub(crate) fn run(args: &Args) -> Status {
    arenas::show(&args.arenas, &mut Cells { zoom: args.zoom, cursor: None })
}

struct Cells {
    zoom: Option<usize>,
    /// The pageblock under the cursor, on a live screen.
    cursor: Option<usize>,
}

/// Columns before the cells: where in the arena the row begins.
const LABEL: usize = 11;

/// How many cells a row has: a power of two, so that rows begin at round places.
fn row_cells(width: usize) -> usize {
    let room = width.saturating_sub(LABEL).clamp(8, 64);
    1 << room.ilog2()
}

fn cell(contents: Contents) -> (Paint, char) {
    match contents {
        Contents { set_aside: 1.., .. } if contents.set_aside == contents.all() => (Paint::Bad, 'x'),
        Contents { whole: 1.., .. } if contents.whole == contents.all() => (Paint::Whole, '█'),
        Contents { whole: 1.., .. } => (Paint::Whole, '▓'),
        _ => match contents.kept() {
            0 if contents.free > 0 => (Paint::Plain, '░'),
            0 => (Paint::Dim, '·'),
            n => (Paint::Kept, number(n.into(), 99)),
        },
    }
}

/// 1 to 9, then + up to `most`, then #.
fn number(n: u64, most: u64) -> char {
    match n {
        0..10 => char::from(b'0' + n as u8),
        _ if n <= most => '+',
        _ => '#',
    }
}

fn page(contents: PageContents) -> (Paint, char) {
    match contents {
        PageContents::Whole { .. } => (Paint::Whole, '█'),
        PageContents::Pinned { pins } => (Paint::Kept, number(pins, u64::MAX)),
        PageContents::Fragments { .. } => (Paint::Kept, 'f'),
        PageContents::Free => (Paint::Plain, '░'),
        PageContents::WithoutMemory => (Paint::Dim, '·'),
        PageContents::SetAside => (Paint::Bad, 'x'),
    }
}

/// Cells as pieces of equal paint.
fn row(label: String, cells: impl Iterator<Item = (Paint, char)>) -> Line {
    let mut pieces = Line::new();
    for (paint, letter) in cells {
        match pieces.last_mut() {
            Some((last, piece)) if *last == paint => piece.push(letter),
            _ => pieces.push((paint, letter.to_string())),
        }
    }
    pieces.insert(0, (Paint::Dim, label));
    pieces
}

fn label(offset: usize) -> String {
    format!("{:>w$}  ", bytes(offset as u64), w = LABEL - 2)
}

impl Cells {
    fn all(&self, pageblocks: &[Pageblock], width: usize) -> Lines {
        let cells = row_cells(width);
        let mut lines = Lines::new();
        let mut empty = 0;
        let is_empty =
            |row: &[Pageblock]| row.iter().all(|it| it.contents.without_memory == it.contents.all());
        for (number, some) in pageblocks.chunks(cells).enumerate() {
            let under =
                self.cursor.and_then(|cursor| cursor.checked_sub(number * cells)).filter(|at| *at < cells);
            if is_empty(some) && number > 0 && under.is_none() {
                empty += some.len();
                continue;
            }
            lines.extend(left_out(&mut empty));
            let paint = |(at, it): (usize, &Pageblock)| {
                let (paint, letter) = cell(it.contents);
                (if Some(at) == under { Paint::Cursor } else { paint }, letter)
            };
            lines.push(row(label(some[0].offset), some.iter().enumerate().map(paint)));
        }
        lines.extend(left_out(&mut empty));
        lines
    }
}

/// A line for rows of which no page is in use or has memory.
fn left_out(empty: &mut usize) -> Option<Line> {
    let n = std::mem::take(empty);
    (n > 0)
        .then(|| vec![(Paint::Dim, format!("{:>w$}  {n} more, free and without memory", "…", w = LABEL - 2))])
}

fn legend(contents: Contents) -> String {
    format!(
        "{} pages in whole blocks, {} kept by pins or copies, {} free with memory, {} without",
        contents.whole,
        contents.kept(),
        contents.free,
        contents.without_memory
    )
}

impl View for Cells {
    fn json(&self, seen: &Seen) -> Map<String, Value> {
        let touched = |it: &&Pageblock| it.contents.without_memory != it.contents.all();
        let told = |it: &Pageblock| {
            json!({
                "offset_bytes": it.offset,
                "whole_pages": it.contents.whole,
                "kept_pages": it.contents.pages,
                "fragments_pages": it.contents.fragments,
                "last_slice_pages": it.contents.last,
                "free_pages": it.contents.free,
                "without_memory_pages": it.contents.without_memory,
                "set_aside_pages": it.contents.set_aside,
            })
        };
        let pageblocks: Vec<Value> = seen.look.pageblocks().iter().filter(touched).map(told).collect();
        let mut all = Map::from_iter([("pageblocks".to_owned(), Value::Array(pageblocks))]);
        if let Some(zoom) = self.zoom {
            let cells: String = seen.look.pages_of(zoom).into_iter().map(|it| page(it).1).collect();
            all.insert("pages".to_owned(), Value::String(cells));
        }
        all
    }

    fn refusal(&self, seen: &[Seen]) -> Option<String> {
        let zoom = self.zoom?;
        let most = seen.iter().map(|seen| seen.look.pageblocks().len()).max().unwrap_or(0);
        (zoom >= most).then(|| format!("there is no pageblock {zoom}: there are {most}, counted from 0"))
    }

    fn lines(&self, seen: &Seen, width: usize) -> Lines {
        let pageblocks = seen.look.pageblocks();
        let mut lines = vec![vec![(Paint::Bold, cut(&seen.name, width))]];
        match self.zoom {
            Some(zoom) => {
                let Some(Pageblock { offset, contents }) = pageblocks.get(zoom).copied() else {
                    lines.push(vec![(Paint::Bad, format!("there is no pageblock {zoom}"))]);
                    return lines;
                };
                let cells = row_cells(width);
                for (i, some) in seen.look.pages_of(zoom).chunks(cells).enumerate() {
                    lines.push(row(label(offset + i * cells * PAGE_SIZE), some.iter().map(|it| page(*it))));
                }
                lines.push(vec![(Paint::Dim, cut(&legend(contents), width))]);
            }
            None => {
                lines.extend(self.all(pageblocks, width));
                if let Some(it) = self.cursor.and_then(|at| pageblocks.get(at)) {
                    lines.push(vec![(Paint::Plain, cut(&legend(it.contents), width))]);
                }
                let used = pageblocks.iter().filter(|it| it.contents.used() > 0).count();
                let whole = pageblocks.iter().filter(|it| it.contents.whole == it.contents.all()).count();
                let sum = format!("{used} of {} pageblocks in use, {whole} of them whole", pageblocks.len());
                lines.push(vec![(Paint::Dim, cut(&sum, width))]);
            }
        }
        lines
    }

    /// The cursor moves over the first arena.
    fn key(&mut self, key: Key, seen: &[Seen], width: usize) -> bool {
        let all = seen.first().map_or(0, |seen| seen.look.pageblocks().len());
        let at = self.cursor.unwrap_or(0);
        let row = row_cells(width);
        match (key, self.zoom) {
            (Key::Enter, None) => self.zoom = Some(at),
            (Key::Escape, Some(_)) => self.zoom = None,
            (Key::Escape | Key::Enter, _) => return false,
            (Key::Left | Key::Right | Key::Up | Key::Down, _) => {
                let to = match key {
                    Key::Left => at.saturating_sub(1),
                    Key::Up => at.checked_sub(row).unwrap_or(at),
                    Key::Down if at + row >= all => at,
                    Key::Down => at + row,
                    _ => at + 1,
                };
                let to = to.min(all.saturating_sub(1));
                self.cursor = Some(if self.cursor.is_none() { 0 } else { to });
                if self.zoom.is_some() {
                    self.zoom = self.cursor;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(contents: Contents) -> char {
        cell(contents).1
    }

    #[test]
    fn a_cell_says_what_is_in_it() {
        let none = Contents::default();
        assert_eq!(of(Contents { without_memory: 512, ..none }), '·');
        assert_eq!(of(Contents { without_memory: 500, free: 12, ..none }), '░');
        assert_eq!(of(Contents { whole: 512, ..none }), '█');
        assert_eq!(of(Contents { whole: 12, ..none }), '█', "a pageblock that begins late");
        assert_eq!(of(Contents { whole: 511, free: 1, ..none }), '▓');
        for (kept, letter) in [(1, '1'), (9, '9'), (10, '+'), (99, '+'), (100, '#'), (512, '#')] {
            assert_eq!(
                of(Contents { pages: kept / 2, last: kept - kept / 2, free: 512 - kept, ..none }),
                letter
            );
        }
        assert_eq!(of(Contents { set_aside: 512, ..none }), 'x');
        assert_eq!(of(Contents { set_aside: 1, free: 511, ..none }), '░');
    }

    #[test]
    fn rows_fit_and_begin_at_round_places() {
        assert_eq!([20, 60, 75, 100, 400].map(row_cells), [8, 32, 64, 64, 64]);
    }

    #[test]
    fn the_cursor_stays_in_the_arena_and_rows_without_memory_are_left_out() {
        let empty = Contents { without_memory: 512, ..Contents::default() };
        let mut pageblocks: Vec<Pageblock> =
            (0..200).map(|i| Pageblock { offset: i << 21, contents: empty }).collect();
        pageblocks[130].contents = Contents { last: 3, free: 509, ..Contents::default() };
        let mut cells = Cells { zoom: None, cursor: None };
        let lines = cells.all(&pageblocks, 60);
        assert_eq!(lines.len(), 4, "the first row, rows left out, one row, rows left out: {lines:?}");
        assert!(lines[2].iter().any(|(_, piece)| piece == "3"));
        cells.cursor = Some(70);
        assert!(cells.all(&pageblocks, 60).iter().flatten().any(|(paint, _)| *paint == Paint::Cursor));
    }
}
