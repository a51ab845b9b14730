//! The schema, and the properties that have occurred.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Map, Value, json};

use super::super::{Folder, ran};
use crate::support::Database;

pub struct Document {
    schema: Value,
    /// The properties that had a value, as JSON pointers within `$defs`.
    seen: BTreeSet<String>,
}

const DEFINITIONS: &str = "/$defs/";

/// Returns the text of the schema.
pub fn text() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json-schema.json");
    fs::read_to_string(path).expect("the schema")
}

impl Document {
    pub fn read() -> Self {
        let schema = serde_json::from_str(&text()).expect("JSON");
        jsonschema::meta::validate(&schema).expect("a schema");
        Self {
            schema,
            seen: BTreeSet::new(),
        }
    }

    /// Checks an output against a definition, and remembers its properties.
    #[track_caller]
    pub fn check(&mut self, name: &str, output: &str) {
        let value = serde_json::from_str(output).expect("JSON");
        let mistakes = self.mistakes(name, &value);
        assert!(mistakes.is_empty(), "{name}: {mistakes:#?}: {output}");
        self.remember(&format!("{DEFINITIONS}{name}"), &value);
    }

    /// Runs a command on a database, and checks its output.
    #[track_caller]
    pub fn check_run(&mut self, name: &str, database: &Database, args: &[&str]) {
        self.check_run_in(name, &Folder::new(), database, args);
    }

    #[track_caller]
    pub fn check_run_in(
        &mut self,
        name: &str,
        folder: &Folder,
        database: &Database,
        args: &[&str],
    ) {
        let args = [args, &["--json"]].concat();
        let ran = ran(folder.command(&args).env("DATABASE_URL", &database.url));
        assert!(!ran.out.is_empty(), "{args:?}: {ran:?}");
        self.check(name, &ran.out);
    }

    pub fn mistakes(&self, name: &str, value: &Value) -> Vec<String> {
        let mut schema = self.schema.clone();
        schema["anyOf"] = json!([{"$ref": format!("#{DEFINITIONS}{name}")}]);
        let options = jsonschema::options().should_validate_formats(true);
        let validator = options.build(&schema).expect("a schema");
        let mistakes = validator.iter_errors(value);
        mistakes
            .map(|it| format!("{}: {it}", it.instance_path()))
            .collect()
    }

    fn remember(&mut self, at: &str, value: &Value) {
        let schema = self.schema.pointer(at).expect("a pointer").clone();
        if let Some(reference) = schema["$ref"].as_str() {
            self.remember(&reference[1..], value);
        }
        for i in 0..schema["anyOf"].as_array().map_or(0, Vec::len) {
            self.remember(&format!("{at}/anyOf/{i}"), value);
        }
        for item in value.as_array().into_iter().flatten() {
            if schema["items"].is_object() {
                self.remember(&format!("{at}/items"), item);
            }
        }
        for (name, value) in values(value) {
            let at = format!("{at}/properties/{name}");
            if self.schema.pointer(&at).is_some() {
                self.seen.insert(at[DEFINITIONS.len()..].to_owned());
                self.remember(&at, value);
            }
        }
    }

    /// Returns the properties that never had a value.
    pub fn without_value(&self) -> Vec<String> {
        let known = self.schemas().into_keys();
        let properties = known.filter(|at| at.rsplit('/').nth(1) == Some("properties"));
        properties.filter(|at| !self.seen.contains(at)).collect()
    }

    /// Returns the objects that may have other properties than those of the schema.
    pub fn open_objects(&self) -> Vec<String> {
        let schemas = self.schemas().into_iter();
        let objects = schemas.filter(|(_, schema)| schema["type"] == "object");
        let open = objects.filter(|(_, schema)| schema["additionalProperties"] != false);
        open.map(|(at, _)| at).collect()
    }

    /// Returns all parts of the schema with their places.
    fn schemas(&self) -> BTreeMap<String, &Value> {
        let mut parts = BTreeMap::new();
        collect(&self.schema["$defs"], "", &mut parts);
        parts
    }
}

fn values(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let object = value.as_object().into_iter().flat_map(Map::iter);
    object.filter(|(_, value)| !value.is_null())
}

/// Collects a value's parts, and their parts.
fn collect<'v>(value: &'v Value, at: &str, parts: &mut BTreeMap<String, &'v Value>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(object) => object.iter().map(|(key, it)| (key.clone(), it)).collect(),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.map(|(i, it)| (i.to_string(), it)).collect()
        }
        _ => return,
    };
    for (name, part) in inner {
        let at = format!("{at}/{name}").trim_start_matches('/').to_owned();
        collect(part, &at, parts);
        parts.insert(at, part);
    }
}
