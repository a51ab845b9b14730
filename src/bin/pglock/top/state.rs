//! The state of `pglock top`, and the keys that change it.

use std::cmp::Reverse;
use std::collections::HashMap;

use chrono::TimeDelta;
use diesel_pglock::{PgActivity, SignalKind, WaitGraph, WaitNode};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use super::feed::Update;
use crate::output::clean;
use crate::signal::Victim;
use crate::signal::{DECLINED, SignalRequest};

/// A session that waits or blocks.
#[derive(Clone, Debug)]
pub struct Session {
    pub pid: Option<i32>,
    /// Its pid, or the name of a prepared transaction.
    pub name: String,
    pub waits: Option<TimeDelta>,
    /// The number of sessions that it blocks directly.
    pub blocks: usize,
    pub application: String,
    pub state: String,
    /// The lock that it waits for.
    pub lock: String,
    pub query: String,
    pub activity: Option<PgActivity>,
}

/// The part of the screen that receives the keys.
#[derive(Clone, Debug, Default)]
pub enum Mode {
    #[default]
    Watch,
    /// The filter is being typed.
    Filter,
    Help,
    /// The query of the session in full, scrolled to this line.
    Query(u16),
    /// A signal that is not yet confirmed.
    Confirm(SignalRequest),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Wait,
    Blocks,
    Pid,
    Application,
}

/// A command that a key gives, beyond changes of the screen.
#[derive(Debug)]
pub enum Command {
    Quit,
    Signal(SignalRequest),
}

#[derive(Debug, Default)]
pub struct State {
    graph: WaitGraph,
    /// The sessions that match the filter, sorted.
    pub sessions: Vec<Session>,
    pub table: TableState,
    pub mode: Mode,
    pub sort: Sort,
    pub filter: String,
    pub shows_tree: bool,
    /// The error that ended the connection.
    pub lost: Option<String>,
    /// The outcome of the last signal.
    pub message: String,
}

impl State {
    /// Applies an update of the feed.
    pub fn apply(&mut self, update: Update) {
        match update {
            Update::Graph(graph) => {
                self.lost = None;
                self.graph = *graph;
                self.arrange();
            }
            Update::Lost(error) => self.lost = Some(clean(&error)),
            Update::Message(text) => self.message = clean(&text),
        }
    }

    pub fn tree(&self) -> String {
        self.graph.to_string()
    }

    pub fn selected(&self) -> Option<&Session> {
        self.sessions.get(self.table.selected()?)
    }

    /// Changes the screen by a key, or returns its command.
    pub fn press(&mut self, key: KeyEvent) -> Option<Command> {
        let code = match (key.modifiers.contains(KeyModifiers::CONTROL), key.code) {
            (true, KeyCode::Char('c')) => return Some(Command::Quit),
            // An Enter that was typed before the terminal was in raw mode.
            (true, KeyCode::Char('j')) => KeyCode::Enter,
            // Ctrl-X is not x.
            (true, _) => return None,
            (false, code) => code,
        };
        match std::mem::take(&mut self.mode) {
            Mode::Watch => return self.press_watching(code),
            Mode::Filter => self.press_filtering(code),
            Mode::Help => {}
            Mode::Query(line) => self.press_reading(code, line),
            Mode::Confirm(request) => return self.press_confirming(code, request),
        }
        None
    }

    fn press_watching(&mut self, key: KeyCode) -> Option<Command> {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Command::Quit),
            KeyCode::Down | KeyCode::Char('j') => self.table.select_next(),
            KeyCode::Up | KeyCode::Char('k') => self.table.select_previous(),
            KeyCode::Home | KeyCode::Char('g') => self.table.select_first(),
            KeyCode::End | KeyCode::Char('G') => self.table.select_last(),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Enter => self.mode = Mode::Query(0),
            KeyCode::Char('t') => self.shows_tree = !self.shows_tree,
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.arrange();
            }
            KeyCode::Char('c') => self.request(SignalKind::Cancel),
            KeyCode::Char('x') => self.request(SignalKind::Terminate),
            _ => {}
        }
        None
    }

    fn press_filtering(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => return,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
        if key != KeyCode::Esc {
            self.mode = Mode::Filter;
        }
        self.arrange();
    }

    fn press_reading(&mut self, key: KeyCode, line: u16) {
        self.mode = match key {
            KeyCode::Down | KeyCode::Char('j') => Mode::Query(line.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => Mode::Query(line.saturating_sub(1)),
            _ => Mode::Watch,
        };
    }

    fn press_confirming(&mut self, key: KeyCode, request: SignalRequest) -> Option<Command> {
        if let KeyCode::Char('y' | 'Y') = key {
            return Some(Command::Signal(request));
        }
        self.message = DECLINED.to_owned();
        None
    }

    /// Asks before the selected session is signalled; a prepared transaction has no session.
    fn request(&mut self, kind: SignalKind) {
        let selected = self.selected();
        let target = selected.and_then(|it| Some(Victim::new(it.pid?, it.activity.clone())));
        match target.map(|target| vec![target]) {
            Some(targets) => self.mode = Mode::Confirm(SignalRequest { kind, targets }),
            None => self.message = "no session is selected".to_owned(),
        }
    }

    /// Filters and sorts, and keeps the same session selected.
    fn arrange(&mut self) {
        let selected = self.selected().map(|it| it.name.clone());
        let filter = self.filter.to_lowercase();
        self.sessions = sessions(&self.graph);
        self.sessions.retain(|it| it.contains(&filter));
        self.sort.apply(&mut self.sessions);
        let is_selected = |it: &Session| Some(&it.name) == selected.as_ref();
        let position = self.sessions.iter().position(is_selected);
        let first = (!self.sessions.is_empty()).then_some(0);
        self.table.select(position.or(first));
    }
}

impl Session {
    fn new(node: &WaitNode, blocks: usize) -> Self {
        let wait = node.wait.as_ref();
        let activity = node.activity.as_ref();
        let state = activity.and_then(|it| it.state.as_ref());
        let text = |text: Option<String>| clean(&text.unwrap_or_default());
        Self {
            pid: node.pid,
            name: name(node),
            // PostgreSQL 13 has no `waitstart`.
            waits: wait.map(|it| it.lock.wait_duration.unwrap_or_default()),
            blocks,
            application: text(activity.and_then(|it| it.application_name.clone())),
            state: text(state.map(ToString::to_string)),
            lock: text(wait.map(|it| format!("{} on {}", it.lock.mode, it.lock.target()))),
            query: text(activity.and_then(|it| it.query.clone())),
            activity: node.activity.clone(),
        }
    }

    /// Returns true if a text of the session contains the filter.
    fn contains(&self, filter: &str) -> bool {
        let database = self.activity.as_ref().and_then(|it| it.database.as_deref());
        let texts = [
            &self.name,
            &self.application,
            &self.state,
            &self.lock,
            &self.query,
        ];
        let mut texts = texts.into_iter().map(String::as_str).chain(database);
        texts.any(|text| text.to_lowercase().contains(filter))
    }
}

fn name(node: &WaitNode) -> String {
    match (node.pid, &node.gid) {
        (Some(pid), _) => pid.to_string(),
        (None, gid) => format!("prepared {}", clean(gid.as_deref().unwrap_or_default())),
    }
}

fn sessions(graph: &WaitGraph) -> Vec<Session> {
    let blocks = count_blocked(graph);
    let blocks = |node: &WaitNode| blocks.get(&node.pid).copied().unwrap_or_default();
    let session = |node| Session::new(node, blocks(node));
    graph.nodes().map(session).collect()
}

/// Counts all edges in one pass: a queue of 500 sessions has 125,000.
fn count_blocked(graph: &WaitGraph) -> HashMap<Option<i32>, usize> {
    let waits = graph.nodes().filter_map(|node| node.wait.as_ref());
    let mut counts = HashMap::new();
    for blocker in waits.flat_map(|wait| &wait.blockers) {
        *counts.entry(blocker.pid).or_default() += 1;
    }
    counts
}

impl Sort {
    fn apply(self, sessions: &mut [Session]) {
        match self {
            Self::Wait => sessions.sort_by_key(|it| Reverse(it.waits)),
            Self::Blocks => sessions.sort_by_key(|it| Reverse(it.blocks)),
            Self::Pid => sessions.sort_by_key(|it| it.pid),
            Self::Application => sessions.sort_by(|a, b| a.application.cmp(&b.application)),
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Wait => Self::Blocks,
            Self::Blocks => Self::Pid,
            Self::Pid => Self::Application,
            Self::Application => Self::Wait,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Blocks => "blocks",
            Self::Pid => "pid",
            Self::Application => "application",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> SignalRequest {
        SignalRequest {
            kind: SignalKind::Cancel,
            targets: vec![Victim::new(1, None)],
        }
    }

    fn type_keys(state: &mut State, text: &str) {
        for c in text.chars() {
            let code = if c == '\n' {
                KeyCode::Enter
            } else {
                KeyCode::Char(c)
            };
            assert!(state.press(code.into()).is_none(), "{c:?}");
        }
    }

    #[test]
    fn keys_are_letters_while_the_filter_is_typed() {
        let mut state = State::default();
        type_keys(&mut state, "/qx?\n");
        assert_eq!(state.filter, "qx?");
        assert!(matches!(state.mode, Mode::Watch));
        assert!(matches!(
            state.press(KeyCode::Char('q').into()),
            Some(Command::Quit)
        ));
    }

    #[test]
    fn a_signal_needs_a_selection_and_a_confirmation() {
        let mut state = State::default();
        type_keys(&mut state, "xc");
        assert_eq!(state.message, "no session is selected");
        state.mode = Mode::Confirm(request());
        type_keys(&mut state, "n");
        assert_eq!(state.message, "nothing was done");
        state.mode = Mode::Confirm(request());
        assert!(matches!(
            state.press(KeyCode::Char('y').into()),
            Some(Command::Signal(_))
        ));
    }

    #[test]
    fn a_key_with_control_is_another_key() {
        let mut state = State {
            mode: Mode::Confirm(request()),
            ..State::default()
        };
        assert!(
            state
                .press(KeyEvent::new(KeyCode::Char('y'), KeyModifiers::CONTROL))
                .is_none()
        );
        assert!(matches!(state.mode, Mode::Confirm(_)));
    }
}
