//! `docs/command.md`: the page shows real output.
//!
//! `UPDATE_DOCS=1` writes the current output into the page.

use std::fs;
use std::path::PathBuf;
use std::thread;

use diesel::connection::SimpleConnection;

use super::{Folder, Jam, named, ran};
use crate::support::{Database, count, pid, server, wait_until};

/// A command of the page, and the output below it.
struct Shown {
    command: String,
    output: Vec<String>,
}

// The page shows how long locks are awaited, which PostgreSQL 13 does not record.
#[test]
fn the_page_shows_the_output_of_the_command() {
    if server().version() < 14 {
        return;
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/command.md");
    let page = fs::read_to_string(&path).expect("the page");
    // A server without the sessions of other tests, which the first command would count.
    let server = pglock_sandbox::Sandbox::start().expect("a server");
    let jam = Jam::between(Database::on(&server), "console", "deploy");
    let mut web = named(&jam.database, "web");
    let web_pid = pid(&mut web);
    let web = thread::spawn(move || web.batch_execute("SELECT * FROM users WHERE id = 1"));
    let since = "SELECT count(*) FROM pg_locks WHERE waitstart IS NOT NULL AND pid IN";
    let since = format!("{since} ({web_pid}, {})", jam.waiter_pid);
    let mut observer = jam.database.connect();
    wait_until("both wait", || count(&mut observer, &since) == 2);
    let folder = Folder::new().with("pglock.toml", &toml(&page)).with(
        "migrations/2026-01-31-120000_nickname/up.sql",
        "ALTER TABLE users ADD COLUMN nickname text;",
    );

    let mut rewritten = page.clone();
    for shown in blocks(&page) {
        let mut command = folder.command(&words(&shown.command));
        let ran = ran(command.env("DATABASE_URL", &jam.database.url));
        let home = folder.0.canonicalize().expect("a folder");
        let output =
            format!("{}{}", ran.out, ran.err).replace(home.to_str().expect("a path"), "/srv/shop");
        let output = output.replace(jam.database.url.as_str(), "postgres:///shop");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let before = format!("$ pglock{}\n{}", shown.command, lines(&shown.output));
            rewritten = rewritten.replace(&before, &format!("$ pglock{}\n{output}", shown.command));
            continue;
        }
        let output_lines: Vec<String> = output.lines().map(normal).collect();
        for line in shown.output.iter().map(|line| normal(line)) {
            assert!(
                output_lines.contains(&line),
                "pglock{}: {line}\n{output_lines:#?}",
                shown.command
            );
        }
        assert!(
            !shown.output.is_empty(),
            "pglock{}: the page shows no output",
            shown.command
        );
    }
    if rewritten != page {
        fs::write(&path, rewritten).expect("the page");
    }
    web.join().unwrap().expect("the console was terminated");
    jam.waiter
        .join()
        .unwrap()
        .expect("the console was terminated");
}

#[test]
fn the_page_lists_each_field() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/command.md");
    let page = fs::read_to_string(path).expect("the page");
    let ran = ran(&mut Folder::new().command(&["--attribute", "nope"]));
    let (_, fields) = ran.err.split_once("the fields are ").expect("the fields");
    for field in fields.trim().split(", ") {
        let short = field.replace("activity", "").replace("blocking", "");
        let is_listed = [field, &short].map(|it| page.contains(&format!("`{it}`")));
        assert!(is_listed.contains(&true), "{field} is not on the page");
    }
}

fn lines(output: &[String]) -> String {
    output.iter().map(|line| format!("{line}\n")).collect()
}

/// Returns the `pglock.toml` of the page.
fn toml(page: &str) -> String {
    let (_, rest) = page.split_once("```toml\n").expect("a pglock.toml");
    rest.split_once("```").expect("its end").0.to_owned()
}

fn blocks(page: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        let block = block.split_once("```").expect("the end of a block").0;
        for line in block.lines() {
            match line.strip_prefix("$ pglock") {
                Some(command) => all.push(Shown {
                    command: command.to_owned(),
                    output: Vec::new(),
                }),
                None => all
                    .last_mut()
                    .expect("a command")
                    .output
                    .push(line.to_owned()),
            }
        }
    }
    all
}

/// Splits a command into its arguments, some of them quoted.
fn words(command: &str) -> Vec<&str> {
    let parts = command.split('\'').enumerate();
    let words = parts.flat_map(|(i, part)| match i % 2 {
        0 => part.split_whitespace().collect::<Vec<_>>(),
        _ => vec![part],
    });
    words.collect()
}

/// Replaces numbers, durations and gaps, which differ between runs.
pub(super) fn normal(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        let mut normal = String::new();
        for c in word.chars() {
            match c {
                '0'..='9' if normal.ends_with('0') => {}
                '0'..='9' => normal.push('0'),
                '.' if normal.ends_with('0') => {}
                c => normal.push(c),
            }
        }
        normal
    });
    let text = words.collect::<Vec<_>>().join(" ");
    // The database of the test has a number, that of the page a name.
    let text = text.replace("`test_0`", "`shop`");
    let text = text.replace("0 ms", "0 s").replace("0 min 0 s", "0 s");
    if text.starts_with("-[") {
        text.replace('-', "")
    } else {
        text
    }
}
