//! The splitter beside psql, which separates statements as the server does.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use diesel::PgConnection;
use diesel::prelude::*;
use pglock_sandbox::Sandbox;

use super::{Lexer, split};

/// The texts with which `psql --single-step` encloses each statement, in lines of their own.
const BEFORE: &str = "(Single step mode: verify command)";
const AFTER: &str = "(press return to proceed or enter x and return to cancel)";

/// Pieces of SQL, most of which hide a semicolon.
const PIECES: &[&str] = &[
    "SELECT 1",
    "SELECT a.b",
    ";",
    ";",
    ";",
    "\n",
    " ",
    "\t",
    "(",
    ")",
    "''",
    "';'",
    "'it''s;'",
    "'a\\'",
    "E'\\';'",
    "e'\\\\'",
    "'a' -- ;\n ';'",
    "'a'\n/* ; */ 'b;'",
    "N'\\'",
    "U&'\\0041;'",
    "U&\"\\0041;\"",
    "B'01'",
    "x'ff'",
    "\";\"",
    "\"a\"\";\"",
    "$$;$$",
    "$a$ ; $$ ; $a$",
    "$ä$;$ä$",
    "$1",
    "a$b",
    "a$$;",
    "1e5",
    "1.5",
    "+-*/ 2",
    "@-",
    "<=",
    "::int",
    "-- ; '\n",
    "-- it's\r",
    "/* ; */",
    "/* /* ; */ ' */",
    "- -1",
    "ä",
    "漢字",
    "; BEGIN;",
    "END",
    "CASE",
    "CASE WHEN a THEN b END",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END",
    "CREATE OR REPLACE PROCEDURE p(a int) LANGUAGE sql BEGIN ATOMIC DELETE FROM t; END",
    "CREATE RULE r AS ON INSERT TO a DO (DELETE FROM b; DELETE FROM c)",
    "DO $x$ BEGIN PERFORM 1; END $x$",
    "CREATE TABLE t (a text DEFAULT ';')",
];

struct Psql {
    server: Sandbox,
    file: PathBuf,
}

impl Psql {
    fn start() -> Option<Self> {
        let version = Command::new("psql").arg("--version").output();
        if version.is_err() {
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED the splitter beside psql: install psql"
            );
            return None;
        }
        let server = Sandbox::start().unwrap();
        let name = format!("pglock_splitter_{}.sql", server.port());
        let file = std::env::temp_dir().join(name);
        Some(Self { server, file })
    }

    /// Returns the statements that psql would send, of which none is run.
    fn statements(&self, text: &str, conforming: bool) -> Vec<String> {
        fs::write(&self.file, text).unwrap();
        let setting = if conforming { "on" } else { "off" };
        let mut child = Command::new("psql")
            .args(["--no-psqlrc", "--single-step", "--file"])
            .arg(&self.file)
            .arg(self.server.url())
            .env(
                "PGOPTIONS",
                format!("-c standard_conforming_strings={setting}"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut answers = child.stdin.take().unwrap();
        // psql may read fewer.
        let _ = answers.write_all("x\n".repeat(5000).as_bytes());
        drop(answers);
        let output = child.wait_with_output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let shown = output.split(BEFORE).skip(1);
        let shown = shown.filter_map(|it| {
            let (_, statement) = it.split_once('\n')?;
            let (statement, _) = statement.split_once(AFTER)?;
            Some(statement.rsplit_once('\n')?.0.to_owned())
        });
        // psql sends comments too.
        let is_statement = |sql: &String| split(sql, conforming).map_or(true, |it| !it.is_empty());
        shown.filter(is_statement).collect()
    }

    /// Compares the splitter with psql; a text that the splitter refuses is not compared.
    #[track_caller]
    fn compare(&self, text: &str, conforming: bool) -> Option<usize> {
        let statements = split(text, conforming).ok()?;
        let expected = self.statements(text, conforming);
        let own: Vec<&str> = statements.iter().map(|it| it.text).collect();
        assert_eq!(own.len(), expected.len(), "{text}\n{own:#?}\n{expected:#?}");
        for (own, expected) in own.iter().zip(&expected) {
            let (own, expected) = (tokens(own, conforming), tokens(expected, conforming));
            assert_eq!(own, expected, "{text}");
        }
        Some(own.len())
    }
}

/// Returns the tokens of a statement: psql leaves out empty lines and some comments.
fn tokens(sql: &str, conforming: bool) -> Vec<&str> {
    let tokens = Lexer::new(sql, conforming).map(Result::unwrap);
    let tokens = tokens.filter(|token| token.end() < sql.len() || token.text != ";");
    tokens.map(|token| token.text).collect()
}

impl Drop for Psql {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// Returns true if a string such as `E'…'` or `x'…'` continues on a further line.
///
/// psql, which reads lines, forgets there which kind of string it is in.
fn is_misread(text: &str, conforming: bool) -> bool {
    let mut tokens = Lexer::new(text, conforming).map(Result::unwrap);
    tokens.any(|token| {
        let has_kind = token
            .text
            .starts_with(|c: char| "EXBU".contains(c.to_ascii_uppercase()));
        has_kind && token.text.contains('\'') && token.text.contains('\n')
    })
}

/// A generator of numbers that a seed repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

fn seed() -> u64 {
    let chosen = std::env::var("PGLOCK_SPLITTER_SEED").ok();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    chosen.map_or(now.as_micros() as u64, |seed| seed.parse().unwrap())
}

fn rounds() -> usize {
    let chosen = std::env::var("PGLOCK_SPLITTER_ROUNDS").ok();
    chosen.map_or(15, |rounds| rounds.parse().unwrap())
}

#[test]
fn random_texts_are_split_as_psql_splits_them() {
    let Some(psql) = Psql::start() else { return };
    let seed = seed();
    let _ = writeln!(std::io::stderr(), "splitter: seed {seed}");
    let mut random = Random(seed);
    let mut compared = 0;
    for round in 0..rounds() {
        // One run of psql for many texts: a text that is not closed would swallow the others.
        let texts = (0..40).map(|_| {
            let pieces = (0..1 + random.below(8)).map(|_| PIECES[random.below(PIECES.len())]);
            pieces.collect::<Vec<_>>().join(" ") + "\n;\n"
        });
        let conforming = round % 4 > 0;
        let closed = texts.filter(|text| split(&format!("{text}SELECT"), conforming).is_ok());
        let balanced = closed.filter(|text| text.matches('(').count() == text.matches(')').count());
        let comparable = balanced.filter(|text| !is_misread(text, conforming));
        let text: String = comparable.collect();
        compared += psql.compare(&text, conforming).unwrap_or_default();
    }
    assert!(compared > rounds() * 20, "{compared}");
}

#[test]
fn a_string_continues_on_the_next_line_as_the_server_reads_it() {
    let server = Sandbox::start().unwrap();
    let mut conn = PgConnection::establish(&server.url()).unwrap();
    let text = "SELECT E'a' -- c\n '\\';' AS x; SELECT 2";
    let statements = split(text, true).unwrap();
    assert_eq!(statements.len(), 2);
    let read = diesel::sql_query(statements[0].text).get_result::<Read>(&mut conn);
    assert_eq!(read.unwrap().x, "a';");
}

#[derive(QueryableByName)]
struct Read {
    #[diesel(sql_type = diesel::sql_types::Text)]
    x: String,
}

#[test]
fn real_texts_are_split_as_psql_splits_them() {
    let Some(psql) = Psql::start() else { return };
    let mut compared = 0;
    for file in scripts(&psql) {
        let text = fs::read_to_string(&file).unwrap();
        // Scripts of extensions begin with a command of psql.
        let lines = text.lines().filter(|line| !line.starts_with('\\'));
        let text = lines.collect::<Vec<_>>().join("\n");
        let statements = psql.compare(&text, true);
        compared += statements.unwrap_or_else(|| panic!("{}", file.display()));
    }
    assert!(compared > 100, "{compared}");
}

/// Returns the SQL scripts of the server: its catalog, and its extensions.
fn scripts(psql: &Psql) -> Vec<PathBuf> {
    let version = psql.server.version();
    let folder = PathBuf::from(format!("/usr/share/postgresql/{version}"));
    let folders = [folder.join("extension"), folder].into_iter();
    let files = folders.filter_map(|it| fs::read_dir(it).ok()).flatten();
    let files = files.map(|file| file.unwrap().path());
    files
        .filter(|it| it.extension().is_some_and(|it| it == "sql"))
        .collect()
}
