//! `tailpin holders`: who keeps memory of a running program's arenas, and what would come back.

use serde_json::{Map, Value};
use tailpin_arena::outside::Holder;

use crate::Status;
use crate::arenas::{self, Lines, Paint, Seen, View, cut, told_holders};
use crate::units::{bytes, time};

const EXAMPLES: &str = "\
Examples:
  tailpin holders 1234                     fewest pins first
  tailpin holders 1234 --older-than 60     what has been kept for a minute and longer
  tailpin holders --json 1234 | jq '.arenas[].holders[] | select(.pins == 1)'

A holder is what is left of a buffer: its tag, how long ago it was handed out, how many pins and references keep how \
much of it, and how many 2 MiB pageblocks are wholly free once it goes. Of a shared arena it is a process; what other \
processes keep as well does not come back.

Exit codes: as of tailpin top.";

/// Shows who keeps memory of a running program, those with the fewest pins first
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = "More, with examples: tailpin holders --help")]
pub(crate) struct Args {
    #[command(flatten)]
    arenas: arenas::Options,

    /// Only what was handed out at least so long ago
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    older_than: f64,

    /// Most holders of an arena that are listed
    #[arg(long, value_name = "N", default_value_t = 100)]
    most: usize,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..f64::INFINITY).contains(&seconds) => Ok(seconds),
        _ => Err("a time is a number of seconds from 0 on".into()),
    }
}

pub(crate) fn run(args: &Args) -> Status {
    arenas::show(&args.arenas, &mut Table { older_than: args.older_than, most: args.most })
}

struct Table {
    older_than: f64,
    most: usize,
}

impl Table {
    fn listed<'a>(&self, seen: &'a Seen) -> Vec<&'a Holder> {
        let old = |holder: &&Holder| holder.age.is_none_or(|age| age.as_secs_f64() >= self.older_than);
        seen.look.holders().iter().filter(old).collect()
    }
}

impl View for Table {
    fn json(&self, seen: &Seen) -> Map<String, Value> {
        let listed: Vec<Holder> = self.listed(seen).into_iter().take(self.most).cloned().collect();
        Map::from_iter([("holders".to_owned(), told_holders(&listed))])
    }

    fn lines(&self, seen: &Seen, width: usize) -> Lines {
        let mut lines = vec![vec![(Paint::Bold, cut(&seen.name, width))]];
        let head = format!(
            "{:>5} {:>4} {:>9} {:>9} {:>5} {:>8}  {}",
            "pins", "refs", "back", "of", "2 MiB", "age", "tag"
        );
        lines.push(vec![(Paint::Dim, cut(&head, width))]);
        let listed = self.listed(seen);
        for holder in listed.iter().take(self.most) {
            let of = holder.buffer_bytes.map_or("-".to_owned(), |of| bytes(of as u64));
            let age = holder.age.map_or("-".to_owned(), |age| time(age.as_nanos() as u64));
            let who = match (&holder.tag, holder.pid) {
                (Some(tag), _) => tag.clone(),
                (None, Some(pid)) => format!("process {pid}"),
                (None, None) => "(no tag)".to_owned(),
            };
            let (pins, refs, whole) = (holder.pins, holder.references, holder.pageblocks);
            let back = bytes(holder.comes_back_bytes as u64);
            let row = format!("{pins:>5} {refs:>4} {back:>9} {of:>9} {whole:>5} {age:>8}  {who}");
            let paint = if refs > 0 { Paint::Whole } else { Paint::Kept };
            lines.push(vec![(paint, cut(&row, width))]);
        }
        if listed.len() > self.most {
            lines.push(vec![(Paint::Dim, format!("and {} more", listed.len() - self.most))]);
        }
        let all: usize = listed.iter().map(|holder| holder.comes_back_bytes).sum();
        let whole: usize = listed.iter().map(|holder| holder.pageblocks).sum();
        let sum = format!(
            "{} would come back from {} of them, {whole} pageblocks whole",
            bytes(all as u64),
            listed.len()
        );
        lines.push(vec![(Paint::Bold, cut(&sum, width))]);
        lines
    }
}
