//! The architecture: arrows between the modules of the library run one way.
//!
//! A module may use those above it in [`ORDER`], and none below. Nothing imports through
//! `lib.rs`, which re-exports for users: a thing is imported from the folder that defines it.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders and files of `src/`, in the order in which arrows may run; those of one row do
/// not use each other. `tables` is `schema.rs` beside `src/`.
const ORDER: &[&[&str]] = &[
    &["tables", "fmt", "trace"],
    &["types"],
    &["views"],
    &["error"],
    &["session"],
    &["timeout"],
    &["source"],
    &["advisory", "table"],
    &["signal"],
    &["query_dsl"],
    &["wait_graph"],
    &["prioritize"],
    &["connection", "async_connection"],
    &["migrate"],
    &["guide", "prelude"],
];

fn rank(unit: &str) -> Option<usize> {
    ORDER.iter().position(|row| row.contains(&unit))
}

/// The Rust files of the library, without `lib.rs` and the command.
fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("schema.rs")];
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("src/bin") {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("src/lib.rs")
            {
                files.push(path);
            }
        }
    }
    files
}

/// The module path of a file, such as `["advisory", "lock"]`.
fn module(file: &Path) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let Ok(inside) = file.strip_prefix(root) else {
        return vec!["tables".to_owned()];
    };
    let inside = inside.with_extension("");
    let parts = inside.iter().map(|it| it.to_string_lossy().into_owned());
    parts.filter(|it| it != "mod").collect()
}

/// The code without comments; what is left of an exported macro's `$crate` is for users' crates.
fn code(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n").replace("$crate", "")
}

/// Every path that begins with `crate` or `super`, with the groups of `use` spread out.
fn paths(code: &str) -> Vec<String> {
    let starts = code
        .match_indices("crate::")
        .chain(code.match_indices("super::"));
    let continues =
        |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
    let starts = starts.filter(|(at, _)| !continues(&code[..*at]));
    starts
        .flat_map(|(at, _)| spread(tree(&code[at..])))
        .collect()
}

/// The path at the start of a text, with its group.
fn tree(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && !"_:".contains(c));
    let end = end.unwrap_or(text.len());
    if !text[end..].starts_with('{') {
        return &text[..end];
    }
    let mut open = 0_i32;
    let closes = |c: char| {
        open += i32::from(c == '{') - i32::from(c == '}');
        open == 0
    };
    let group = text[end..].find(closes).expect("a group ends");
    &text[..=end + group]
}

/// The paths of a tree such as `a::{b, c::{d, e}}`.
fn spread(tree: &str) -> Vec<String> {
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        return Vec::from_iter((!path.is_empty()).then(|| path.to_owned()));
    };
    let group = group.trim_end().strip_suffix('}').expect("a group ends");
    let mut open = 0_i32;
    let parts = group.split(|c: char| {
        open += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && open == 0
    });
    parts
        .flat_map(spread)
        .map(|path| format!("{}{path}", head.trim()))
        .collect()
}

/// What a path names, seen from a module: the parts behind `crate`; none if it stays inside.
///
/// `super` in a module within the file leads to the file, which does not show here: such a
/// path counts only if it names something in the order.
fn resolve(path: &str, module: &[String]) -> Option<Vec<String>> {
    let mut parts = path.split("::").peekable();
    let mut base = if parts.next_if_eq(&"crate").is_some() {
        Vec::new()
    } else {
        module.to_vec()
    };
    while parts.next_if_eq(&"super").is_some() {
        base.pop();
    }
    base.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
    let is_root_path = path.starts_with("crate");
    base.first()
        .is_some_and(|first| is_root_path || rank(first).is_some())
        .then_some(base)
}

/// Why a module may not name that, if so.
fn fault(module: &[String], named: &[String]) -> Option<String> {
    let (from, to) = (module.first()?, named.first()?);
    let Some(target) = rank(to) else {
        return Some(format!(
            "`{to}` comes through lib.rs; import it from where it is defined"
        ));
    };
    let own = rank(from).unwrap_or_else(|| panic!("`{from}` is missing in the order"));
    let upward = target > own || (target == own && to != from);
    upward.then(|| format!("`{from}` may not use `{to}`, which comes later in the order"))
}

#[test]
fn arrows_between_modules_run_one_way() {
    let mut faults = Vec::new();
    for file in sources() {
        let module = module(&file);
        if module == ["prelude"] {
            continue;
        }
        let text = code(&fs::read_to_string(&file).unwrap());
        for path in paths(&text) {
            let named = resolve(&path, &module).unwrap_or_default();
            if let Some(why) = fault(&module, &named) {
                faults.push(format!("{}: {path}: {why}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn a_group_is_read_as_its_paths() {
    let found = paths("use crate::a::{b, c::{self, D}, e};\nlet x = crate::f::g(super::h::i);");
    let expected = [
        "crate::a::b",
        "crate::a::c::self",
        "crate::a::c::D",
        "crate::a::e",
        "crate::f::g",
        "super::h::i",
    ];
    assert_eq!(found, expected);
}

#[test]
fn an_upward_arrow_and_one_through_the_root_are_faults() {
    let module = |name: &str| vec![name.to_owned(), "x".to_owned()];
    assert!(fault(&module("types"), &module("views")).is_some());
    assert!(fault(&module("views"), &module("types")).is_none());
    assert!(fault(&module("table"), &module("advisory")).is_some());
    assert!(fault(&module("table"), &["PgLock".to_owned()]).is_some());
}
