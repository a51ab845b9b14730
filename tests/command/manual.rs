//! `pglock completions`, `pglock man` and `pglock --help`.

use super::{Folder, Ran, ran};

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
