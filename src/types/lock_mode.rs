//! The modes that `pg_locks` shows.

use super::table_lock_mode::TableLockMode;
use super::text_enum::text_enum;

text_enum! {
    /// The mode of any lock: the column `pg_locks.mode`.
    ///
    /// Locks on other things than tables use some of the modes that tables have:
    /// an advisory lock is held `Exclusive` or `Share`.
    ///
    /// # Examples
    ///
    /// ```
    /// use diesel_pglock::{LockMode, TableLockMode};
    ///
    /// assert_eq!(LockMode::from("AccessShareLock"), LockMode::AccessShare);
    /// assert_eq!(LockMode::from(TableLockMode::Share).as_str(), "ShareLock");
    /// assert!(LockMode::Share.conflicts_with(&LockMode::RowExclusive));
    /// ```
    LockMode {
        /// [`TableLockMode::AccessShare`].
        AccessShare = "AccessShareLock",
        /// [`TableLockMode::RowShare`].
        RowShare = "RowShareLock",
        /// [`TableLockMode::RowExclusive`].
        RowExclusive = "RowExclusiveLock",
        /// [`TableLockMode::ShareUpdateExclusive`].
        ShareUpdateExclusive = "ShareUpdateExclusiveLock",
        /// [`TableLockMode::Share`].
        Share = "ShareLock",
        /// [`TableLockMode::ShareRowExclusive`].
        ShareRowExclusive = "ShareRowExclusiveLock",
        /// [`TableLockMode::Exclusive`].
        Exclusive = "ExclusiveLock",
        /// [`TableLockMode::AccessExclusive`].
        AccessExclusive = "AccessExclusiveLock",
        /// The read mark of a serializable transaction, which never blocks.
        SiReadLock = "SIReadLock",
    }
}

impl LockMode {
    /// The table lock mode of the same name; `None` for `SiReadLock` and unknown modes.
    pub fn table_lock_mode(&self) -> Option<TableLockMode> {
        let mode = match self {
            Self::AccessShare => TableLockMode::AccessShare,
            Self::RowShare => TableLockMode::RowShare,
            Self::RowExclusive => TableLockMode::RowExclusive,
            Self::ShareUpdateExclusive => TableLockMode::ShareUpdateExclusive,
            Self::Share => TableLockMode::Share,
            Self::ShareRowExclusive => TableLockMode::ShareRowExclusive,
            Self::Exclusive => TableLockMode::Exclusive,
            Self::AccessExclusive => TableLockMode::AccessExclusive,
            Self::SiReadLock | Self::Other(_) => return None,
        };
        Some(mode)
    }

    /// Returns `true` if two sessions cannot hold these modes on one thing at the same time.
    ///
    /// `SiReadLock` conflicts with nothing; of unknown modes nothing is known.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        match (self.table_lock_mode(), other.table_lock_mode()) {
            (Some(mode), Some(other)) => mode.conflicts_with(other),
            _ => false,
        }
    }
}

impl From<TableLockMode> for LockMode {
    fn from(mode: TableLockMode) -> Self {
        match mode {
            TableLockMode::AccessShare => Self::AccessShare,
            TableLockMode::RowShare => Self::RowShare,
            TableLockMode::RowExclusive => Self::RowExclusive,
            TableLockMode::ShareUpdateExclusive => Self::ShareUpdateExclusive,
            TableLockMode::Share => Self::Share,
            TableLockMode::ShareRowExclusive => Self::ShareRowExclusive,
            TableLockMode::Exclusive => Self::Exclusive,
            TableLockMode::AccessExclusive => Self::AccessExclusive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LockMode;
    use crate::types::table_lock_mode::TableLockMode;

    #[test]
    fn every_table_lock_mode_has_its_namesake() {
        for mode in TableLockMode::ALL {
            let shown = LockMode::from(mode);
            assert_eq!(shown.table_lock_mode(), Some(mode));
            assert_eq!(shown.as_str(), format!("{mode:?}Lock"));
            assert_eq!(LockMode::from(shown.as_str()), shown);
        }
    }

    #[test]
    fn an_unknown_mode_is_kept_as_it_is() {
        let mode = LockMode::from("FutureLock");
        assert_eq!(mode, LockMode::Other("FutureLock".into()));
        assert_eq!(mode.as_str(), "FutureLock");
        assert!(!mode.conflicts_with(&LockMode::AccessExclusive));
    }
}
