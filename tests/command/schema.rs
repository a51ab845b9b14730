//! `--json` and its schema, `docs/json-schema.json`.

mod document;
mod migrations;
mod recording;
mod signals;
mod waits;

use pglock_sandbox::Sandbox;
use serde_json::json;

use super::{Folder, ran};
use document::Document;

/// The properties that have no value on a throwaway server.
const WITHOUT_VALUE: [&str; 3] = [
    // The server looks up no names of clients.
    "activity/properties/client_hostname",
    // Workers count as their leader.
    "activity/properties/leader_pid",
    // No extension asks for it.
    "activity/properties/query_id",
];

#[test]
fn the_output_of_every_command_matches_the_schema_and_has_all_its_properties() {
    let mut document = Document::read();
    let server = Sandbox::start().unwrap();
    waits::check(&server, &mut document);
    signals::check(&server, &mut document);
    migrations::check(&server, &mut document);
    // PostgreSQL 13 does not record when a wait began.
    if server.version() >= 14 {
        assert_eq!(document.without_value(), WITHOUT_VALUE);
    }
}

#[test]
fn the_schema_refuses_what_it_does_not_describe() {
    let document = Document::read();
    let row = json!({"pid": 7, "granted": true, "wait_start": "2026-01-31T12:00:00Z"});
    let mistakes = |row| document.mistakes("list", &json!([row])).len();
    assert_eq!(mistakes(row.clone()), 0);
    for (name, value) in [("colour", "red"), ("pid", "7"), ("wait_start", "noon")] {
        let mut row = row.clone();
        row[name] = value.into();
        assert_eq!(mistakes(row), 1, "{name}");
    }
}

#[test]
fn the_command_writes_the_schema() {
    let ran = ran(&mut Folder::new().command(&["schema"]));
    assert_eq!((ran.code, &*ran.err), (0, ""));
    assert_eq!(ran.out, document::text());
}

#[test]
fn the_schema_describes_each_object_completely() {
    let document = Document::read();
    assert_eq!(document.open_objects(), [""; 0]);
}
