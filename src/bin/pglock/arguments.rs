//! The arguments of the command.

use clap::error::{Error, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use crate::connect::ConfigArgs;
use crate::connect::ConnectionArgs;
use crate::list::ListArgs;
use crate::list::LogArgs;
use crate::list::TreeArgs;
use crate::list::WhoArgs;
use crate::migrate::MigrateArgs;
use crate::report::ReportArgs;
#[cfg(unix)]
use crate::run::RunArgs;
use crate::top::TopArgs;
use crate::watch::WatchArgs;

/// Lists the locks of a PostgreSQL database, and cancels or terminates the sessions that block others.
///
/// Without arguments, `pglock` shows how many sessions wait, and the roots: the sessions that block
/// them and do not wait themselves. With options it lists locks, as `pglock ls` does.
#[derive(Debug, Parser)]
#[command(name = "pglock", version, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub list: ListArgs,
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 nothing matched or declined, 2 usage, 3 no connection, \
4 denied by the server, 5 failed, 6 signalled but still there, 7 denied by a rule, 8 not planned, 130 interrupted.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists locks and waits, the longest waits first
    Ls(ListArgs),
    /// Draws waiting sessions below their blockers
    Tree(TreeArgs),
    /// Shows waiting sessions and their blockers, live
    Top(TopArgs),
    /// Prints a line when sessions become blocked, when that changes, and when it ends
    Watch(WatchArgs),
    /// Makes a page of HTML from a recording of `pglock watch --json`
    Report(ReportArgs),
    /// Lists the locks that conflict with a lock on a table
    Who(WhoArgs),
    /// Lists the signals that were sent, from the signal log
    Log(LogArgs),
    /// Runs a directory of migrations, and terminates the sessions that block them
    Migrate(MigrateArgs),
    #[cfg(unix)]
    Run(RunArgs),
    /// Shows the settings in force and their sources
    Config(ConfigArgs),
    /// Writes the completions for a shell to stdout
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Writes the JSON Schema of the output of `--json` to stdout
    Schema,
    /// Writes a manual page to stdout
    Man {
        /// The command of the page; default: an overview
        #[arg(value_name = "COMMAND")]
        page: Option<String>,
    },
}

impl Arguments {
    /// Refuses options that would be ignored, as in `pglock --filter … tree`.
    pub fn checked(self) -> Result<Self, Error> {
        if self.command.is_some() && self.list != ListArgs::default() {
            let text = "list options follow the command: `pglock ls --limit 5`";
            return Err(Self::command().error(ErrorKind::ArgumentConflict, text));
        }
        Ok(self)
    }
}

/// Returns the command whose name resembles a text most, if one does.
pub fn similar_command(text: &str) -> Option<String> {
    let definition = Arguments::command();
    let names = definition
        .get_subcommands()
        .map(|it| it.get_name().to_owned());
    let distances = names.map(|name| (distance(&name, text), name));
    let (distance, name) = distances.min()?;
    (distance <= 2 && distance < text.chars().count()).then_some(name)
}

/// Returns the number of letters to insert, remove or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for j in 0..b.len() {
            let replaced = diagonal + usize::from(c != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_valid() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_mistyped_command_is_recognised() {
        assert_eq!(similar_command("tre").as_deref(), Some("tree"));
        assert_eq!(similar_command("migrtae").as_deref(), Some("migrate"));
        assert_eq!(similar_command("7x"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_list_option_before_a_command_is_refused() {
        let parsed = Arguments::try_parse_from(["pglock", "--limit", "3", "ls"]).unwrap();
        assert_eq!(parsed.checked().unwrap_err().exit_code(), 2);
    }
}
