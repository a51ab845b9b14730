//! The modes of table locks, and their conflicts.

use std::{error, fmt, str::FromStr};

/// The mode of a table lock, weakest first.
///
/// The statements that acquire each mode, and the modes that conflict with it, are listed under
/// [Table-Level Locks][pg].
///
/// [pg]: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
///
/// # Examples
///
/// ```
/// use diesel_pglock::TableLockMode::*;
///
/// assert!(AccessShare.conflicts_with(AccessExclusive));
/// assert!(!RowExclusive.conflicts_with(RowExclusive));
/// assert!(AccessShare < AccessExclusive);
/// assert_eq!("access share".parse(), Ok(AccessShare));
/// assert_eq!("ShareRowExclusiveLock".parse(), Ok(ShareRowExclusive));
/// ```
// Exhaustive: PostgreSQL's lock manager has had these eight since 7.1, and the
// conflict table below is only right as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TableLockMode {
    /// Taken by `SELECT`.
    AccessShare,
    /// Taken by `SELECT … FOR UPDATE` and its kin.
    RowShare,
    /// Taken by `INSERT`, `UPDATE`, `DELETE` and `MERGE`.
    RowExclusive,
    /// Taken by `VACUUM`, `ANALYZE`, `CREATE INDEX CONCURRENTLY` and some `ALTER TABLE`s.
    ShareUpdateExclusive,
    /// Taken by `CREATE INDEX`.
    Share,
    /// Taken by `CREATE TRIGGER` and some `ALTER TABLE`s.
    ShareRowExclusive,
    /// Taken by `REFRESH MATERIALIZED VIEW CONCURRENTLY`.
    Exclusive,
    /// Taken by `DROP TABLE`, `TRUNCATE`, `VACUUM FULL` and most `ALTER TABLE`s.
    AccessExclusive,
}

impl TableLockMode {
    /// All modes, weakest first.
    pub const ALL: [Self; 8] = [
        Self::AccessShare,
        Self::RowShare,
        Self::RowExclusive,
        Self::ShareUpdateExclusive,
        Self::Share,
        Self::ShareRowExclusive,
        Self::Exclusive,
        Self::AccessExclusive,
    ];

    /// Returns `true` if two sessions cannot hold these modes on one table at the same time.
    pub const fn conflicts_with(self, other: Self) -> bool {
        self.conflicts() & (1 << other as u8) != 0
    }

    /// Returns the modes that conflict with this one, a bit each, `AccessShare` lowest.
    const fn conflicts(self) -> u8 {
        match self {
            Self::AccessShare => 0b1000_0000,
            Self::RowShare => 0b1100_0000,
            Self::RowExclusive => 0b1111_0000,
            Self::ShareUpdateExclusive => 0b1111_1000,
            Self::Share => 0b1110_1100,
            Self::ShareRowExclusive => 0b1111_1100,
            Self::Exclusive => 0b1111_1110,
            Self::AccessExclusive => 0b1111_1111,
        }
    }

    /// The mode as `LOCK TABLE … IN … MODE` spells it.
    pub const fn as_sql(self) -> &'static str {
        match self {
            Self::AccessShare => "ACCESS SHARE",
            Self::RowShare => "ROW SHARE",
            Self::RowExclusive => "ROW EXCLUSIVE",
            Self::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Self::Share => "SHARE",
            Self::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Self::Exclusive => "EXCLUSIVE",
            Self::AccessExclusive => "ACCESS EXCLUSIVE",
        }
    }
}

/// The mode as SQL spells it.
impl fmt::Display for TableLockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_sql())
    }
}

/// Serializes as SQL spells it.
#[cfg(feature = "serde")]
impl serde::Serialize for TableLockMode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_sql())
    }
}

/// Reads a mode in any of its spellings: `ACCESS SHARE`, `AccessShare`,
/// `AccessShareLock`, `access_share`.
impl FromStr for TableLockMode {
    type Err = ParseTableLockModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = letters(text);
        let name = name.strip_suffix("lock").unwrap_or(&name);
        Self::ALL
            .into_iter()
            .find(|mode| letters(mode.as_sql()) == name)
            .ok_or_else(|| ParseTableLockModeError(text.to_owned()))
    }
}

fn letters(text: &str) -> String {
    let separator = |c: &char| matches!(c, ' ' | '_' | '-');
    text.chars()
        .filter(|c| !separator(c))
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// The error for a text that is not a table lock mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseTableLockModeError(String);

impl fmt::Display for ParseTableLockModeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a table lock mode; there are ", self.0)?;
        for (i, mode) in TableLockMode::ALL.into_iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}`{mode}`")?;
        }
        Ok(())
    }
}

impl error::Error for ParseTableLockModeError {}

#[cfg(test)]
mod tests {
    use super::TableLockMode::{self, *};

    #[test]
    fn conflicts_are_symmetric() {
        for a in TableLockMode::ALL {
            for b in TableLockMode::ALL {
                assert_eq!(a.conflicts_with(b), b.conflicts_with(a), "{a} and {b}");
            }
        }
    }

    #[test]
    fn a_stronger_mode_comes_later() {
        assert!(TableLockMode::ALL.is_sorted());
    }

    #[test]
    fn every_spelling_parses() {
        for mode in TableLockMode::ALL {
            for text in [
                mode.to_string(),
                format!("{mode:?}"),
                format!("{mode:?}Lock"),
                mode.as_sql().to_lowercase().replace(' ', "_"),
            ] {
                assert_eq!(text.parse(), Ok(mode), "{text}");
            }
        }
    }

    #[test]
    fn an_unknown_mode_is_refused_with_the_known_ones() {
        let error = "DROP".parse::<TableLockMode>().unwrap_err().to_string();
        assert!(
            error.starts_with("`DROP` is not a table lock mode"),
            "{error}"
        );
        assert!(error.contains("`ACCESS EXCLUSIVE`"), "{error}");
        assert_eq!("SHARE".parse(), Ok(Share));
    }
}
