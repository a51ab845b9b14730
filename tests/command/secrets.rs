//! Passwords in connection strings of any form, in any place, are never shown.

use super::{Folder, Ran, ran};
use crate::support::{Chance, seed};

/// Letters that the texts of the command seldom have side by side.
const LETTERS: &[u8] = b"zqxjkvwyZQXJKVWY789";

/// Signs that end or quote the parts of connection strings, of filters and of TOML.
const SIGNS: &[char] = &[
    '@', ':', '/', '?', '&', '=', '#', '%', '+', ',', ';', ' ', '\'', '"', '\\', '$', '~', '<',
    '>', '!', '[', ']', '{', '}', '`', '.', '-', 'ß', '漢',
];

/// A connection string, and the texts of its password.
struct Secret {
    conninfo: String,
    /// The password as it was meant, and as it was typed.
    texts: [String; 2],
}

impl Secret {
    fn new(chance: &mut Chance) -> Self {
        let password = password(chance);
        let typed = match chance.below(3) {
            0 => password.clone(),
            1 => encoded(&password, |c| !c.is_ascii_alphanumeric()),
            _ => encoded(&password, |c| c as u32 % 2 == 0),
        };
        let host = pick(
            chance,
            &[
                "127.0.0.1:1",
                "[::1]:1",
                "",
                "127.0.0.1:1,localhost:2",
                "%2Fno",
            ],
        );
        let more = pick(
            chance,
            &[
                "",
                "sslmode=disable",
                "sslmode=none",
                "connect_timeout=x",
                "colour",
            ],
        );
        let scheme = pick(
            chance,
            &[
                "postgres://",
                "postgresql://",
                "Postgres://",
                "postgres:/",
                "",
            ],
        );
        let (conninfo, typed) = match chance.below(6) {
            0 | 1 => (format!("{scheme}app:{typed}@{host}/db?{more}"), typed),
            2 => (
                format!("{scheme}app@{host}/db?password={typed}&{more}"),
                typed,
            ),
            3 => (
                format!("{scheme}{host}/db?{more}&user=app&password={typed}"),
                typed,
            ),
            4 => {
                let quoted = password.replace('\\', r"\\").replace('\'', r"\'");
                (format!("port=1 password = '{quoted}' {more}"), quoted)
            }
            _ => (
                format!("host=127.0.0.1 port=1 password={password} {more}"),
                password.clone(),
            ),
        };
        Self {
            conninfo,
            texts: [password, typed],
        }
    }

    /// Returns a part of the password in an output, of four characters or more.
    fn part_in(&self, output: &str) -> Option<String> {
        let unescaped = output.replace("\\\"", "\"").replace("\\\\", "\\");
        let parts = self.texts.iter().flat_map(|text| parts(text));
        let mut parts = parts.filter(|it| output.contains(it) || unescaped.contains(it));
        parts.next()
    }
}

fn pick<'t>(chance: &mut Chance, texts: &[&'t str]) -> &'t str {
    texts[chance.below(texts.len() as u64) as usize]
}

fn password(chance: &mut Chance) -> String {
    let length = 6 + chance.below(12);
    let character = |_| match chance.below(4) {
        0 => SIGNS[chance.below(SIGNS.len() as u64) as usize],
        _ => LETTERS[chance.below(LETTERS.len() as u64) as usize].into(),
    };
    (0..length).map(character).collect()
}

fn encoded(text: &str, is_encoded: impl Fn(char) -> bool) -> String {
    let encode = |c: char| match is_encoded(c) {
        true => c
            .to_string()
            .bytes()
            .map(|it| format!("%{it:02X}"))
            .collect(),
        false => c.to_string(),
    };
    text.chars().map(encode).collect()
}

/// Returns each part of four characters, of which two are letters that no other text has.
fn parts(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let is_letter = |c: &&char| u8::try_from(**c).is_ok_and(|c| LETTERS.contains(&c));
    let parts = characters.windows(4);
    let parts = parts.filter(|part| part.iter().filter(is_letter).count() >= 2);
    parts.map(|part| part.iter().collect()).collect()
}

/// Runs the command with the connection string where it belongs.
fn connect(chance: &mut Chance, conninfo: &str) -> Ran {
    let commands: [&[&str]; 8] = [
        &["config"],
        &["config", "--json"],
        &["ls"],
        &["tree", "--json"],
        &["who", "users"],
        &["watch", "--json"],
        &["migrate", "install", "--json"],
        &["run", "name", "--skip", "--", "true"],
    ];
    let command = commands[chance.below(8) as usize];
    let toml = toml(chance, conninfo);
    let (folder, option, variable) = match chance.below(5) {
        0 => (Folder::new(), vec!["--database-url", conninfo], None),
        1 => (Folder::new(), vec![], Some(("DATABASE_URL", conninfo))),
        2 => (
            Folder::new().with("pglock.toml", &toml),
            vec!["-d", "main"],
            None,
        ),
        3 => {
            let toml = "[databases]\nmain = \"$OTHER_URL\"\n";
            let folder = Folder::new().with("pglock.toml", toml);
            (folder, vec!["-d", "main"], Some(("OTHER_URL", conninfo)))
        }
        _ => {
            let dotenv = format!("DATABASE_URL={conninfo}\n");
            (Folder::new().with(".env", &dotenv), vec![], None)
        }
    };
    let mut process = folder.command(&[&option, command].concat());
    ran(process.envs(variable).env("PGCONNECT_TIMEOUT", "2"))
}

/// Writes the connection string into a file, with or without the escapes that it needs.
fn toml(chance: &mut Chance, conninfo: &str) -> String {
    let escaped = conninfo.replace('\\', r"\\").replace('"', "\\\"");
    let value = match chance.below(4) {
        0 => format!("\"{conninfo}\""),
        1 => format!("'{conninfo}'"),
        2 => conninfo.to_owned(),
        _ => format!("\"{escaped}\""),
    };
    let keys = [
        "[databases]\nmain",
        "limit",
        "databases",
        "colour",
        "[configs.a]\non",
        "[configs.a]\ndatabase",
    ];
    let lists = [
        "attributes",
        "[configs.a]\nfilters",
        "[configs.a]\non",
        "advisory_keys",
    ];
    match chance.below(3) {
        0 => format!("{} = {value}\n", keys[0]),
        1 => format!("{} = {value}\n", pick(chance, &keys)),
        _ => format!("{} = [\"pid\",\n  {value}]\n", pick(chance, &lists)),
    }
}

/// Runs the command with the connection string where another argument belongs.
fn misplace(chance: &mut Chance, conninfo: &str) -> Ran {
    let options = [
        "--limit",
        "--filter",
        "--columns",
        "--timeout",
        "--config",
        "--database",
        "--verify",
    ];
    let commands: [&[&str]; 9] = [
        &[],
        &["tree"],
        &["who"],
        &["man"],
        &["completions"],
        &["report"],
        &["migrate"],
        &["migrate", "--spare"],
        &["run"],
    ];
    let option = pick(chance, &options);
    let joined = format!("{option}={conninfo}");
    let args = match chance.below(3) {
        0 => vec![option, conninfo],
        1 => vec![&*joined],
        _ => [commands[chance.below(9) as usize], &[conninfo]].concat(),
    };
    let folder = Folder::new();
    let mut command = folder.command(&args);
    ran(command.env("PGHOST", "/nowhere").env("PGPORT", "1"))
}

#[test]
fn no_output_has_a_part_of_a_password() {
    let seed = seed("PGLOCK_SEED");
    let rounds = std::env::var("PGLOCK_SECRET_ROUNDS");
    let rounds = rounds.map_or(200, |rounds| rounds.parse().expect("a number"));
    let mut chance = Chance(seed);
    let leaks = (0..rounds).filter_map(|_| leak(&mut chance));
    let leaks: Vec<String> = leaks.take(5).collect();
    assert!(leaks.is_empty(), "PGLOCK_SEED={seed}: {leaks:#?}");
}

/// Runs the command with a secret, and returns a description if a part of it is shown.
fn leak(chance: &mut Chance) -> Option<String> {
    let secret = Secret::new(chance);
    let conninfo = &secret.conninfo;
    // Without a scheme or the word, no text shows that it holds a password.
    let is_recognisable = conninfo.contains("://") || conninfo.contains("password");
    let ran = match is_recognisable && chance.once_in(2) {
        true => misplace(chance, conninfo),
        false => connect(chance, conninfo),
    };
    assert!(!ran.err.contains("panicked"), "{conninfo}: {ran:?}");
    let part = secret
        .part_in(&ran.out)
        .or_else(|| secret.part_in(&ran.err))?;
    Some(format!("{part} of {conninfo}: {ran:?}"))
}
