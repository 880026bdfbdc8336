//! `tailpin top`: where all bytes of a running program's arenas are, on one screen.

use serde_json::{Map, Value};
use tailpin_arena::outside::TagUse;

use crate::Status;
use crate::arenas::{self, Lines, Paint, Seen, View, cut, told_holders};
use crate::units::{bytes, time};

const EXAMPLES: &str = "\
Examples:
  tailpin top                    the only program that has arenas
  tailpin top 1234               a process
  tailpin top /proc/1234/fd/5    a shared arena, by its file
  tailpin top --once --json 1234 | jq '.arenas[].in_use_bytes'
  tailpin top --picture top.svg 1234

The arena's `stats()`, printed by the program, are the same page, without what only the kernel knows and rates.

The program does nothing for it, and pays nothing while nothing looks. Its pages are counted from outside, from a copy \
of the 8 bytes that it has for each page; each is counted once, so the parts add up to the address space. Where pages \
changed hands during the copy, the page says in how many 2 MiB pageblocks.

Blocks per second are those handed out at least: a page counts up to 64 between two looks.

Keys of the live screen (feature `live`; without it the page is printed again and again): q ends, arrows scroll.

Exit codes: 0 done, 1 the arena can't be read or went away, 2 bad usage, no such process, no arena or no permission.";

/// Holders in the JSON object.
const WORST: usize = 5;
/// Tags on the page.
const TAGS: usize = 5;

/// Shows where all bytes of a running program's arenas are
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = "More, with examples: tailpin top --help")]
pub(crate) struct Args {
    #[command(flatten)]
    arenas: arenas::Options,
}

pub(crate) fn run(args: &Args) -> Status {
    arenas::show(&args.arenas, &mut Page)
}

struct Page;

impl View for Page {
    fn json(&self, seen: &Seen) -> Map<String, Value> {
        let holders = seen.look.holders();
        Map::from_iter([
            ("rates".to_owned(), serde_json::to_value(seen.rates).expect("numbers")),
            ("holders".to_owned(), told_holders(&holders[..holders.len().min(WORST)])),
        ])
    }

    fn lines(&self, seen: &Seen, width: usize) -> Lines {
        let look = &seen.look;
        let stats = look.stats();
        let line =
            |paint, number: String, words: &str| vec![(paint, cut(&format!("{number:>10}  {words}"), width))];
        let mut lines = vec![vec![(Paint::Bold, cut(&seen.name, width))]];
        let with_memory = stats.size.saturating_sub(stats.given_back).max(1);
        for ((part, what), paint) in stats.parts().into_iter().zip([
            Paint::Whole,
            Paint::Kept,
            Paint::Kept,
            Paint::Kept,
            Paint::Plain,
            Paint::Dim,
            Paint::Bad,
        ]) {
            if part == 0 && paint == Paint::Bad {
                continue;
            }
            let share = part as f64 / with_memory as f64;
            if paint == Paint::Dim {
                // Address space that no memory is under has no share of it.
                lines.push(line(paint, bytes(part as u64), what));
                continue;
            }
            let room = width.saturating_sub(46).min(40);
            let bar = "█".repeat((share * room as f64).round() as usize);
            let head = format!("{:>10}  {what:<20} {:5.1} %  ", bytes(part as u64), share * 100.0);
            lines.push(vec![(Paint::Plain, cut(&head, width)), (paint, bar)]);
        }
        let in_use = bytes(stats.in_use() as u64);
        match stats.limit {
            Some(limit) => {
                lines.push(line(Paint::Bold, bytes(limit as u64), &format!("may be in use, {in_use} is")));
            }
            None => lines.push(line(Paint::Bold, in_use, "is in use, without a limit")),
        }
        lines.push(line(Paint::Bold, bytes(stats.size as u64), "address space, the sum"));
        lines.push(line(Paint::Plain, bytes(stats.largest_free as u64), "largest free block"));
        if let Some(resident) = look.kernel_resident() {
            lines.push(line(Paint::Plain, bytes(resident as u64), "resident, as the kernel counts"));
        }
        lines.push(line(Paint::Dim, bytes(stats.metadata as u64), "words beside it, as address space"));
        if let Some(rates) = seen.rates {
            let signed = |rate: f64| {
                let sign = if rate < 0.0 { "−" } else { "+" };
                format!("{sign}{}/s", bytes(rate.abs() as u64))
            };
            lines.push(line(
                Paint::Plain,
                format!("{:.0}/s", rates.blocks_per_s),
                "blocks handed out, at least",
            ));
            lines.push(line(Paint::Plain, signed(rates.in_use_bytes_per_s), "in use"));
            lines.push(line(Paint::Plain, signed(rates.given_back_bytes_per_s), "given back"));
        }
        for TagUse { tag, bytes: kept, buffers } in look.tags().iter().take(TAGS) {
            let tag = cut(tag.as_deref().unwrap_or("(no tag)"), width.saturating_sub(30).clamp(8, 40));
            let plural = if *buffers == 1 { "" } else { "s" };
            lines.push(line(Paint::Kept, bytes(*kept as u64), &format!("{tag}, {buffers} buffer{plural}")));
        }
        let built =
            look.age().map_or(String::new(), |age| format!("built {} ago; ", time(age.as_nanos() as u64)));
        let still = match look.changed_pageblocks() {
            0 => "nothing changed during the look".to_owned(),
            n => format!("{n} pageblocks changed during the look"),
        };
        lines.push(vec![(Paint::Dim, cut(&format!("{built}{still}"), width))]);
        lines
    }
}

#[cfg(test)]
mod tests {
    use tailpin_arena::{Arena, outside};

    use super::*;
    use crate::style::Style;

    /// A program that logs its figures logs what is seen from outside.
    #[test]
    fn the_page_has_every_line_that_stats_prints() {
        let arena = Arena::builder().size(58 << 20).limit(20 << 20).build().unwrap();
        let kept = (arena.alloc(3 << 20).unwrap(), arena.copy(b"a name").unwrap());
        let looks = outside::arenas_of(std::process::id()).unwrap().into_iter();
        let look = looks.filter_map(|it| it.look().ok()).find(|it| it.stats().size == arena.size()).unwrap();
        let seen = Seen { name: String::new(), look, rates: None };
        let page = crate::arenas::painted(&Page.lines(&seen, 100), Style::plain());
        // What a line says after its number, without figures.
        let words = |line: &str| {
            let said = line.trim_start().split_once("  ").map_or("", |(_, said)| said);
            let words = said.split([',', ' ']).filter(|word| word.starts_with(char::is_alphabetic));
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        let shown: Vec<Vec<String>> = page.lines().map(words).collect();
        for line in arena.stats().to_string().lines().filter(|line| !line.contains("service")) {
            assert!(shown.contains(&words(line)), "{line}\n{page}");
        }
        drop(kept);
    }
}
