//! The live screen: a view, drawn anew after each look and each key.

use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::Paragraph;

use super::text::{self, Paint};
use super::{Key, View, Watched};
use crate::Status;
use crate::style::harmless;

/// What a key asks for.
enum Asked {
    Quit,
    Redraw,
    Scroll(i32),
    Nothing,
}

/// Shows the arenas until the user ends it or they are gone.
pub(super) fn watch(
    watched: &mut Watched,
    view: &mut dyn View,
    interval: Duration,
) -> Result<Status, String> {
    watched.look()?;
    let mut terminal = ratatui::try_init().map_err(|error| format!("the terminal can't be used: {error}"))?;
    let ended = (|| {
        let mut next = Instant::now() + interval;
        let mut scroll = 0_u16;
        loop {
            terminal
                .draw(|frame| {
                    let width = usize::from(frame.area().width);
                    let lines = lines(watched, view, width);
                    let most = (lines.len() as u16).saturating_sub(frame.area().height);
                    scroll = scroll.min(most);
                    frame.render_widget(Paragraph::new(Text::from(lines)).scroll((scroll, 0)), frame.area());
                })
                .map_err(|error| format!("the terminal can't be written: {error}"))?;
            let wait = next.saturating_duration_since(Instant::now());
            if event::poll(wait).map_err(|error| error.to_string())? {
                let width = terminal.size().map_or(80, |size| usize::from(size.width));
                match asked(event::read().map_err(|error| error.to_string())?, watched, view, width) {
                    Asked::Quit => return Ok(Status::Clean),
                    Asked::Scroll(by) => scroll = scroll.saturating_add_signed(by as i16),
                    Asked::Redraw | Asked::Nothing => {}
                }
            } else {
                watched.look()?;
                next = Instant::now() + interval;
            }
        }
    })();
    ratatui::restore();
    ended
}

fn asked(event: Event, watched: &Watched, view: &mut dyn View, width: usize) -> Asked {
    let Event::Key(key) = event else { return Asked::Redraw };
    if key.kind == KeyEventKind::Release {
        return Asked::Nothing;
    }
    let known = match key.code {
        KeyCode::Char('q') => return Asked::Quit,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Asked::Quit,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::PageUp => return Asked::Scroll(-10),
        KeyCode::PageDown => return Asked::Scroll(10),
        _ => return Asked::Nothing,
    };
    match (view.key(known, watched.last(), width), known) {
        (true, _) => Asked::Redraw,
        (false, Key::Up) => Asked::Scroll(-1),
        (false, Key::Down) => Asked::Scroll(1),
        (false, Key::Escape) => Asked::Quit,
        (false, _) => Asked::Nothing,
    }
}

fn lines(watched: &Watched, view: &dyn View, width: usize) -> Vec<Line<'static>> {
    let mut all = Vec::new();
    for seen in watched.last() {
        all.extend(view.lines(seen, width).into_iter().map(line));
        all.push(Line::default());
    }
    all.push(Line::styled("q ends", Style::new().add_modifier(Modifier::DIM)));
    all
}

fn line(line: text::Line) -> Line<'static> {
    let span = |(paint, piece): (Paint, String)| {
        let style = match paint {
            Paint::Plain => Style::new(),
            Paint::Bold => Style::new().add_modifier(Modifier::BOLD),
            Paint::Dim => Style::new().add_modifier(Modifier::DIM),
            Paint::Whole => Style::new().fg(Color::Green),
            Paint::Kept => Style::new().fg(Color::Yellow),
            Paint::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            Paint::Cursor => Style::new().add_modifier(Modifier::REVERSED),
        };
        Span::styled(harmless(&piece).into_owned(), style)
    };
    Line::from(line.into_iter().map(span).collect::<Vec<_>>())
}
