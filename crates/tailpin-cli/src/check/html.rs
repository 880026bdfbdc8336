//! Races as a page: each told, and all its steps to go through one by one.

use tailpin_check::story::{Mark, Story};
use tailpin_check::table;

use super::{MOST_ROWS, Race};
use crate::page::{Page, escaped};
use crate::units::counted;

/// Columns of threads, two beside each other on a phone too; what is not yet done is pale.
const STYLE: &str = "<style>
.run { list-style: none; margin: 0.5rem 0; padding: 0; font-size: 13px; line-height: 1.35; }
.run li { display: grid; grid-template-columns: 2.2em repeat(var(--threads), minmax(0, 1fr)); gap: 0 0.5rem;
  border-bottom: 1px solid var(--line); padding: 0.2rem 0 0.2rem 0.4rem; }
.run li > b { font-weight: 400; color: var(--soft); font-variant-numeric: tabular-nums; }
.run li > span { grid-column: calc(var(--thread) + 2); overflow-wrap: anywhere; }
.run li.all > span { grid-column: 2 / -1; color: var(--soft); }
.run li.head { font-weight: 600; }
.run li.clash { background: var(--shade); box-shadow: inset 3px 0 var(--orange); }
.run li.broke { box-shadow: inset 3px 0 var(--red); }
.run li.later { opacity: 0.25; }
.run li.now { background: var(--shade); box-shadow: inset 3px 0 var(--blue); }
.bar { position: sticky; top: 0; background: var(--paper); padding: 0.4rem 0; display: flex; flex-wrap: wrap; gap: 0.5rem; }
.bar button { font: inherit; color: inherit; background: var(--shade); border: 1px solid var(--line);
  border-radius: 4px; padding: 0.3rem 0.9rem; }
.words { font-size: 13px; color: var(--soft); margin: 0; }
</style>";

/// Goes through the steps of each race: what each word is at the step is written under the buttons.
const SCRIPT: &str = "<script>
for (const race of document.querySelectorAll('.race')) {
  const steps = [...race.querySelectorAll('.every li[data-step]')], bar = race.querySelector('.bar');
  const words = race.querySelector('.words');
  let now = steps.length;
  const show = (to) => {
    now = Math.max(1, Math.min(steps.length, to));
    const is = new Map();
    steps.forEach((step, at) => {
      step.classList.toggle('later', at >= now);
      step.classList.toggle('now', at === now - 1);
      if (at < now && step.dataset.word) is.set(step.dataset.word, step.dataset.is);
    });
    words.textContent = 'Step ' + now + ' of ' + steps.length + '. ' +
      [...is].map(([word, value]) => word + ': ' + value).join('; ');
    steps[now - 1].scrollIntoView({ block: 'nearest' });
  };
  bar.hidden = false;
  const by = { first: () => 1, back: () => now - 1, next: () => now + 1, last: () => steps.length };
  bar.addEventListener('click', (event) => { const to = by[event.target.name]; if (to) show(to()); });
  race.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowRight') show(now + 1); else if (event.key === 'ArrowLeft') show(now - 1);
  });
}
</script>";

/// Most steps of a run that are shown one by one: one without an end goes round and round.
const MOST_STEPS: usize = 400;

/// The page.
pub(super) fn html(races: &[Race<'_>]) -> String {
    let mut page = Page::new("tailpin check");
    page.raw(STYLE);
    let names: Vec<_> = races.iter().map(|race| race.hazard.name()).collect();
    page.headline(&match names.as_slice() {
        [] => "No race was found".to_owned(),
        [one] => format!("{one}, and how it goes wrong"),
        several => format!("{}, and how they go wrong", several.join(", ")),
    });
    page.explain(
        "One column per thread. Orange: the two steps that clash. Red: where it broke. A word of a page is told as \
         what the page is, with its order, pins and references.",
    );
    for race in races {
        section(&mut page, race);
    }
    page.raw(SCRIPT);
    page.finish()
}

fn section(page: &mut Page, race: &Race<'_>) {
    let story = Story::of(race.run, MOST_ROWS);
    page.raw(format_args!("<section class=\"race\" style=\"--threads: {}\">", story.threads.len()));
    page.heading(&format!("{}: {}", race.hazard.name(), race.hazard.without()));
    let (scenario, title) = (race.told.row.scenario, race.told.check.title);
    let protocol = race.hazard.protocol().name();
    page.say(&format!("Found in {}. Told: {scenario}, {title} ({protocol}).", race.scenarios.join(", ")));
    if !story.before.is_empty() {
        page.say(&format!("At first: {}.", story.before.join("; ")));
    }
    let letters = || (b'A'..).map(char::from);
    let mut rows = String::from("<li class=\"head\"><b></b>");
    for (thread, (letter, name)) in letters().zip(&story.threads).enumerate() {
        rows += &format!("<span style=\"--thread: {thread}\">{letter}: {}</span>", escaped(name));
    }
    rows += "</li>\n";
    let head = rows.clone();
    for (index, row) in story.rows.iter().enumerate() {
        let class = match row.mark {
            Mark::None => "",
            Mark::Clash => " class=\"clash\"",
            Mark::Break => " class=\"broke\"",
        };
        let (number, thread, text) = (index + 1, row.thread, escaped(&row.text));
        rows += &format!("<li{class}><b>{number}</b><span style=\"--thread: {thread}\">{text}</span></li>\n");
    }
    page.raw(format_args!("<ol class=\"run\">\n{rows}</ol>"));
    if !story.after.is_empty() {
        page.say(&format!("At the end: {}.", story.after.join("; ")));
    }
    if !story.believed.is_empty() {
        page.say(&story.believed.join(" "));
    }
    page.verdict(false, &format!("Broke: {}", story.broke));

    let mut steps = head;
    let every = table::every_step(race.run);
    let summary = match every.len() {
        all if all > MOST_STEPS => format!("The first {MOST_STEPS} of {}", counted(all as u64, "step")),
        _ => "Every step".to_owned(),
    };
    for (index, step) in every.iter().take(MOST_STEPS).enumerate() {
        let word = step.word.as_ref().map_or(String::new(), |(word, is)| {
            format!(" data-word=\"{}\" data-is=\"{}\"", escaped(word), escaped(is))
        });
        let (class, place) = match step.thread {
            Some(thread) => ("", format!(" style=\"--thread: {thread}\"")),
            None => (" class=\"all\"", String::new()),
        };
        let (number, text) = (index + 1, escaped(&step.text));
        steps += &format!("<li data-step{class}{word}><b>{number}</b><span{place}>{text}</span></li>\n");
    }
    page.raw(format_args!(
        "<details open><summary>{summary}</summary>\n\
         <div class=\"bar\" hidden><button name=\"first\">First</button><button name=\"back\">Back</button>\
         <button name=\"next\">Next</button><button name=\"last\">Last</button><p class=\"words\"></p></div>\n\
         <ol class=\"run every\">\n{steps}</ol></details>\n</section>"
    ));
}
