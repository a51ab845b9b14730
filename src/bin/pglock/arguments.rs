use clap::error::{Error, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use crate::config::ConfigArgs;
use crate::connection::ConnectionArgs;
use crate::list::ListArgs;
use crate::migrate::MigrateArgs;
use crate::top::TopArgs;
use crate::tree::TreeArgs;
use crate::who::WhoArgs;

/// Shows the locks of a PostgreSQL database, who blocks whom, and ends what is in the way.
///
/// Without a command it lists locks, as `pglock ls` does.
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
4 denied by the server, 5 failed, 130 interrupted.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists locks, those that are waited for first
    Ls(ListArgs),
    /// Draws who blocks whom
    Tree(TreeArgs),
    /// Shows who waits and who is in the way, live
    Top(TopArgs),
    /// Tells who would be in the way of a lock on a table now
    Who(WhoArgs),
    /// Runs a directory of migrations, and moves out of their way who blocks them
    Migrate(MigrateArgs),
    /// Shows the configuration in force, and where each value is from
    Config(ConfigArgs),
    /// Writes the completions for a shell to stdout
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Writes the manual page to stdout, of all or of one command
    Man {
        /// The command
        command: Option<String>,
    },
}

impl Arguments {
    /// Refuses what would otherwise be read and then forgotten: `pglock --filter … tree`.
    pub fn checked(self) -> Result<Self, Error> {
        if self.command.is_some() && self.list != ListArgs::default() {
            let text = "the options of a list stand behind its command: `pglock ls --limit 5`";
            return Err(Self::command().error(ErrorKind::ArgumentConflict, text));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_option_of_the_list_is_not_forgotten_before_another_command() {
        let parsed = Arguments::try_parse_from(["pglock", "--limit", "3", "ls"]).unwrap();
        assert_eq!(parsed.checked().unwrap_err().exit_code(), 2);
    }
}
