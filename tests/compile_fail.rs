//! Code that must not compile, and the messages of the compiler for it.
//!
//! The compiler runs on a few lines against the library that these tests are linked
//! with, so that nothing is built twice.

use std::cmp::Reverse;
use std::fs::DirEntry;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Returns the libraries that were built, with any set of features, the last one first.
fn libraries() -> Vec<PathBuf> {
    let program = std::env::current_exe().expect("a program");
    let entries = program.parent().expect("a folder").read_dir();
    let libraries = entries.expect("its entries").flatten().filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with("libdiesel_pglock-") && name.ends_with(".rlib")
    });
    let age = |entry: &DirEntry| entry.metadata().and_then(|it| it.modified()).ok();
    let mut libraries: Vec<_> = libraries.collect();
    libraries.sort_by_key(|entry| Reverse(age(entry)));
    libraries.iter().map(DirEntry::path).collect()
}

/// Compiles the body of a function with a connection `conn`; the error is the compiler's message.
fn compile(library: &Path, connection: &str, body: &str) -> Result<(), String> {
    static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed); // each has files of its own
    let folder = library.parent().expect("a folder").display().to_string();
    let mut compiler = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["-", "--edition=2024", "--crate-type=lib"])
        .args(["--emit=metadata", "--color=never"])
        .arg(format!("--crate-name=attempt_{attempt}"))
        .args(["--out-dir", env!("CARGO_TARGET_TMPDIR")])
        .arg(format!("-Ldependency={folder}"))
        .arg(format!("--extern=diesel_pglock={}", library.display()))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a compiler");
    let program = format!(
        "use diesel_pglock::{{prelude::*, TableLockMode::*}};
         pub struct NoTable;
         pub async fn function(conn: &mut impl {connection}) {{ {body} }}"
    );
    let mut input = compiler.stdin.take().expect("its input");
    input.write_all(program.as_bytes()).expect("a listener");
    drop(input);
    let output = compiler.wait_with_output().expect("its output");
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn complaint(connection: &str, body: &str) -> String {
    let knows_it = |library: &PathBuf| compile(library, connection, "").is_ok();
    let library = libraries().into_iter().find(knows_it).expect("the library");
    compile(&library, connection, body).expect_err("it must not compile")
}

#[track_caller]
fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "`{part}` in\n{said}");
    }
}

#[test]
fn only_a_table_can_be_locked() {
    let says = [
        "`NoTable` names no table that can be locked",
        "expected a table such as `users::table`, or a struct that derives",
    ];
    let sync = complaint(
        "PgLockConnection",
        "let _ = conn.lock_table::<NoTable>(Share);",
    );
    assert_says(&sync, &says);
    #[cfg(feature = "async")]
    {
        let body = "let _ = conn.lock_table::<NoTable>(Share);";
        assert_says(&complaint("AsyncPgLockConnection", body), &says);
    }
}

#[test]
fn a_lock_needs_a_table_at_all() {
    let said = complaint("PgLockConnection", "let _ = conn.lock_table(Share);");
    assert_says(&said, &["type annotations needed", "lock_table"]);
}

#[test]
fn the_lock_of_a_transaction_cannot_be_released() {
    let body = "conn.advisory(1).xact().acquire().unwrap().release();";
    assert_says(
        &complaint("PgLockConnection", body),
        &["no method named `release`"],
    );
}

#[test]
fn a_closure_without_a_return_type_is_asked_for_one() {
    let body = "conn.advisory(1).run(|_| Ok(()))?; Ok(())";
    let said = complaint("PgLockConnection", &in_function(body));
    assert_says(
        &said,
        &[
            "type annotations needed",
            "cannot infer type of the type parameter `E`",
        ],
    );
    #[cfg(feature = "async")]
    {
        let body = "conn.advisory(1).run(async |_| Ok(())).await?; Ok(())";
        let said = complaint("AsyncPgLockConnection", &in_function(body));
        assert_says(&said, &["type annotations needed"]);
    }
}

#[cfg(feature = "async")]
#[test]
fn a_closure_that_returns_a_future_is_no_async_closure() {
    let body =
        "conn.advisory(1).run(|conn| async move { conn.backend_pid().await }).await?; Ok(())";
    let said = complaint("AsyncPgLockConnection", &in_function(body));
    assert_says(
        &said,
        &[
            "type annotations needed",
            "giving this closure parameter an explicit type",
        ],
    );
}

/// A body that uses `?`.
fn in_function(body: &str) -> String {
    format!("let _: Result<(), diesel_pglock::Error> = async {{ {body} }}.await;")
}
