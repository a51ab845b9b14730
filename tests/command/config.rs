//! `pglock config`, and `pglock.toml`.

use serde_json::Value;

use super::{Folder, ran};

/// Returns the value of a setting and its source.
fn setting(folder: &Folder, args: &[&str], name: &str) -> (String, String) {
    let args = [&["config", "--json"], args].concat();
    let ran = ran(&mut folder.command(&args));
    assert_eq!(ran.code, 0, "{ran:?}");
    let all: Vec<Value> = serde_json::from_str(&ran.out).expect("JSON");
    let found = all.iter().find(|it| it["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name}: {}", ran.out));
    let text = |key: &str| found[key].as_str().expect("a text").to_owned();
    (text("value"), text("source"))
}

fn pair(value: &str, source: &str) -> (String, String) {
    (value.to_owned(), source.to_owned())
}

#[test]
fn without_a_file_the_defaults_are_in_force() {
    let folder = Folder::new();
    assert_eq!(setting(&folder, &[], "limit"), pair("25", "default"));
    let (attributes, source) = setting(&folder, &[], "attributes");
    assert!(attributes.starts_with("pid, granted, mode"), "{attributes}");
    assert_eq!(source, "default");
    let (database, source) = setting(&folder, &[], "database");
    assert_eq!(database, "chosen by libpq");
    assert!(source.contains("PG* variables"), "{source}");
}

#[test]
fn a_config_overrides_the_file_and_the_file_the_defaults() {
    let text = "limit = 5\nattributes = [\"pid\"]\n[configs.stuck]\nlimit = 3\nfilters = [\"granted=false\"]\n";
    let folder = Folder::new().with("pglock.toml", text);
    let path = folder.0.canonicalize().unwrap().join("pglock.toml");
    let path = path.to_str().unwrap();
    assert_eq!(setting(&folder, &[], "limit"), pair("5", path));
    let stuck = ["--config", "stuck"];
    assert_eq!(
        setting(&folder, &stuck, "limit"),
        pair("3", "config `stuck`")
    );
    assert_eq!(setting(&folder, &stuck, "attributes"), pair("pid", path));
    assert_eq!(
        setting(&folder, &stuck, "filters"),
        pair("granted=false", "config `stuck`")
    );
    assert_eq!(setting(&folder, &[], "configs"), pair("stuck", path));
    let unknown = ran(&mut folder.command(&["config", "--config", "stick"]));
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.err.contains("`pglock.toml` defines stuck"),
        "{}",
        unknown.err
    );
}

#[test]
fn the_password_of_each_source_is_not_shown() {
    let secret = "postgres://app:hunter2@host/db?password=hunter2";
    let folder = Folder::new()
        .with(".env", &format!("DATABASE_URL='{secret}'\n"))
        .with(
            "pglock.toml",
            &format!("[databases]\nmain = \"{secret}\"\n"),
        );
    for args in [
        &["config"][..],
        &["config", "--json"],
        &["-d", "main", "config"],
        &["config", "--database-url", secret],
    ] {
        let ran = ran(&mut folder.command(args));
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.contains("postgres://app:…@host/db"), "{}", ran.out);
        assert!(!ran.out.contains("hunter2"), "{}", ran.out);
    }
    let (_, source) = setting(&folder, &[], "database");
    assert!(source.ends_with("/.env"), "{source}");
}

#[test]
fn an_error_of_dotenv_does_not_quote_the_line() {
    let folder = Folder::new().with(".env", "DATABASE_URL=postgres://app:hunter2 @ host 'x\n");
    let ran = ran(&mut folder.command(&["config"]));
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(!ran.err.contains("hunter2"), "{}", ran.err);
}

#[test]
fn an_error_of_dotenv_is_reported_only_if_it_matters() {
    let folder = Folder::new().with(".env", "A=b c d\n");
    for args in [&["--database-url", "dbname=x"][..], &["--database", "main"]] {
        let toml = "[databases]\nmain = \"dbname=x\"\n";
        std::fs::write(folder.0.join("pglock.toml"), toml).unwrap();
        let ran = ran(folder.command(args).arg("config"));
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let mut command = folder.command(&["config"]);
    assert_eq!(ran(command.env("DATABASE_URL", "dbname=x")).code, 0);
    let found = ran(&mut folder.command(&["config"]));
    assert_eq!(found.code, 2, "{found:?}");
    assert!(found.err.contains("`.env`"), "{}", found.err);
}

#[test]
fn the_password_of_pairs_with_a_url_is_not_shown() {
    let folder = Folder::new();
    let pairs = "host=x password=hunter2 application_name=http://svc";
    let shown = setting(&folder, &["--database-url", pairs], "database");
    assert_eq!(shown.0, "host=x");
}

#[test]
fn the_password_of_a_misplaced_url_in_the_file_is_not_shown() {
    let url = "postgres://app:hunter2@host/db";
    for (text, args) in [
        (format!("databases = \"{url}\"\n"), &["config"][..]),
        (format!("limit = \"{url}\"\n"), &["config"]),
        (
            format!("[databases]\nmain = \"${url}\"\n"),
            &["config", "-d", "main"],
        ),
        (format!("attributes = [\"{url}\"]\n"), &["config"]),
        (format!("[configs.a]\nfilters = [\"{url}\"]\n"), &["config"]),
        (format!("[configs.a]\non = \"{url}\"\n"), &["config"]),
    ] {
        let ran = ran(&mut Folder::new().with("pglock.toml", &text).command(args));
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    }
}

#[test]
fn a_config_can_hold_a_recipe_that_terminates_roots() {
    let jam = super::Jam::new();
    let toml = format!(
        "[databases]\nmain = {:?}\n[configs.unjam]\ndatabase = \"main\"\non = [\"users\"]\nroots = true\nterminate = true\nyes = true\n",
        jam.database.url
    );
    let folder = Folder::new().with("pglock.toml", &toml);
    let ran = ran(&mut folder.command(&["--config", "unjam"]));
    let expected = format!("{} ended; 1 session goes on\n", jam.holder_pid);
    assert_eq!((ran.code, ran.out), (0, expected));
    jam.waiter.join().unwrap().expect("the waiter has its lock");
}
