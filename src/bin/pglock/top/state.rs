//! The state of `pglock top`, and the keys that change it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use diesel_pglock::{SignalKind, WaitGraph};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use super::feed::Update;
use super::session::{Session, Sort, sessions};
use crate::connect::Waits;
use crate::list::has_hidden_activity;
use crate::output::clean;
use crate::signal::Victim;
use crate::signal::{DECLINED, SignalRequest};

/// The sessions by which Page Up and Page Down move.
const PAGE: u16 = 10;

/// The intervals that `+` and `-` choose from.
const INTERVALS: [Duration; 9] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

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

/// A command that a key gives, beyond changes of the screen.
#[derive(Debug)]
pub enum Command {
    Quit,
    Signal(SignalRequest),
    /// Polls at this interval; `None` pauses.
    Poll(Option<Duration>),
}

#[derive(Debug)]
pub struct State {
    graph: WaitGraph,
    /// The time at which the graph arrived.
    pub loaded: Option<Instant>,
    /// The numbers of all waiters and roots, whatever the filter.
    pub waiters: usize,
    pub roots: usize,
    /// True if the activity of some sessions is hidden from the role.
    pub has_hidden_activity: bool,
    /// The sessions that match the filter, sorted.
    pub sessions: Vec<Session>,
    /// The sessions that are marked for a signal.
    marked: HashSet<(Option<i32>, String)>,
    /// True once a key moved the cursor, which stays on the worst root until then.
    is_moved: bool,
    pub table: TableState,
    pub interval: Duration,
    pub is_paused: bool,
    pub mode: Mode,
    pub sort: Sort,
    pub filter: String,
    pub shows_tree: bool,
    /// The error that ended the connection.
    pub lost: Option<String>,
    /// The reason that kept the names of relations from being read.
    pub nameless: Option<String>,
    /// The outcome of the last signal.
    pub message: String,
}

impl State {
    pub fn new(interval: Duration) -> Self {
        Self {
            graph: WaitGraph::default(),
            loaded: None,
            waiters: 0,
            roots: 0,
            has_hidden_activity: false,
            sessions: Vec::new(),
            marked: HashSet::new(),
            is_moved: false,
            table: TableState::default(),
            interval,
            is_paused: false,
            mode: Mode::default(),
            sort: Sort::default(),
            filter: String::new(),
            shows_tree: false,
            lost: None,
            nameless: None,
            message: String::new(),
        }
    }

    /// Applies an update of the feed.
    pub fn apply(&mut self, update: Update) {
        match update {
            Update::Graph(waits) => {
                let Waits { graph, nameless } = *waits;
                self.lost = None;
                self.nameless = nameless.map(|it| clean(&it));
                self.loaded = Some(Instant::now());
                self.roots = graph.roots().count();
                self.waiters = graph.nodes().count() - self.roots;
                self.has_hidden_activity = has_hidden_activity(&graph);
                self.graph = graph;
                self.arrange();
            }
            Update::Lost(error) => self.lost = Some(clean(&error)),
            Update::Message(text) => self.message = clean(&text),
        }
    }

    /// Returns true if the next snapshot is late, or the view is paused.
    pub fn is_old(&self) -> bool {
        let age = self.loaded.map(|loaded| loaded.elapsed());
        age.is_some_and(|age| age > 2 * self.interval + Duration::from_secs(1))
    }

    pub fn tree(&self) -> String {
        self.graph.to_string()
    }

    pub fn is_marked(&self, session: &Session) -> bool {
        self.marked.contains(&session.id())
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
            KeyCode::Char('q') => return Some(Command::Quit),
            KeyCode::Esc => self.clear(),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Enter => self.mode = Mode::Query(0),
            KeyCode::Char('t') => self.shows_tree = !self.shows_tree,
            KeyCode::Char(' ') => self.toggle_mark(),
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.arrange();
            }
            KeyCode::Char('c') => self.request(SignalKind::Cancel),
            KeyCode::Char('x') => self.request(SignalKind::Terminate),
            KeyCode::Char('p' | '+' | '-') => return Some(self.press_polling(key)),
            _ => self.press_moving(key),
        }
        None
    }

    fn press_moving(&mut self, key: KeyCode) {
        match key {
            KeyCode::Down | KeyCode::Char('j') => self.table.select_next(),
            KeyCode::Up | KeyCode::Char('k') => self.table.select_previous(),
            KeyCode::PageDown => self.table.scroll_down_by(PAGE),
            KeyCode::PageUp => self.table.scroll_up_by(PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.table.select_first(),
            KeyCode::End | KeyCode::Char('G') => self.table.select_last(),
            _ => return,
        }
        self.is_moved = true;
    }

    fn press_polling(&mut self, key: KeyCode) -> Command {
        let slower = INTERVALS.iter().find(|it| **it > self.interval);
        let faster = INTERVALS.iter().rev().find(|it| **it < self.interval);
        match key {
            KeyCode::Char('+') => self.interval = *slower.unwrap_or(&self.interval),
            KeyCode::Char('-') => self.interval = *faster.unwrap_or(&self.interval),
            _ => self.is_paused = !self.is_paused,
        }
        Command::Poll((!self.is_paused).then_some(self.interval))
    }

    /// Clears what narrows the view or the next signal; the cursor returns to the worst root.
    fn clear(&mut self) {
        self.filter.clear();
        self.marked.clear();
        self.message.clear();
        self.is_moved = false;
        self.arrange();
    }

    fn toggle_mark(&mut self) {
        let Some(id) = self.selected().map(Session::id) else {
            return;
        };
        if !self.marked.remove(&id) {
            self.marked.insert(id);
        }
        self.is_moved = true;
        self.table.select_next();
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

    /// Asks before the marked sessions, or else the selected one, are signalled.
    fn request(&mut self, kind: SignalKind) {
        let marked = self.sessions.iter().filter(|it| self.is_marked(it));
        let mut targets: Vec<Victim> = marked.filter_map(Session::victim).collect();
        if targets.is_empty() {
            targets.extend(self.selected().and_then(Session::victim));
        }
        if !targets.is_empty() {
            self.mode = Mode::Confirm(SignalRequest { kind, targets });
            return;
        }
        self.message = match self.selected() {
            Some(prepared) => format!("no signal ends it; type: {}", prepared.query),
            None => "no session is selected".to_owned(),
        };
    }

    /// Filters and sorts, and keeps the same session selected once a key has selected it.
    fn arrange(&mut self) {
        let selected = self.selected().map(Session::id);
        let filter = self.filter.to_lowercase();
        self.sessions = sessions(&self.graph);
        let present: HashSet<_> = self.sessions.iter().map(Session::id).collect();
        self.marked.retain(|id| present.contains(id));
        self.sessions.retain(|it| it.contains(&filter));
        self.sort.apply(&mut self.sessions);
        let is_selected = |it: &Session| self.is_moved && Some(it.id()) == selected;
        let position = self.sessions.iter().position(is_selected);
        let first = (!self.sessions.is_empty()).then_some(0);
        self.table.select(position.or(first));
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
        let mut state = State::new(Duration::from_secs(1));
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
        let mut state = State::new(Duration::from_secs(1));
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
            ..State::new(Duration::from_secs(1))
        };
        assert!(
            state
                .press(KeyEvent::new(KeyCode::Char('y'), KeyModifiers::CONTROL))
                .is_none()
        );
        assert!(matches!(state.mode, Mode::Confirm(_)));
    }
}
