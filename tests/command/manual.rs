//! `pglock completions`, `pglock man` and `pglock --help`.

use std::process::Command;

use super::terminal::Terminal;
use super::{Folder, Ran, ran};
use crate::support::{Database, skipped};

fn pglock(args: &[&str]) -> Ran {
    ran(&mut Folder::new().command(args))
}

#[test]
fn each_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = pglock(&["completions", shell]);
        assert_eq!((ran.code, &*ran.err), (0, ""), "{shell}");
        assert!(
            ran.out.contains("--blocking") && ran.out.contains("migrate"),
            "{shell}"
        );
    }
    assert_eq!(pglock(&["completions", "cmd"]).code, 2);
}

#[test]
fn completions_offer_the_values_of_options() {
    for shell in ["bash", "zsh", "fish"] {
        let script = pglock(&["completions", shell]).out;
        for value in [
            "cancel-then-terminate",
            "activity.application_name=",
            "blocking.blocks",
            "access-exclusive",
        ] {
            assert!(script.contains(value), "{shell}: {value}");
        }
    }
    let zsh = pglock(&["completions", "zsh"]).out;
    let offers_files = |option: &str| {
        let mut lines = zsh.lines().filter(|line| line.contains(option));
        lines.any(|line| line.contains("_files") || line.contains("_default"))
    };
    assert!(!offers_files("--database=") && !offers_files("--on=") && !offers_files("--policy="));
    assert!(offers_files("--output=") && offers_files("--migration-dir="));
}

fn has_bash() -> bool {
    let has_bash = Command::new("bash").arg("--version").output().is_ok();
    if !has_bash {
        skipped("completions of bash", "bash");
    }
    has_bash
}

/// Sources the script `$0`, and prints what it offers for the last of some words.
const COMPLETE: &str = r#"
    source "$0"
    compopt() { :; }
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _pglock pglock "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    printf '%s\n' "${COMPREPLY[@]}"
"#;

#[test]
fn bash_completes_values_and_offers_files_only_for_files() {
    if !has_bash() {
        return;
    }
    let script = pglock(&["completions", "bash"]).out;
    let folder = Folder::new().with("completions", &script).with("todo", "");
    let completed = |words: &[&str]| {
        let args = ["-c", COMPLETE, "completions", "pglock"];
        let mut bash = Command::new("bash");
        let ran = ran(bash.current_dir(&folder.0).args(args).args(words));
        assert_eq!(ran.err, "", "{words:?}");
        ran.out.trim_end().replace('\n', " ")
    };
    for (words, expected) in [
        (
            &["migrate", "--policy", "c"][..],
            "cancel cancel-then-terminate",
        ),
        (&["migrate", "--deny", "access-e"], "access-exclusive"),
        (
            &["migrate", "--spare", "activity.q"],
            "activity.query_start= activity.query=",
        ),
        (&["-f", "activity.app"], "activity.application_name="),
        (&["ls", "--columns", "blocking.p"], "blocking.pid"),
        (&["who", "users", "ShareR"], "ShareRowExclusiveLock"),
        (&["man", "mig"], "migrate"),
        (&["--database", "to"], "to"),
        (&["tree", "--timeout", "to"], "to"),
        (&["report", "--output", "to"], "todo"),
    ] {
        assert_eq!(completed(words), expected, "{words:?}");
    }
}

#[test]
fn the_tab_key_completes_a_value_in_bash() {
    if !has_bash() {
        return;
    }
    let bash = "exec bash --norc --noprofile -i";
    let mut terminal = Terminal::shell(&Database::new(), bash, (24, 80), &[]);
    terminal.type_("source <($PGLOCK completions bash); PS1=ready\\>\r");
    terminal.wait_for("a prompt", |screen| screen.contains("ready>"));
    terminal.type_("pglock migrate --policy obs\t");
    terminal.wait_for("a value", |screen| screen.contains("--policy observe"));
}

#[test]
fn the_command_and_each_subcommand_have_a_manual_page() {
    let all = pglock(&["man"]).out;
    assert!(
        all.contains(".TH pglock 1") && all.contains("Exit codes"),
        "{all}"
    );
    let tree = pglock(&["man", "tree"]).out;
    assert!(
        tree.contains(".TH pglock\\-tree 1") || tree.contains(".TH pglock-tree 1"),
        "{tree}"
    );
    assert!(
        tree.contains("mermaid") && tree.contains("database\\-url"),
        "{tree}"
    );
    assert_eq!(pglock(&["man", "treee"]).code, 2);
}

#[test]
fn the_help_lists_the_exit_codes() {
    let help = pglock(&["--help"]);
    assert_eq!((help.code, &*help.err), (0, ""));
    assert!(help.out.contains("4 denied by the server"), "{}", help.out);
}
