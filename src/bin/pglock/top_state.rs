//! What `pglock top` knows, and what its keys do to it.

use std::cmp::Reverse;
use std::collections::HashMap;

use chrono::TimeDelta;
use diesel_pglock::{PgActivity, SignalKind, WaitGraph, WaitNode};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use crate::signalling::Victim;
use crate::terminal_text::clean;
use crate::top_feed::News;

/// A session that waits or is in the way.
#[derive(Clone, Debug)]
pub struct Session {
    pub pid: Option<i32>,
    /// Its pid, or the name of a prepared transaction.
    pub name: String,
    pub waits: Option<TimeDelta>,
    /// How many wait for it directly.
    pub blocks: usize,
    pub application: String,
    pub state: String,
    /// The lock that it waits for.
    pub lock: String,
    pub query: String,
    pub activity: Option<PgActivity>,
}

/// What is on the screen besides the sessions.
#[derive(Clone, Debug, Default)]
pub enum Mode {
    #[default]
    Watch,
    /// A filter is typed.
    Filter,
    Help,
    /// The query of the session in full, from this line on.
    Query(u16),
    /// A signal wants to be confirmed.
    Confirm(Victim, SignalKind),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Wait,
    Blocks,
    Pid,
    Application,
}

/// What a key asks for beyond the screen.
#[derive(Debug)]
pub enum Wish {
    Quit,
    Signal(Victim, SignalKind),
}

#[derive(Debug, Default)]
pub struct State {
    graph: WaitGraph,
    /// Those that the filter lets through, in order.
    pub sessions: Vec<Session>,
    pub table: TableState,
    pub mode: Mode,
    pub sort: Sort,
    pub filter: String,
    pub shows_tree: bool,
    /// Why the connection is lost.
    pub lost: Option<String>,
    /// What came of the last signal.
    pub said: String,
}

impl State {
    pub fn learn(&mut self, news: News) {
        match news {
            News::Graph(graph) => {
                self.lost = None;
                self.graph = *graph;
                self.arrange();
            }
            News::Lost(why) => self.lost = Some(clean(&why)),
            News::Said(text) => self.said = clean(&text),
        }
    }

    pub fn tree(&self) -> String {
        self.graph.to_string()
    }

    pub fn selected(&self) -> Option<&Session> {
        self.sessions.get(self.table.selected()?)
    }

    pub fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        let code = match (key.modifiers.contains(KeyModifiers::CONTROL), key.code) {
            (true, KeyCode::Char('c')) => return Some(Wish::Quit),
            // An Enter that was typed before the terminal was ours.
            (true, KeyCode::Char('j')) => KeyCode::Enter,
            // Ctrl-X is not x.
            (true, _) => return None,
            (false, code) => code,
        };
        match std::mem::take(&mut self.mode) {
            Mode::Watch => return self.press_watching(code),
            Mode::Filter => self.press_filtering(code),
            Mode::Help => {}
            Mode::Query(line) => match code {
                KeyCode::Down | KeyCode::Char('j') => {
                    self.mode = Mode::Query(line.saturating_add(1))
                }
                KeyCode::Up | KeyCode::Char('k') => self.mode = Mode::Query(line.saturating_sub(1)),
                _ => {}
            },
            Mode::Confirm(victim, kind) => match code {
                KeyCode::Char('y' | 'Y') => return Some(Wish::Signal(victim, kind)),
                _ => self.said = "nothing was done".to_owned(),
            },
        }
        None
    }

    fn press_watching(&mut self, key: KeyCode) -> Option<Wish> {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Wish::Quit),
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
            KeyCode::Char('c') => self.confirm(SignalKind::Cancel),
            KeyCode::Char('x') => self.confirm(SignalKind::Terminate),
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

    /// A prepared transaction has no session to signal.
    fn confirm(&mut self, kind: SignalKind) {
        let victim = self
            .selected()
            .and_then(|it| Some(Victim::of(it.pid?, it.activity.clone())));
        match victim {
            Some(victim) => self.mode = Mode::Confirm(victim, kind),
            None => self.said = "no session is selected".to_owned(),
        }
    }

    /// Filters and sorts, and keeps the same session selected.
    fn arrange(&mut self) {
        let selected = self.selected().map(|it| it.name.clone());
        let filter = self.filter.to_lowercase();
        // All edges once: in a queue of 500 there are 125,000.
        let mut blocks = HashMap::<Option<i32>, usize>::new();
        for blocker in self
            .graph
            .nodes()
            .filter_map(|it| it.wait.as_ref())
            .flat_map(|it| &it.blockers)
        {
            *blocks.entry(blocker.pid).or_default() += 1;
        }
        let blocks = |pid| blocks.get(&pid).copied().unwrap_or_default();
        let sessions = self
            .graph
            .nodes()
            .map(|node| session(node, blocks(node.pid)));
        self.sessions = sessions.filter(|it| it.holds(&filter)).collect();
        match self.sort {
            Sort::Wait => self.sessions.sort_by_key(|it| Reverse(it.waits)),
            Sort::Blocks => self.sessions.sort_by_key(|it| Reverse(it.blocks)),
            Sort::Pid => self.sessions.sort_by_key(|it| it.pid),
            Sort::Application => self
                .sessions
                .sort_by(|a, b| a.application.cmp(&b.application)),
        }
        let again = self
            .sessions
            .iter()
            .position(|it| Some(&it.name) == selected.as_ref());
        let first = (!self.sessions.is_empty()).then_some(0);
        self.table.select(again.or(first));
    }
}

impl Session {
    fn holds(&self, filter: &str) -> bool {
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

impl Sort {
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

fn session(node: &WaitNode, blocks: usize) -> Session {
    let activity = node.activity.as_ref();
    let text = |text: Option<String>| clean(&text.unwrap_or_default());
    let lock = node
        .wait
        .as_ref()
        .map(|it| format!("{} on {}", it.lock.mode, it.lock.target()));
    let name = match (node.pid, &node.gid) {
        (Some(pid), _) => pid.to_string(),
        (None, gid) => format!("prepared {}", text(gid.clone())),
    };
    Session {
        pid: node.pid,
        name,
        // PostgreSQL 13 does not say since when.
        waits: node
            .wait
            .as_ref()
            .map(|it| it.lock.wait_duration.unwrap_or_default()),
        blocks,
        application: text(activity.and_then(|it| it.application_name.clone())),
        state: text(
            activity
                .and_then(|it| it.state.as_ref())
                .map(ToString::to_string),
        ),
        lock: text(lock),
        query: text(activity.and_then(|it| it.query.clone())),
        activity: node.activity.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(state: &mut State, text: &str) {
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
    fn keys_are_letters_while_a_filter_is_typed() {
        let mut state = State::default();
        typed(&mut state, "/qx?\n");
        assert_eq!(state.filter, "qx?");
        assert!(matches!(state.mode, Mode::Watch));
        assert!(matches!(
            state.press(KeyCode::Char('q').into()),
            Some(Wish::Quit)
        ));
    }

    #[test]
    fn nothing_is_signalled_where_nothing_is_selected_or_confirmed() {
        let mut state = State::default();
        typed(&mut state, "xc");
        assert_eq!(state.said, "no session is selected");
        state.mode = Mode::Confirm(Victim::of(1, None), SignalKind::Cancel);
        typed(&mut state, "n");
        assert_eq!(state.said, "nothing was done");
        state.mode = Mode::Confirm(Victim::of(1, None), SignalKind::Cancel);
        assert!(matches!(
            state.press(KeyCode::Char('y').into()),
            Some(Wish::Signal(_, _))
        ));
    }

    #[test]
    fn a_key_with_control_is_another_key() {
        let mut state = State {
            mode: Mode::Confirm(Victim::of(1, None), SignalKind::Cancel),
            ..State::default()
        };
        assert!(
            state
                .press(KeyEvent::new(KeyCode::Char('y'), KeyModifiers::CONTROL))
                .is_none()
        );
        assert!(matches!(state.mode, Mode::Confirm(_, _)));
    }
}
