//! The statement that locks tables.

use crate::timeout::WaitLimit;
use crate::timeout::{LockBlock, Reply};
use crate::types::{LockMode, TableLockMode};

/// The tables to lock, and their mode.
#[derive(Clone, Debug)]
pub(crate) struct TableTarget {
    /// As Diesel renders them: quoted, with the schema if they have one.
    pub(crate) tables: Vec<String>,
    pub(crate) mode: TableLockMode,
    /// Without the tables that inherit.
    pub(crate) only: bool,
}

/// The name of the lock in errors.
impl std::fmt::Display for TableTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lock on ", self.mode)?;
        for (i, table) in self.tables.iter().enumerate() {
            write!(f, "{}`{table}`", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl TableTarget {
    /// The block that locks all of the tables or none.
    ///
    /// The server locks tables that inherit in its own order, in this one subtransaction, and
    /// for a role that may lock the parent alone: a lock statement each would do none of that.
    pub(crate) fn block(&self, limit: WaitLimit, reply: Reply) -> LockBlock {
        let nowait = matches!(limit, WaitLimit::NoWait);
        let tables = self.tables.iter();
        LockBlock {
            locks: tables.map(|table| self.lock(table, nowait)).collect(),
            held: None,
            reply,
        }
    }

    fn lock(&self, table: &str, nowait: bool) -> String {
        let only = if self.only { "ONLY " } else { "" };
        let nowait = if nowait { " NOWAIT" } else { "" };
        format!("LOCK TABLE {only}{table} IN {} MODE{nowait}; ", self.mode)
    }

    /// The modes that keep this lock from being taken.
    pub(crate) fn conflicts(&self) -> Vec<LockMode> {
        let modes = TableLockMode::ALL.into_iter();
        modes
            .filter(|mode| mode.conflicts_with(self.mode))
            .map(LockMode::from)
            .collect()
    }
}
