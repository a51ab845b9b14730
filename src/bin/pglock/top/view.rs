//! The screen of `pglock top`.

use chrono::TimeDelta;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table, Wrap};

use super::session::Session;
use super::state::{Mode, State};
use crate::output::clean_query;
use diesel_pglock::internal::format_duration;

const HELP: &str = "\
↑ ↓ j k PgUp PgDn   choose a session; roots are at the top
Space     mark it, or remove its mark
c         cancel the query of the session, or of all marked ones
x         terminate the session, or all marked ones
Enter     the query in full; ↑ ↓ move in it
/         filter by a part of any text
Esc       clear filter and marks; back to the worst root
s         sort the waiters by wait, blocks, pid, application
t         show the tree or the query
p + -     pause; poll less often, more often
?         this help
q         quit";

/// A column: its title, its least width, whether it takes the room that is left, and its rank.
///
/// On a narrow terminal the columns with the highest ranks are left out.
struct Column {
    title: &'static str,
    width: u16,
    grows: bool,
    rank: u8,
    get: fn(&Session) -> String,
}

const fn column(
    title: &'static str,
    width: u16,
    grows: bool,
    rank: u8,
    get: fn(&Session) -> String,
) -> Column {
    Column {
        title,
        width,
        grows,
        rank,
        get,
    }
}

const COLUMNS: [Column; 12] = [
    column("PID", 8, false, 0, |it| it.name.clone()),
    column("BLOCKS", 6, false, 1, |it| match it.blocks {
        0 => String::new(),
        blocks => blocks.to_string(),
    }),
    column("WAIT", 7, false, 2, |it| short(it.waits)),
    column("TX AGE", 7, false, 3, |it| short(it.age)),
    column("WROTE", 5, false, 8, |it| yes(it.has_written)),
    column("STATE", 19, false, 6, |it| it.state.clone()),
    column("FOR", 7, false, 9, |it| short(it.state_age)),
    column("APPLICATION", 12, false, 5, |it| it.application.clone()),
    column("DATABASE", 10, false, 10, |it| it.database.clone()),
    column("USER", 10, false, 11, |it| it.user.clone()),
    column("WAITS FOR", 20, true, 7, |it| it.lock.clone()),
    column("QUERY", 15, true, 4, |it| {
        clean_query(&it.query).chars().take(500).collect()
    }),
];

/// Returns the columns that fit a width.
fn columns(width: u16) -> Vec<&'static Column> {
    let mut columns: Vec<&Column> = COLUMNS.iter().collect();
    let sum = |columns: &[&Column]| columns.iter().map(|it| it.width + 1).sum::<u16>();
    while columns.len() > 2 && sum(&columns) > width + 1 {
        let last = (0..columns.len()).max_by_key(|i| columns[*i].rank);
        last.map(|last| columns.remove(last));
    }
    columns
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "" }.to_owned()
}

/// Formats a duration in its largest unit.
fn short(duration: Option<TimeDelta>) -> String {
    let text = duration.map(format_duration).unwrap_or_default();
    text.split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
}

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
    let bold = Style::new().add_modifier(Modifier::BOLD);
    if let Some(error) = &state.lost {
        let text = format!("connection lost, trying again{}: {error}", age(state));
        return Line::styled(text, bold.fg(Color::Red));
    }
    let (waiters, roots, sort) = (state.waiters, state.roots, state.sort.name());
    let is_shown = |it: &&Session| it.waits.is_some();
    let shown = match state.sessions.iter().filter(is_shown).count() {
        shown if shown == waiters => String::new(),
        shown => format!(" ({shown} shown)"),
    };
    let roots = format!("{roots} {}", if roots == 1 { "root" } else { "roots" });
    let text = format!("pglock top: {waiters} waiting{shown} behind {roots}, by {sort}");
    let text = text + if state.is_paused { ", paused" } else { "" } + &age(state);
    if let Some(reason) = &state.nameless {
        return Line::styled(format!("{text}; no names of relations: {reason}"), bold);
    }
    let text = text + hint(state);
    match state.is_old() {
        true => Line::styled(text, bold),
        false => Line::raw(text),
    }
}

/// Returns a hint that fits a line with the numbers.
fn hint(state: &State) -> &'static str {
    match state.has_hidden_activity {
        true => "; pg_read_all_stats would show more",
        false => "",
    }
}

/// Returns the age of a picture that is old.
fn age(state: &State) -> String {
    let loaded = state.loaded.filter(|_| state.is_old());
    let age = loaded.and_then(|loaded| TimeDelta::from_std(loaded.elapsed()).ok());
    let age = age.map(|age| format!(", as of {} ago", format_duration(age)));
    age.unwrap_or_default()
}

fn draw_sessions(state: &mut State, frame: &mut Frame<'_>, area: Rect) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let columns = columns(area.width);
    let widths = columns.iter().map(|it| match it.grows {
        true => Constraint::Fill(1),
        false => Constraint::Length(it.width),
    });
    let rows: Vec<Row<'_>> = state
        .sessions
        .iter()
        .map(|session| row(session, &columns, state.is_marked(session)))
        .collect();
    let table = Table::new(rows, widths)
        .header(Row::new(columns.iter().map(|it| it.title)).style(bold))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut state.table);
}

fn row(session: &Session, columns: &[&Column], is_marked: bool) -> Row<'static> {
    let style = match (session.is_root, is_marked) {
        (_, true) => Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD),
        (true, _) => Style::new().fg(Color::Red),
        (false, _) => Style::new().fg(Color::Yellow),
    };
    let mark = if is_marked { "*" } else { "" };
    let mut cells: Vec<String> = columns.iter().map(|column| (column.get)(session)).collect();
    cells[0].insert_str(0, mark);
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
        Some(session) if session.pid.is_none() => {
            let title = format!(
                "To end {} in database {}",
                session.application, session.database
            );
            (title, session.query.clone())
        }
        Some(session) => (format!("Query of {}", session.name), session.query.clone()),
        None if state.waiters > 0 => ("Query".to_owned(), "no session matches".to_owned()),
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
    let rows = [fill, Constraint::Length(14), fill];
    let [_, middle, _] = Layout::vertical(rows).areas(frame.area());
    let columns = [fill, Constraint::Percentage(80), fill];
    let [_, area, _] = Layout::horizontal(columns).areas(middle);
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(title.to_owned());
    let text = Paragraph::new(text.to_owned());
    frame.render_widget(text.wrap(Wrap { trim: false }).block(block), area);
}
