//! An outcome for people: what was replayed and why it matters, what it cost, and what Linux pays
//! for the same.

use tailpin::PAGE_BYTES;
use tailpin_replay::{Outcome, trace};

use crate::busy::Warning;
use crate::grid::Grid;
use crate::output::command;
use crate::style::{Style, wrapped};
use crate::units::{bytes, counted, grouped, time};

/// What is said beside the two numbers of bookkeeping.
pub(crate) const BOOKKEEPING: &str = "Bookkeeping: of tailpin, the word of each page and the \
    allocator's bits; of Linux, struct page, which also says whose a page is. With that (tailpin-mm) \
    it is 16 B more here. Linux folds most of its own away for pages of hugetlb.";

/// Trace, protocol and threads.
pub(crate) fn title(outcome: &Outcome) -> String {
    let threads = counted(outcome.threads, "thread");
    format!("{}, {} protocol, {threads}", outcome.trace, outcome.protocol.name())
}

/// What was recorded, what was done with it, and why that matters to one who never saw a kernel.
pub(crate) fn story(outcome: &Outcome) -> Vec<String> {
    let recorded = match trace::Builtin::named(&outcome.trace) {
        Some(builtin) => format!("What was recorded: {}.", builtin.about),
        None => format!("What was recorded: the trace {}.", outcome.trace),
    };
    let mut story = vec![format!(
        "{recorded} tailpin just did the same {} steps in {}, and every page was checked at the end.",
        grouped(outcome.events),
        time(outcome.elapsed_ns)
    )];
    let pinned = outcome.tally.splits_under_pins;
    let refused = outcome.linux_thp_split_page_failed.unwrap_or(0);
    if refused > 0 || pinned > 0 {
        let linux = match refused {
            0 => "Linux does not do that while a page in it is pinned.".to_owned(),
            1 => "Linux refused once, because a page was pinned.".to_owned(),
            refused => format!("Linux refused {} times, because a page was pinned.", grouped(refused)),
        };
        story.push(format!(
            "Why it matters: a slice of 200 bytes keeps its whole buffer of 2 MiB alive. Kernels have \
             the same problem: a block of 512 pages, of which one is still being read into (it is \
             pinned), is wanted back as single pages (it is to be split). {linux} tailpin never \
             refuses: it split {} under their pins. The pins stayed on their pages, all other \
             pages were free at once.",
            counted(pinned, "block")
        ));
    }
    story
}

/// What can be done next, and what for.
fn next(outcome: &Outcome) -> Grid {
    let mut next = Grid::new(["", ""]).with_words(1);
    next.row([command("retain"), "the problem in a program: slices of a log (1 GiB on disk)".to_owned()]);
    let named = match trace::Builtin::named(&outcome.trace) {
        Some(builtin) => builtin.name,
        None => "TRACE",
    };
    next.row([
        command(&format!("replay {named} --report replay.html")),
        "this replay as a page, with pictures".to_owned(),
    ]);
    next
}

/// What the replay did, by name.
pub(crate) fn facts(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let count = |number: u64| grouped(number);
    let tally = &outcome.tally;
    let mut facts = vec![
        ("steps", format!("{} in {}", count(outcome.events), time(outcome.elapsed_ns))),
        ("speed", speed(outcome)),
        ("blocks handed out", count(tally.allocs)),
        ("blocks given back", count(tally.frees)),
        (
            "blocks split",
            match tally.splits_under_pins {
                0 => count(tally.splits),
                pinned => {
                    format!("{}, {} while pages in them were pinned", count(tally.splits), count(pinned))
                }
            },
        ),
        ("pages pinned", format!("{}, and unpinned {}", count(tally.pins), count(tally.unpins))),
    ];
    if tally.collapses > 0 {
        facts.push((
            "blocks merged",
            format!("{} of {} that Linux looked at", count(tally.merges), count(tally.collapses)),
        ));
    }
    facts.push((
        "most in use",
        format!(
            "{} pages ({}); {} of {} pageblocks of 2 MiB were whole and free then",
            count(outcome.peak_used_frames),
            bytes(outcome.peak_used_frames * PAGE_BYTES),
            count(outcome.huge_free_at_peak),
            count(outcome.zone_frames / tailpin::PAGEBLOCK_FRAMES as u64)
        ),
    ));
    let (left, trace) = (outcome.live_frames_at_end, outcome.trace_live_frames_at_end);
    facts.push((
        "left at the end",
        match left == trace {
            true => format!("{} pages, as the trace leaves them", count(left)),
            false => format!("{} pages, where the trace has {}", count(left), count(trace)),
        },
    ));
    facts
}

fn speed(outcome: &Outcome) -> String {
    let speed = format!("{:.2} million steps/s", outcome.events_per_s as f64 / 1e6);
    if outcome.rounds == 1 { speed } else { format!("{speed}, the fastest of {} rounds", outcome.rounds) }
}

/// What it costs here and in Linux.
pub(crate) fn compared(outcome: &Outcome) -> Grid {
    let linux_bytes = outcome.linux_metadata_bytes_per_frame * outcome.zone_frames;
    let our_bytes = (outcome.metadata_bytes_per_frame * outcome.zone_frames as f64) as u64;
    let mut lines = Grid::new(["", "tailpin", "Linux"]);
    lines.row([
        "splits refused because of a pin".to_owned(),
        "0".to_owned(),
        outcome.linux_thp_split_page_failed.map_or("none recorded".to_owned(), grouped),
    ]);
    if outcome.linux_split_later_ns > 0 {
        lines.row([
            "splits that waited for a pin, added up".to_owned(),
            "0 s".to_owned(),
            format!("up to {}", time(outcome.linux_split_later_ns)),
        ]);
    }
    if outcome.tally.refused_by_linux > 0 {
        lines.row([
            "pages free at once where Linux refused".to_owned(),
            grouped(outcome.tally.freed_at_once_frames),
            "0".to_owned(),
        ]);
    }
    lines.row([
        "bookkeeping for each page of 4 KiB".to_owned(),
        format!("{:.2} B", outcome.metadata_bytes_per_frame),
        format!("{} B", outcome.linux_metadata_bytes_per_frame),
    ]);
    lines.row(["bookkeeping of all this memory".to_owned(), bytes(our_bytes), bytes(linux_bytes)]);
    lines
}

/// `clean`, or everything that is wrong.
pub(crate) fn verdict(outcome: &Outcome) -> String {
    if outcome.is_clean() {
        return "clean: 0 violations, 0 frames leaked, 0 events skipped".to_owned();
    }
    format!(
        "NOT CLEAN: {} violations, {} frames leaked, {} events skipped, {} failed allocations",
        grouped(outcome.violations),
        grouped(outcome.leaked_frames),
        grouped(outcome.tally.skipped),
        grouped(outcome.tally.failed_allocs)
    )
}

/// Everything, for a terminal of `width` columns.
pub(crate) fn render(outcome: &Outcome, busy: Option<Warning>, width: usize, style: Style) -> String {
    let mut text = wrapped(&title(outcome), "", "", width);
    if let Some(line) = text.strip_suffix('\n') {
        text = style.bold(line) + "\n";
    }
    for paragraph in story(outcome) {
        text.push('\n');
        text += &wrapped(&paragraph, "", "", width);
    }
    text.push('\n');
    text += &compared(outcome).text(width, style);
    text.push('\n');
    let mut done = Grid::new(["", ""]).with_words(1);
    facts(outcome).into_iter().for_each(|(name, value)| done.row([name.to_owned(), value]));
    text += &done.text(width, style);
    text.push('\n');
    let verdict = wrapped(&verdict(outcome), "  ", "  ", width);
    text += &if outcome.is_clean() { style.good(&verdict) } else { style.bad(&verdict) };
    for finding in &outcome.findings {
        text += &wrapped(finding, "    ", "    ", width);
    }
    if let Some(warning) = busy {
        text += &wrapped(&warning.to_string(), "  ", "  ", width);
    }
    text += &style.dim(&wrapped(BOOKKEEPING, "  ", "  ", width));
    if outcome.is_clean() {
        text += &format!("\n{}\n{}", style.bold("Next"), next(outcome).text(width, style));
    }
    text
}

/// The two tables as Markdown, with what was replayed above them.
pub(crate) fn markdown(outcome: &Outcome) -> String {
    let mut done = Grid::new(["", ""]).with_words(1);
    facts(outcome).into_iter().for_each(|(name, value)| done.row([name.to_owned(), value]));
    format!(
        "### {}\n\n{}\n{}\n{}.\n",
        title(outcome),
        compared(outcome).markdown(),
        done.markdown(),
        verdict(outcome)
    )
}
