//! The kind of a relation.

use std::fmt;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::CChar;

/// The kind of a relation: the column `pg_class.relkind`.
///
/// # Examples
///
/// ```
/// use diesel_pglock::RelationKind;
///
/// assert_eq!(RelationKind::from('r'), RelationKind::Table);
/// assert_eq!(RelationKind::MaterializedView.to_string(), "materialized view");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = CChar)]
#[non_exhaustive]
pub enum RelationKind {
    /// An ordinary table.
    Table,
    /// An index.
    Index,
    /// A sequence.
    Sequence,
    /// The storage of a table's long values.
    Toast,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A composite type.
    CompositeType,
    /// A foreign table.
    ForeignTable,
    /// A partitioned table.
    PartitionedTable,
    /// An index of a partitioned table.
    PartitionedIndex,
    /// A kind that this version of the crate does not know.
    Other(char),
}

impl RelationKind {
    /// The letter that PostgreSQL shows.
    pub const fn as_char(self) -> char {
        match self {
            Self::Table => 'r',
            Self::Index => 'i',
            Self::Sequence => 'S',
            Self::Toast => 't',
            Self::View => 'v',
            Self::MaterializedView => 'm',
            Self::CompositeType => 'c',
            Self::ForeignTable => 'f',
            Self::PartitionedTable => 'p',
            Self::PartitionedIndex => 'I',
            Self::Other(letter) => letter,
        }
    }
}

impl From<char> for RelationKind {
    fn from(letter: char) -> Self {
        match letter {
            'r' => Self::Table,
            'i' => Self::Index,
            'S' => Self::Sequence,
            't' => Self::Toast,
            'v' => Self::View,
            'm' => Self::MaterializedView,
            'c' => Self::CompositeType,
            'f' => Self::ForeignTable,
            'p' => Self::PartitionedTable,
            'I' => Self::PartitionedIndex,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for RelationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Table => "table",
            Self::Index => "index",
            Self::Sequence => "sequence",
            Self::Toast => "toast table",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
            Self::CompositeType => "composite type",
            Self::ForeignTable => "foreign table",
            Self::PartitionedTable => "partitioned table",
            Self::PartitionedIndex => "partitioned index",
            Self::Other(letter) => return write!(f, "relation of kind {letter}"),
        })
    }
}

impl FromSql<CChar, Pg> for RelationKind {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let letter = <u8 as FromSql<CChar, Pg>>::from_sql(value)?;
        Ok(char::from(letter).into())
    }
}

impl ToSql<CChar, Pg> for RelationKind {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let letter = u8::try_from(self.as_char())?;
        <u8 as ToSql<CChar, Pg>>::to_sql(&letter, &mut out.reborrow())
    }
}

/// Serializes as its name, such as `materialized view`.
#[cfg(feature = "serde")]
impl serde::Serialize for RelationKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::RelationKind;

    #[test]
    fn every_letter_leads_back_to_itself() {
        for letter in "riStvmcfpIx".chars() {
            assert_eq!(RelationKind::from(letter).as_char(), letter);
        }
    }
}
