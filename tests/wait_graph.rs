//! The wait graph on a live server.

mod frozen;
mod moving;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::{AdvisoryKey, BlockKind, LockMode, LockType, PgLock, WaitGraph, WaitNode};

use crate::support::*;

/// Returns a session with an open transaction in which it ran the statements.
fn holding(db: &Database, sql: &str) -> PgConnection {
    db.running(&format!("BEGIN; {sql}"))
}

/// Returns the tree below a session, without the sessions of other tests.
fn tree_below(graph: &WaitGraph, root: i32) -> String {
    let text = graph.to_string();
    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with(&root.to_string()));
    let first = lines.next().unwrap_or_else(|| panic!("{root} in {text}"));
    let below = lines.take_while(|line| line.starts_with([' ', '│', '├', '└']));
    std::iter::once(first)
        .chain(below)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Returns the blockers of a node, with the kind of each block.
fn kinds(node: &WaitNode) -> Vec<(Option<i32>, BlockKind)> {
    let blockers = node.wait.iter().flat_map(|wait| &wait.blockers);
    blockers.map(|it| (it.pid, it.kind)).collect()
}

fn pids<'g>(nodes: impl Iterator<Item = &'g WaitNode>) -> Vec<i32> {
    nodes.filter_map(|node| node.pid).collect()
}

#[test]
fn a_chain_of_three_leads_to_its_root() {
    let db = Database::new();
    let mut root = holding(&db, "LOCK TABLE users");
    let middle = Waiting::on(
        &db,
        "BEGIN; SET application_name = 'middle'; LOCK TABLE posts; LOCK TABLE users; COMMIT",
    );
    let last = Waiting::on(&db, "SELECT 1 AS \"\u{1b}[31m\n\" FROM posts");
    let root_pid = pid(&mut root);
    let graph = WaitGraph::load(&mut db.connect()).unwrap();

    assert!(pids(graph.roots()).contains(&root_pid));
    assert_eq!(pids(graph.waiters_of(root_pid)), [middle.pid]);
    assert_eq!(pids(graph.waiters_of(middle.pid)), [last.pid]);
    assert_eq!(graph.depth(root_pid), Some(0));
    assert_eq!(graph.depth(middle.pid), Some(1));
    assert_eq!(graph.depth(last.pid), Some(2));
    assert_eq!(graph.blocked_count(root_pid), 2);
    assert_eq!(graph.blocked_count(last.pid), 0);
    assert_eq!(graph.depth(-1), None);
    let node = graph.node(last.pid).unwrap();
    assert_eq!(kinds(node), [(Some(middle.pid), BlockKind::Hard)]);
    let wait = node.wait.as_ref().unwrap();
    assert_eq!(wait.lock.target().to_string(), "relation public.posts");

    let tree = tree_below(&graph, root_pid);
    let lines: Vec<&str> = tree.lines().collect();
    assert_eq!(lines.len(), 3, "{tree}");
    assert!(lines[0].contains(" idle in transaction, transaction open "));
    assert!(lines[0].ends_with(": SELECT pg_backend_pid()"), "{tree}");
    let middle_line = format!("└─ {} middle waits ", middle.pid);
    assert!(lines[1].starts_with(&middle_line), "{tree}");
    assert!(lines[1].contains(" for AccessExclusiveLock on relation public.users: BEGIN; SET"));
    let last_line = format!("   └─ {} waits ", last.pid);
    assert!(lines[2].starts_with(&last_line), "{tree}");
    assert!(
        !tree.replace('\n', "").contains(char::is_control),
        "{tree:?}"
    );

    // The lock in the graph is the one that the view shows.
    let shown: PgLock = PgLock::query()
        .pid(last.pid)
        .waiting()
        .first(&mut db.connect())
        .unwrap();
    let lock = &wait.lock;
    assert_eq!(
        (
            lock.pid,
            &lock.mode,
            &lock.relation,
            &lock.virtual_transaction
        ),
        (
            shown.pid,
            &shown.mode,
            &shown.relation,
            &shown.virtual_transaction
        )
    );
    assert_eq!(lock.wait_start, shown.wait_start);
    let activity = shown.activity.unwrap();
    assert_eq!(node.activity.as_ref().unwrap().query, activity.query);

    root.batch_execute("COMMIT").unwrap();
    middle.finish().unwrap();
    last.finish().unwrap();
}

#[test]
fn soft_and_hard_blockers_are_distinguished() {
    let db = Database::new();
    let mut reader = holding(&db, "SELECT FROM users");
    let reader_pid = pid(&mut reader);
    let alter = Waiting::on(&db, "ALTER TABLE users ADD COLUMN age int");
    let select = Waiting::on(&db, "SELECT FROM users");
    let second = Waiting::on(&db, "BEGIN; LOCK TABLE users; COMMIT");
    let graph = WaitGraph::load(&mut db.connect()).unwrap();

    let kinds_of = |pid| kinds(graph.node(pid).unwrap());
    assert_eq!(kinds_of(alter.pid), [(Some(reader_pid), BlockKind::Hard)]);
    assert_eq!(kinds_of(select.pid), [(Some(alter.pid), BlockKind::Soft)]);
    let of_second = kinds_of(second.pid);
    assert_eq!(of_second[0], (Some(reader_pid), BlockKind::Hard));
    let queue = &of_second[1..];
    assert_eq!(queue.len(), 2);
    assert!(queue.iter().all(|(_, kind)| *kind == BlockKind::Soft));
    assert_eq!(graph.blocked_count(reader_pid), 3);
    assert_eq!(graph.depth(select.pid), Some(2));
    assert!(tree_below(&graph, reader_pid).contains(", in the queue"));

    let dot = graph.to_dot();
    assert!(dot.contains(&format!("p{} -> p{reader_pid} [style=solid];", second.pid)));
    let soft = format!("p{} -> p{} [style=dashed];", select.pid, alter.pid);
    assert!(dot.contains(&soft), "{dot}");
    assert!(!dot.contains(&format!("p{} -> p{}", second.pid, alter.pid)));
    let mermaid = graph.to_mermaid();
    assert!(mermaid.contains(&format!("  p{} -.-> p{}\n", select.pid, alter.pid)));

    reader.batch_execute("COMMIT").unwrap();
    for session in [alter, select, second] {
        session.finish().unwrap();
    }
}

#[test]
fn an_idle_holder_of_a_session_lock_is_a_root() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.batch_execute("SET application_name = 'worker \"7\" \\ <b>'")
        .unwrap();
    let holder_pid = pid(&mut conn);
    let guard = conn.advisory((3, -4)).acquire().unwrap();
    let waiting = Waiting::on(&db, "SELECT pg_advisory_xact_lock(3, -4)");
    let graph = WaitGraph::load(&mut db.connect()).unwrap();
    let root = graph.node(holder_pid).unwrap();
    assert!(root.wait.is_none());
    let wait = graph.node(waiting.pid).unwrap().wait.as_ref().unwrap();
    assert_eq!(wait.lock.advisory_key, Some(AdvisoryKey::pair(3, -4)));
    assert!(tree_below(&graph, holder_pid).contains(" on advisory lock 3, -4"));
    // A hostile name does not end its quotes.
    let dot = graph.to_dot();
    assert!(dot.contains(r#"worker \"7\" \\ <b> idle"#), "{dot}");
    let mermaid = graph.to_mermaid();
    assert!(
        mermaid.contains("worker #34;7#34; #92; #60;b#62; idle"),
        "{mermaid}"
    );
    drop(guard);
    waiting.finish().unwrap();
}

#[test]
fn a_prepared_transaction_is_a_root_with_a_name() {
    let db = Database::new();
    let gid = format!("{}_left", db.name);
    let mut conn = holding(&db, "UPDATE users SET name = 'x' WHERE id = 1");
    conn.batch_execute(&format!("PREPARE TRANSACTION '{gid}'"))
        .unwrap();
    let waiting = Waiting::on(&db, "UPDATE users SET name = 'y' WHERE id = 1");
    let graph = WaitGraph::load(&mut conn).unwrap();
    let root = graph
        .roots()
        .find(|root| root.gid.as_deref() == Some(&*gid))
        .unwrap();
    assert_eq!((root.pid, &root.activity), (None, &None));
    assert!(pids(graph.waiters_of(0)).contains(&waiting.pid));
    let node = graph.node(waiting.pid).unwrap();
    assert_eq!(kinds(node), [(None, BlockKind::Hard)]);
    let lock = &node.wait.as_ref().unwrap().lock;
    assert_eq!(lock.lock_type, LockType::TransactionId);
    assert_eq!(lock.mode, LockMode::Share);
    assert_eq!(graph.depth(waiting.pid), Some(1));
    let text = graph.to_string();
    assert!(
        text.contains(&format!(
            "prepared transaction '{gid}' of postgres in database {}, prepared ",
            db.name
        )),
        "{text}"
    );
    let statement = root.prepared.as_ref().unwrap().rollback_statement();
    assert_eq!(statement, format!("ROLLBACK PREPARED '{gid}'"));
    assert!(
        text.contains(&format!("; to end it: {statement}\n")),
        "{text}"
    );
    let behind: Vec<_> = graph.waiters_behind(root).map(|it| it.pid).collect();
    assert_eq!(behind, [Some(waiting.pid)]);
    conn.batch_execute(&format!("ROLLBACK PREPARED '{gid}'"))
        .unwrap();
    waiting.finish().unwrap();
}

#[test]
fn a_graph_without_names_answers_while_a_catalog_is_locked() {
    let db = Database::new();
    let gid = format!("{}_left", db.name);
    let mut conn = holding(&db, "UPDATE users SET name = 'x' WHERE id = 1");
    conn.batch_execute(&format!("PREPARE TRANSACTION '{gid}'"))
        .unwrap();
    let row = Waiting::on(&db, "UPDATE users SET name = 'y' WHERE id = 1");
    let mut holder = holding(&db, "LOCK TABLE posts; SELECT pg_advisory_xact_lock(7)");
    let waits =
        ["SELECT FROM posts", "SELECT pg_advisory_lock(7)"].map(|sql| Waiting::on(&db, sql));
    let of_this_database = |graph: &WaitGraph| -> Vec<_> {
        let of_test = |node: &&WaitNode| {
            let database = node.activity.as_ref().and_then(|it| it.database.clone());
            let database = database.or_else(|| Some(node.prepared.as_ref()?.database.clone()));
            database.as_ref() == Some(&db.name)
        };
        let facts = |node: &WaitNode| {
            let mode = node.wait.as_ref().map(|it| it.lock.mode.clone());
            let user = node.activity.as_ref().and_then(|it| it.user.clone());
            (node.pid, node.gid.clone(), user, kinds(node), mode)
        };
        graph.nodes().filter(of_test).map(facts).collect()
    };
    let expected = of_this_database(&WaitGraph::load(&mut conn).unwrap());
    assert_eq!(expected.len(), 5, "{expected:?}");
    let mut locker = db.connect();
    conn.batch_execute("SET lock_timeout = 500").unwrap();
    for catalog in [
        "pg_class",
        "pg_attribute",
        "pg_namespace",
        "pg_database",
        "pg_authid",
        "pg_proc",
    ] {
        let lock = format!("BEGIN; LOCK TABLE pg_catalog.{catalog}");
        locker.batch_execute(&lock).unwrap();
        let graph = WaitGraph::load_without_names(&mut conn);
        let found = of_this_database(&graph.expect(catalog));
        locker.batch_execute("COMMIT").unwrap();
        assert_eq!(found, expected, "{catalog}");
    }
    holder.batch_execute("COMMIT").unwrap();
    for waiting in waits {
        waiting.finish().unwrap();
    }
    conn.batch_execute(&format!("ROLLBACK PREPARED '{gid}'"))
        .unwrap();
    row.finish().unwrap();
}

#[test]
fn a_role_without_rights_sees_the_waits_and_a_hint() {
    let db = Database::new();
    let role = format!("blind_{}", db.name);
    let mut observer = db.connect();
    observer
        .batch_execute(&format!("CREATE ROLE {role}; SET ROLE {role}"))
        .unwrap();
    let mut root = holding(&db, "LOCK TABLE users");
    let waiting = Waiting::on(&db, "SELECT FROM users");
    let graph = WaitGraph::load(&mut observer).unwrap();
    assert_eq!(pids(graph.waiters_of(pid(&mut root))), [waiting.pid]);
    assert!(graph.to_string().contains("members of pg_read_all_stats"));
    observer
        .batch_execute(&format!("RESET ROLE; DROP ROLE {role}"))
        .unwrap();
    root.batch_execute("COMMIT").unwrap();
    waiting.finish().unwrap();
}

#[test]
fn a_graph_in_a_transaction_shows_the_current_waits() {
    let db = Database::new();
    let mut root = holding(&db, "LOCK TABLE users");
    db.connect()
        .transaction(|observer| {
            // From this read on, the transaction sees the same rows of the view.
            observer.batch_execute("SELECT FROM pg_stat_activity")?;
            let waiting = Waiting::on(&db, "SELECT FROM users");
            assert!(WaitGraph::load(observer)?.node(waiting.pid).is_some());
            root.batch_execute("COMMIT")?;
            waiting.finish()?;
            Ok::<_, diesel_pglock::Error>(())
        })
        .unwrap();
}

#[test]
fn a_deadlock_is_a_cycle_and_its_tree_is_finite() {
    let db = Database::new();
    let mut sessions: Vec<_> = (1..=3)
        .map(|key| {
            holding(
                &db,
                &format!("SET deadlock_timeout = '1h'; SELECT pg_advisory_xact_lock({key})"),
            )
        })
        .collect();
    let expected: Vec<i32> = sessions.iter_mut().map(pid).collect();
    let threads: Vec<_> = sessions
        .into_iter()
        .zip([2, 3, 1])
        .map(|(mut conn, key)| {
            std::thread::spawn(move || {
                conn.batch_execute(&format!("SELECT pg_advisory_xact_lock({key}); COMMIT"))
            })
        })
        .collect();
    let mut observer = db.connect();
    for pid in &expected {
        wait_until_blocked(&mut observer, *pid);
    }
    let graph = WaitGraph::load(&mut observer).unwrap();
    let cycles = graph.cycles();
    let cycle = cycles
        .iter()
        .find(|cycle| cycle.contains(&expected[0]))
        .unwrap();
    let mut sorted = cycle.clone();
    sorted.sort_unstable();
    let mut all = expected.clone();
    all.sort_unstable();
    assert_eq!(sorted, all);
    assert_eq!(graph.depth(expected[0]), None);
    assert_eq!(graph.blocked_count(expected[0]), 2);
    let text = graph.to_string();
    let title = format!("deadlock: {} → ", cycle[0]);
    assert!(text.contains(&title), "{text}");
    assert!(text.contains(&format!("{} again", cycle[0])), "{text}");
    PgLock::query()
        .pid(expected[0])
        .waiting()
        .cancel_activity(&mut observer)
        .unwrap();
    let results: Vec<_> = threads.into_iter().map(|it| it.join().unwrap()).collect();
    assert_eq!(results.iter().filter(|it| it.is_err()).count(), 1);
}

/// Reads the plans of the statement from the log of the server.
#[test]
fn a_graph_reads_pg_locks_once() {
    let server = pglock_sandbox::Sandbox::builder()
        .setting("session_preload_libraries", "auto_explain")
        .setting("auto_explain.log_min_duration", "0")
        .setting("auto_explain.log_analyze", "on")
        .start()
        .unwrap();
    let db = Database {
        url: server.url(),
        name: "postgres".into(),
    };
    let mut observer = db.connect();
    observer
        .batch_execute("CREATE TABLE users (id int)")
        .unwrap();
    let log = || std::fs::read_to_string(server.log_file()).unwrap();
    // Returns the line of the plan that scans pg_locks, once it is logged.
    let scan_of_pg_locks = |from: usize| {
        let mut line = String::new();
        wait_until("the plan is logged", || {
            let log = log();
            let scan = log[from..]
                .lines()
                .find(|line| line.contains("Function Scan on pg_lock_status"));
            line = scan.unwrap_or_default().to_owned();
            !line.is_empty()
        });
        line
    };

    let from = log().len();
    assert!(WaitGraph::load(&mut observer).unwrap().is_empty());
    let scan = scan_of_pg_locks(from);
    assert!(scan.contains("loops=1"), "{scan}");

    let mut root = holding(&db, "LOCK TABLE users");
    let waiting = Waiting::on(&db, "SELECT FROM users");
    let from = log().len();
    assert_eq!(WaitGraph::load(&mut observer).unwrap().nodes().count(), 2);
    let scan = scan_of_pg_locks(from);
    assert!(scan.contains("loops=1"), "{scan}");
    let scans = log()[from..].matches("on pg_lock_status").count();
    assert_eq!(scans, 1);
    root.batch_execute("COMMIT").unwrap();
    waiting.finish().unwrap();
}

#[test]
fn a_login_that_hangs_is_a_waiter() {
    let server = pglock_sandbox::Sandbox::start().unwrap();
    let db = Database::on(&server);
    let elsewhere = Database::in_place(server.url(), "postgres");
    let rename = format!("ALTER DATABASE {} RENAME TO renamed", db.name);
    let mut root = holding(&elsewhere, &rename);
    let url = db.url.clone();
    let login = std::thread::spawn(move || PgConnection::establish(&url).is_ok());
    let mut observer = elsewhere.connect();
    let waiters = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    wait_until("the login hangs", || count(&mut observer, waiters) == 1);
    let graph = WaitGraph::load(&mut observer).unwrap();
    assert_eq!(pids(graph.roots()), [pid(&mut root)]);
    let waiter = graph.waiters_of(pid(&mut root)).next().unwrap();
    assert!(waiter.wait.as_ref().unwrap().lock.activity.is_none());
    root.batch_execute("ROLLBACK").unwrap();
    assert!(login.join().unwrap());
}

#[cfg(feature = "serde")]
#[test]
fn the_graph_serializes() {
    let db = Database::new();
    let mut root = holding(&db, "LOCK TABLE users");
    let waiting = Waiting::on(&db, "SELECT FROM users");
    let graph = WaitGraph::load(&mut db.connect()).unwrap();
    let json = serde_json::to_value(&graph).unwrap();
    let nodes = json["nodes"].as_array().unwrap();
    let node = nodes
        .iter()
        .find(|node| node["pid"] == waiting.pid)
        .unwrap();
    assert_eq!(node["wait"]["lock"]["mode"], "AccessShareLock");
    assert_eq!(node["wait"]["lock"]["relation"]["kind"], "table");
    assert_eq!(node["wait"]["blockers"][0]["pid"], pid(&mut root));
    assert_eq!(node["wait"]["blockers"][0]["kind"], "hard");
    assert!(node["activity"]["duration"].is_number());
    root.batch_execute("COMMIT").unwrap();
    waiting.finish().unwrap();
}

#[cfg(feature = "async")]
#[tokio::test]
async fn an_async_connection_loads_the_same_graph() {
    use diesel_async::{AsyncConnection, AsyncPgConnection};

    let db = Database::new();
    let mut root = holding(&db, "LOCK TABLE users");
    let waiting = Waiting::on(&db, "SELECT FROM users");
    let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
    let graph = tokio::spawn(async move { WaitGraph::load(&mut conn).await });
    let graph = graph.await.unwrap().unwrap();
    assert_eq!(pids(graph.waiters_of(pid(&mut root))), [waiting.pid]);
    root.batch_execute("COMMIT").unwrap();
    waiting.finish().unwrap();
}

#[test]
fn of_several_lockers_of_a_row_the_graph_shows_the_one_that_is_awaited() {
    let db = Database::new();
    let lock = "SELECT FROM users WHERE id = 1 FOR KEY SHARE";
    let mut lockers = [(); 2].map(|()| holding(&db, lock));
    let pids = lockers.each_mut().map(pid);
    let waiting = Waiting::on(&db, "DELETE FROM users WHERE id = 1");
    let mut observer = db.connect();
    let mut awaited = || -> Vec<i32> {
        let graph = WaitGraph::load(&mut observer).unwrap();
        let blockers = graph.blockers_of(waiting.pid);
        blockers.filter_map(|node| node.pid).collect()
    };
    let first = awaited();
    assert_eq!(first.len(), 1);
    let i = usize::from(first[0] == pids[1]);
    lockers[i].batch_execute("COMMIT").unwrap();
    wait_until("the other is awaited", || awaited() == [pids[1 - i]]);
    lockers[1 - i].batch_execute("COMMIT").unwrap();
    waiting.finish().unwrap();
}
