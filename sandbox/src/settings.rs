//! The configuration file of the server.

use std::fmt::Write as _;
use std::path::Path;

/// The default settings: a small and fast server with room for concurrent tests.
///
/// `synchronous_commit` stays on: without `fsync` it costs little, and without it a
/// restart, which is a crash, would lose the latest commits.
const DEFAULTS: [(&str, &str); 5] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "32MB"),
    ("max_connections", "200"),
    ("max_prepared_transactions", "20"),
];

/// Renders the configuration file; PostgreSQL uses the last value of a setting.
pub(crate) fn render(chosen: &[(String, String)], socket_dir: &Path, port: u16) -> String {
    let mut file = String::new();
    for (name, value) in DEFAULTS {
        push(&mut file, name, value);
    }
    for (name, value) in chosen {
        push(&mut file, name, value);
    }
    push(&mut file, "listen_addresses", "127.0.0.1");
    push(
        &mut file,
        "unix_socket_directories",
        &socket_dir.to_string_lossy(),
    );
    push(&mut file, "port", &port.to_string());
    file
}

fn push(file: &mut String, name: &str, value: &str) {
    let quoted = value.replace('\\', r"\\").replace('\'', "''");
    let _ = writeln!(file, "{name} = '{quoted}'"); // writing to a `String` cannot fail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_setting_follows_the_default_and_is_quoted() {
        let chosen = [("fsync".to_owned(), r"it's \n".to_owned())];
        let file = render(&chosen, Path::new("/tmp/x"), 5432);
        let lines: Vec<_> = file
            .lines()
            .filter(|line| line.starts_with("fsync"))
            .collect();
        assert_eq!(lines, ["fsync = 'off'", r"fsync = 'it''s \\n'"]);
    }

    #[test]
    fn the_place_of_the_server_is_not_up_for_choice() {
        let chosen = [("port".to_owned(), "1".to_owned())];
        assert!(render(&chosen, Path::new("/tmp/x"), 5432).ends_with("port = '5432'\n"));
    }
}
