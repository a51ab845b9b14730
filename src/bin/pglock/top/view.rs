//! The screen of `pglock top`.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table, Wrap};

use super::state::{Mode, Session, State};
use diesel_pglock::internal::format_duration;

const HELP: &str = "\
 ↑ ↓ j k   choose a session
 Enter     the query in full; ↑ ↓ move in it
 /         filter by a part of any text; Esc clears it
 s         sort by wait, blocks, pid, application
 t         show the tree or the query
 c         cancel the query of the session
 x         terminate the session
 ?         this help
 q Esc     quit";

const COLUMNS: [(&str, Constraint); 7] = [
    ("PID", Constraint::Length(8)),
    ("WAIT", Constraint::Length(13)),
    ("BLOCKS", Constraint::Length(6)),
    ("APPLICATION", Constraint::Length(18)),
    ("STATE", Constraint::Length(19)),
    ("WAITS FOR", Constraint::Fill(1)),
    ("QUERY", Constraint::Fill(1)),
];

pub fn draw(state: &mut State, frame: &mut Frame<'_>) {
    let below = Constraint::Percentage(if state.shows_tree { 50 } else { 30 });
    let rows = [
        Constraint::Length(1),
        Constraint::Min(3),
        below,
        Constraint::Length(1),
    ];
    let [head, sessions, detail, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(header(state), head);
    draw_sessions(state, frame, sessions);
    frame.render_widget(self::detail(state), detail);
    frame.render_widget(footer(state), foot);
    match &state.mode {
        Mode::Help => pop_up(frame, "Keys", HELP),
        Mode::Confirm(request) => {
            let text = format!("{}\n[y/N]", request.list());
            pop_up(frame, &request.question(), &text);
        }
        Mode::Query(line) => {
            frame.render_widget(Clear, frame.area());
            frame.render_widget(query(state).scroll((*line, 0)), frame.area());
        }
        Mode::Watch | Mode::Filter => {}
    }
}

fn header(state: &State) -> Line<'static> {
    if let Some(error) = &state.lost {
        let style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        return Line::styled(format!("connection lost, trying again: {error}"), style);
    }
    let waiting = state.sessions.iter().filter(|it| it.waits.is_some());
    let (waiting, sort) = (waiting.count(), state.sort.name());
    Line::raw(format!("pglock top: {waiting} waiting, by {sort}"))
}

fn draw_sessions(state: &mut State, frame: &mut Frame<'_>, area: Rect) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let table = Table::new(
        state.sessions.iter().map(row),
        COLUMNS.map(|(_, width)| width),
    )
    .header(Row::new(COLUMNS.map(|(title, _)| title)).style(bold))
    .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut state.table);
}

fn row(session: &Session) -> Row<'_> {
    let waits = session.waits.map(format_duration).unwrap_or_default();
    let style = if session.waits.is_some() {
        Style::new().fg(Color::Yellow)
    } else {
        Style::new()
    };
    let cells = [
        session.name.clone(),
        waits,
        session.blocks.to_string(),
        session.application.clone(),
        session.state.clone(),
        session.lock.clone(),
        session.query.chars().take(500).collect(),
    ];
    Row::new(cells).style(style)
}

/// Returns the tree or the query.
fn detail(state: &State) -> Paragraph<'static> {
    if state.shows_tree {
        return Paragraph::new(state.tree()).block(Block::bordered().title("Tree"));
    }
    query(state)
}

fn query(state: &State) -> Paragraph<'static> {
    let (title, query) = match state.selected() {
        Some(session) => (format!("Query of {}", session.name), session.query.clone()),
        None => ("Query".to_owned(), "no session waits for a lock".to_owned()),
    };
    let block = Block::bordered().title(title);
    Paragraph::new(query)
        .wrap(Wrap { trim: false })
        .block(block)
}

fn footer(state: &State) -> Line<'static> {
    match &state.mode {
        Mode::Filter => Line::raw(format!("/{}_", state.filter)),
        _ if !state.message.is_empty() => Line::raw(state.message.clone()),
        _ if !state.filter.is_empty() => Line::raw(format!("filter: {}", state.filter)),
        _ => Line::raw("? help  / filter  s sort  t tree  c cancel  x terminate  q quit"),
    }
}

/// Draws a box over the middle of the screen.
fn pop_up(frame: &mut Frame<'_>, title: &str, text: &str) {
    let fill = Constraint::Fill(1);
    let rows = [fill, Constraint::Length(11), fill];
    let [_, middle, _] = Layout::vertical(rows).areas(frame.area());
    let columns = [fill, Constraint::Percentage(80), fill];
    let [_, area, _] = Layout::horizontal(columns).areas(middle);
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(title.to_owned());
    let text = Paragraph::new(text.to_owned());
    frame.render_widget(text.wrap(Wrap { trim: false }).block(block), area);
}
