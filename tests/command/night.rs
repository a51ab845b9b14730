//! The first screens of the command, on a server with many waits.

use diesel::connection::SimpleConnection;

use super::pglock;
use super::scene::Scene;
use super::terminal::Terminal;
use crate::support::{is_alive, pid};

#[test]
fn signals_to_blockers_end_exactly_the_roots() {
    let scene = Scene::new();
    let args = ["--blocking", "--terminate"];
    let planned = pglock(&scene.database, &[&args[..], &["--dry-run"]].concat());
    let sessions = planned.out.lines().filter(|line| !line.starts_with("    "));
    let planned_pids: Vec<i32> = sessions.filter_map(first_number).collect();
    assert_eq!(
        planned_pids[0], scene.report,
        "the most harmful first: {planned:?}"
    );
    let (mut planned_pids, mut roots) = (planned_pids, scene.roots());
    planned_pids.sort_unstable();
    roots.sort_unstable();
    assert_eq!(planned_pids, roots, "{planned:?}");
    assert!(
        planned.out.contains("31 sessions wait behind it"),
        "{planned:?}"
    );

    let ended = pglock(&scene.database, &[&args[..], &["--yes"]].concat());
    assert_eq!(ended.code, 0, "{ended:?}");
    let proof = format!("{} ended; 31 sessions go on\n", scene.report);
    assert!(ended.out.contains(&proof), "{ended:?}");
    scene.await_the_rest();
    assert!(scene.roots().iter().all(|pid| !scene.is_alive(*pid)));
    assert!(scene.deadlock.iter().all(|pid| scene.is_alive(*pid)));
    assert!(
        ended.err.contains("ROLLBACK PREPARED 'order 7'"),
        "{ended:?}"
    );
    let [a, b] = scene.deadlock;
    let is_named = |pid: i32| ended.err.contains(&format!("{pid} → "));
    assert!(is_named(a) && is_named(b), "{ended:?}");
}

#[test]
fn the_queue_is_signalled_on_request() {
    let scene = Scene::new();
    let args = ["--blocking", "--on", "posts", "--terminate", "--dry-run"];
    let roots = pglock(&scene.database, &args);
    assert!(
        !roots.out.contains(&format!("{} ", scene.deploy)),
        "{roots:?}"
    );
    let queue = pglock(&scene.database, &[&args[..], &["--queue"]].concat());
    assert!(
        queue.out.contains(&format!("{}  deploy", scene.deploy)),
        "{queue:?}"
    );
}

#[test]
fn the_waits_are_shown_and_their_root_is_ended_while_a_catalog_is_locked() {
    let scene = Scene::new();
    let mut terminal = Terminal::start(&scene.database, &["top"], (24, 80));
    let count = "pglock top: 40 waiting behind 5 roots";
    terminal.wait_for("the waits", |screen| screen.contains(count));
    let mut locker = scene.database.connect();
    locker
        .batch_execute("BEGIN; LOCK TABLE pg_catalog.pg_class")
        .unwrap();
    terminal.wait_for("the reason", |screen| {
        screen.contains("by wait; no names of")
    });
    terminal.type_("xy");
    // The next one needs the catalog too.
    let ended = format!("{} ended; 1 session goes on; 30", scene.report);
    terminal.wait_for("the end of the root", |screen| screen.contains(&ended));
    assert!(!is_alive(&mut locker, scene.report));
    // A login to this database hangs. Other databases show the session that locks the catalog.
    let hung = pglock(&scene.database, &["tree"]);
    assert_eq!(hung.code, 3, "{hung:?}");
    let hint = "in another database, such as `postgres`";
    assert!(hung.err.contains(hint), "{hung:?}");
    let url = scene.database.url.replace(&scene.database.name, "postgres");
    let tree = pglock(&scene.database, &["tree", "--database-url", &url]);
    let locker_pid = pid(&mut locker);
    assert!(tree.out.contains(&format!("\n{locker_pid} ")), "{tree:?}");
    locker.batch_execute("COMMIT").unwrap();
    terminal.type_("q");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn relations_of_other_databases_are_named_on_demand() {
    let scene = Scene::new();
    let elsewhere = scene.elsewhere.to_string();
    let relation = "relation public.users";
    let tree = ["tree", &elsewhere];
    let nameless = pglock(&scene.database, &tree);
    assert!(!nameless.out.contains(relation), "{nameless:?}");
    let named = pglock(&scene.database, &[&tree[..], &["--names"]].concat());
    assert!(named.out.contains(relation), "{named:?}");
    let list = pglock(&scene.database, &[&elsewhere, "--names"]);
    assert!(list.out.contains(relation), "{list:?}");
}

#[test]
fn a_row_wait_belongs_to_its_table() {
    let scene = Scene::new();
    let args = ["--blocking", "--on", "users", "--terminate", "--dry-run"];
    let planned = pglock(&scene.database, &args);
    let root = format!("would terminate 1 session:\n  {}  console", scene.console);
    assert!(planned.out.starts_with(&root), "{planned:?}");
    let waits = pglock(&scene.database, &["--on", "users", "-f", "granted=false"]);
    let rows = waits
        .out
        .lines()
        .filter(|line| line.contains("row (0,1) of public.users"));
    assert_eq!(rows.count(), 3, "{waits:?}");
}

#[test]
fn the_first_screen_names_every_root() {
    let scene = Scene::new();
    for args in [&[][..], &["tree"]] {
        let mut terminal = Terminal::start(&scene.database, args, (24, 80));
        assert_eq!(terminal.end(), 0);
        let screen = terminal.screen();
        let first: Vec<&str> = screen.lines().take(24).collect();
        let first = first.join("\n");
        for root in scene.roots() {
            assert!(first.contains(&root.to_string()), "{root}: {first}");
        }
        assert!(first.contains("order 7"), "{first}");
    }
    let ran = pglock(&scene.database, &[]);
    let line = format!(
        "38 sessions wait behind 5: {} report (31), {} console (3), ",
        scene.report, scene.console
    );
    assert!(ran.out.starts_with(&line), "{}", ran.out);
    assert!(ran.out.contains("\ndeadlock: "), "{}", ran.out);
}

fn first_number(line: &str) -> Option<i32> {
    line.split_whitespace().next()?.parse().ok()
}

#[test]
fn the_tree_is_narrowed_to_what_concerns_a_session_or_a_table() {
    let scene = Scene::new();
    let tops = |args: &[&str]| -> Vec<i32> {
        let ran = pglock(&scene.database, &[&["tree"], args].concat());
        let lines = ran.out.lines().skip(1).filter(|line| !line.contains('─'));
        lines.filter_map(first_number).collect()
    };
    assert_eq!(tops(&[&scene.deploy.to_string()]), [scene.report]);
    assert_eq!(tops(&["--on", "users"]), [scene.console]);
    assert_eq!(
        tops(&["-f", "activity.application=elsewhere"]),
        [scene.elsewhere]
    );
    let none = pglock(&scene.database, &["tree", "1"]);
    assert_eq!(
        (none.code, &*none.out),
        (1, "no session waits for a lock\n")
    );
}
