//! Episodes without a server.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::episode::Episode;
use super::episode_event::EpisodeEvent;
use super::episode_tracker::EpisodeTracker;
use super::graph::WaitGraph;
use super::query::WaitGraphRow;
use super::test_rows::{queue, row, waiting};
use crate::types::LockMode::Exclusive;
use crate::views::PgActivity;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000 + second, 0).unwrap()
}

/// Returns the row of a session in one of its transactions.
fn within(transaction: i64, mut row: WaitGraphRow) -> WaitGraphRow {
    let pid = row.lock.pid.unwrap();
    row.lock.virtual_transaction = format!("{pid}/{transaction}");
    row.lock.activity = Some(PgActivity {
        pid,
        backend_start: Some(at(-500)),
        xact_start: Some(at(transaction)),
        ..PgActivity::default()
    });
    row
}

/// A session that holds a key in its first transaction.
fn holds(pid: i32, key: i64) -> WaitGraphRow {
    within(1, row(pid, key, Exclusive, &[]))
}

/// A session that waits for a key in its first transaction.
fn waits(pid: i32, key: i64, blockers: &[i32]) -> WaitGraphRow {
    within(1, waiting(pid, key, Exclusive, blockers))
}

fn since(second: i64, mut row: WaitGraphRow) -> WaitGraphRow {
    row.lock.wait_start = Some(at(second));
    row
}

/// A tracker and its clock: one graph each second.
#[derive(Default)]
struct History {
    tracker: EpisodeTracker,
    second: i64,
}

impl History {
    fn observe(&mut self, rows: Vec<WaitGraphRow>) -> Vec<EpisodeEvent> {
        self.second += 1;
        let graph = WaitGraph::from_rows(rows);
        self.tracker.observe(&graph, at(self.second))
    }

    /// Observes, and describes the events as `started 1`.
    fn events(&mut self, rows: Vec<WaitGraphRow>) -> Vec<String> {
        self.observe(rows).iter().map(describe).collect()
    }
}

fn describe(event: &EpisodeEvent) -> String {
    let id = event.episode().id;
    match event {
        EpisodeEvent::Started(_) => format!("started {id}"),
        EpisodeEvent::Changed(_) => format!("changed {id}"),
        EpisodeEvent::Ended(Episode {
            merged_into: Some(into),
            ..
        }) => format!("{id} went into {into}"),
        EpisodeEvent::Ended(_) => format!("ended {id}"),
    }
}

fn pids<'e>(nodes: impl Iterator<Item = &'e crate::wait_graph::WaitNode>) -> Vec<i32> {
    nodes.filter_map(|node| node.pid).collect()
}

#[test]
fn an_episode_starts_changes_and_ends() {
    let mut history = History::default();
    let first = history.observe(vec![holds(1, 7), since(0, waits(2, 7, &[1]))]);
    let [EpisodeEvent::Started(episode)] = &first[..] else {
        panic!("{first:?}")
    };
    assert_eq!(
        (episode.id, episode.started, episode.observed),
        (1, at(0), at(1))
    );
    assert_eq!(pids(episode.roots()), [1]);
    let both = || {
        let waits = [since(0, waits(2, 7, &[1])), since(1, waits(3, 7, &[1, 2]))];
        [vec![holds(1, 7)], waits.into()].concat_rows()
    };
    assert_eq!(history.events(both()), ["changed 1"]);
    assert_eq!(history.events(both()), Vec::<String>::new());
    let open: Vec<&Episode> = history.tracker.episodes().collect();
    assert_eq!(pids(open[0].waiters()), [2, 3]);
    assert_eq!((open[0].peak.time, open[0].peak.waiters), (at(2), 2));

    let third = history.observe(vec![holds(1, 7), since(1, waits(3, 7, &[1]))]);
    assert_eq!(describe(&third[0]), "changed 1");
    let last = history.observe(Vec::new());
    let [EpisodeEvent::Ended(episode)] = &last[..] else {
        panic!("{last:?}")
    };
    assert_eq!(episode.ended, Some(at(5)));
    assert_eq!(episode.duration().num_seconds(), 5);
    assert_eq!(episode.peak.graph().nodes().count(), 3);
    let victims: Vec<i32> = episode.victims.iter().map(|it| it.pid).collect();
    assert_eq!(victims, [2, 3]);
    assert!(!episode.deadlock);
    assert_eq!(history.tracker.episodes().count(), 0);
}

/// Joins lists of rows, which are not `Clone`.
trait ConcatRows {
    fn concat_rows(self) -> Vec<WaitGraphRow>;
}

impl<const N: usize> ConcatRows for [Vec<WaitGraphRow>; N] {
    fn concat_rows(self) -> Vec<WaitGraphRow> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn an_episode_keeps_its_id_when_its_root_changes() {
    let mut history = History::default();
    history.observe(vec![holds(1, 7), waits(2, 7, &[1]), waits(3, 7, &[1, 2])]);
    let next = history.observe(vec![holds(2, 7), waits(3, 7, &[2])]);
    assert_eq!(describe(&next[0]), "changed 1");
    assert_eq!(pids(next[0].episode().roots()), [2]);
}

#[test]
fn an_episode_goes_on_while_its_root_stays_in_the_transaction() {
    let mut history = History::default();
    history.observe(vec![holds(1, 7), waits(2, 7, &[1])]);
    let other_waiter = vec![holds(1, 7), waits(3, 7, &[1])];
    assert_eq!(history.events(other_waiter), ["changed 1"]);
    let again = vec![holds(1, 7), within(2, waits(3, 7, &[1]))];
    assert_eq!(history.events(again), Vec::<String>::new());
}

#[test]
fn after_a_gap_another_episode_starts() {
    let mut history = History::default();
    history.observe(vec![holds(1, 7), waits(2, 7, &[1])]);
    assert_eq!(history.events(Vec::new()), ["ended 1"]);
    let again = vec![holds(1, 7), within(2, waits(2, 7, &[1]))];
    assert_eq!(history.events(again), ["started 2"]);
}

#[test]
fn pooled_sessions_that_contend_all_the_time_are_not_one_episode() {
    let mut history = History::default();
    for transaction in 1..=5 {
        let contention = [row(1, 7, Exclusive, &[]), waiting(2, 7, Exclusive, &[1])];
        let rows = contention.map(|row| within(transaction, row));
        let events = history.events(rows.into());
        let expected = match transaction {
            1 => vec!["started 1".to_owned()],
            n => vec![format!("ended {}", n - 1), format!("started {n}")],
        };
        assert_eq!(events, expected);
    }
}

#[test]
fn another_session_with_the_same_pid_does_not_continue_an_episode() {
    let mut history = History::default();
    let rows = |start| {
        let mut holder = holds(1, 7);
        holder.lock.activity.as_mut().unwrap().backend_start = Some(at(start));
        vec![holder, within(start, waits(2, 7, &[1]))]
    };
    history.observe(rows(-9));
    assert_eq!(history.events(rows(-8)), ["ended 1", "started 2"]);
}

#[test]
fn an_idle_holder_continues_an_episode_until_it_runs_something() {
    let mut history = History::default();
    let rows = |transaction, state_change| {
        let mut holder = holds(1, 7);
        let activity = holder.lock.activity.as_mut().unwrap();
        activity.xact_start = None;
        activity.state_change = Some(at(state_change));
        vec![holder, within(transaction, waits(2, 7, &[1]))]
    };
    history.observe(rows(1, 0));
    assert_eq!(history.events(rows(2, 0)), Vec::<String>::new());
    assert_eq!(history.events(rows(3, 2)), ["ended 1", "started 2"]);
}

#[test]
fn hidden_sessions_continue_an_episode_by_their_waits_alone() {
    let mut history = History::default();
    let rows = |transaction: i64| {
        let mut waiter = waiting(2, 7, Exclusive, &[1]);
        waiter.lock.virtual_transaction = format!("2/{transaction}");
        vec![row(1, 7, Exclusive, &[]), waiter]
    };
    history.observe(rows(1));
    assert_eq!(history.events(rows(1)), Vec::<String>::new());
    assert_eq!(history.events(rows(2)), ["ended 1", "started 2"]);
}

#[test]
fn a_prepared_transaction_continues_an_episode() {
    let mut history = History::default();
    let rows = |pid| {
        let mut prepared = row(1, 7, Exclusive, &[]);
        prepared.lock.pid = None;
        prepared.lock.virtual_transaction = "-1/731".into();
        vec![prepared, waits(pid, 7, &[0])]
    };
    assert_eq!(history.events(rows(2)), ["started 1"]);
    assert_eq!(history.events(rows(3)), ["changed 1"]);
}

#[test]
fn the_part_with_most_waits_keeps_the_id_after_a_split() {
    let mut history = History::default();
    let behind = || vec![holds(2, 8), waits(3, 8, &[2]), waits(4, 8, &[2, 3])];
    let above = || vec![holds(1, 7), waits(5, 7, &[1])];
    let middle = vec![waits(2, 7, &[1])];
    assert_eq!(
        history.events([above(), middle, behind()].concat_rows()),
        ["started 1"]
    );
    let mut events = history.observe([above(), behind()].concat_rows());
    events.sort_by_key(|event| event.episode().id);
    let described: Vec<String> = events.iter().map(describe).collect();
    assert_eq!(described, ["changed 1", "started 2"]);
    assert_eq!(pids(events[0].episode().roots()), [2]);
    assert_eq!(pids(events[1].episode().roots()), [1]);
}

#[test]
fn the_older_of_two_episodes_that_merge_goes_on() {
    let mut history = History::default();
    let young = || vec![holds(1, 7), since(-3, waits(3, 7, &[1]))];
    let old = || vec![holds(2, 8), since(-9, waits(4, 8, &[2]))];
    let separate = history.events([young(), old()].concat_rows());
    assert_eq!(separate, ["started 1", "started 2"]);
    let bridge = vec![since(2, waits(2, 7, &[1]))];
    let events = history.observe([young(), old(), bridge].concat_rows());
    let described: Vec<String> = events.iter().map(describe).collect();
    assert_eq!(described, ["1 went into 2", "changed 2"]);
    assert_eq!(events[1].episode().peak.waiters, 3);
    assert_eq!(pids(events[1].episode().roots()), [1]);
}

#[test]
fn a_deadlock_is_remembered() {
    let mut history = History::default();
    let cycle = vec![
        holds(1, 7),
        holds(2, 8),
        waits(2, 7, &[1]),
        waits(1, 8, &[2]),
    ];
    let events = history.observe(cycle);
    assert!(events[0].episode().deadlock);
    assert_eq!(events[0].episode().roots().count(), 0);
    let resolved = history.observe(vec![holds(1, 7), waits(2, 7, &[1])]);
    assert_eq!(describe(&resolved[0]), "changed 1");
    assert!(resolved[0].episode().deadlock);
}

#[test]
fn a_wait_by_a_clock_ahead_has_just_started() {
    let mut history = History::default();
    let events = history.observe(vec![holds(1, 7), since(90, waits(2, 7, &[1]))]);
    assert_eq!(events[0].episode().started, at(1));
}

#[test]
fn a_waiter_whose_blocker_is_unknown_is_an_episode_without_roots() {
    let mut history = History::default();
    let events = history.observe(vec![waits(2, 7, &[9])]);
    assert_eq!(describe(&events[0]), "started 1");
    assert_eq!(events[0].episode().roots().count(), 0);
}

/// One session that blocks many others, each a session of its own in each transaction.
fn crowd(waiters: i32, transaction: i64) -> Vec<WaitGraphRow> {
    let waiter = |pid| {
        let mut row = within(transaction, waits(pid, 7, &[1]));
        row.lock.activity.as_mut().unwrap().backend_start = Some(at(transaction));
        row
    };
    let waiters = (2..waiters + 2).map(waiter);
    std::iter::once(holds(1, 7)).chain(waiters).collect()
}

#[test]
fn a_thousand_sessions_are_followed_in_time() {
    let mut tracker = EpisodeTracker::new();
    let graphs = [999, 999, 1000].map(|count| WaitGraph::from_rows(crowd(count, 1)));
    let started = Instant::now();
    let events = graphs.iter().zip(0..).map(|(graph, second)| {
        let events = tracker.observe(graph, at(second));
        events.len()
    });
    assert_eq!(events.collect::<Vec<_>>(), [1, 0, 1]);
    assert!(started.elapsed() < Duration::from_secs(10));
    let episode = tracker.episodes().next().unwrap();
    assert_eq!((episode.peak.waiters, episode.victims.len()), (1000, 1000));
}

#[test]
fn each_session_of_a_queue_is_in_one_episode() {
    let mut tracker = EpisodeTracker::new();
    let events = tracker.observe(&queue(100), at(1));
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].episode().peak.waiters, 100);
}

#[test]
fn the_victims_of_an_endless_episode_are_bounded() {
    let mut history = History::default();
    for transaction in 1..=51 {
        history.observe(crowd(200, transaction));
    }
    let episode = history.tracker.episodes().next().unwrap();
    assert_eq!((episode.id, episode.victims.len()), (1, 10_000));
}

#[cfg(feature = "serde")]
#[test]
fn the_attributes_have_the_names_of_open_telemetry() {
    let mut history = History::default();
    let mut waiter = since(0, waits(3, 7, &[1, 2]));
    let activity = waiter.lock.activity.as_mut().unwrap();
    activity.query = Some("ALTER ROLE a PASSWORD 'secret'".into());
    activity.database = Some("shop".into());
    let rows = vec![holds(1, 7), since(1, waits(2, 7, &[1])), waiter];
    let events = history.observe(rows);
    let json = serde_json::to_value(events[0].episode().attributes()).unwrap();
    assert_eq!(json["postgresql.pid"], 3);
    assert_eq!(json["postgresql.blocking.pids"], "{1}");
    assert_eq!(json["postgresql.blocking.lock.mode"], "ExclusiveLock");
    assert_eq!(json["postgresql.blocking.lock.type"], "advisory");
    assert_eq!(json["db.namespace"], "shop");
    assert_eq!(json["db.query.text"], "ALTER ROLE a PASSWORD '…'");
    assert_eq!(json.get("postgresql.state"), None);
    let event = serde_json::to_value(&events[0]).unwrap();
    assert_eq!(
        (&event["event"], &event["id"]),
        (&"started".into(), &1.into())
    );
    assert_eq!(event["peak"]["graph"]["nodes"].as_array().unwrap().len(), 3);
}
