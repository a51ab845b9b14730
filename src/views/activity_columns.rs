//! The columns of a [`PgActivity`], from `pg_stat_activity` and from its alias.

use diesel::expression::Selectable;
use diesel::pg::Pg;
use diesel::query_source::AliasedField;

use super::expression::{
    BlockingQueryBytes, BlockingQueryDuration, BlockingQueryIdentifier,
    BlockingTransactionDuration, QueryBytes, QueryDuration, QueryIdentifier, TransactionDuration,
};
use super::pg_activity::PgActivity;
use crate::tables::{BlockingActivity, blocking_activity, pg_stat_activity};

/// Lists the columns in the order of the fields.
///
/// `$render` turns each entry into a type or an expression. An entry is a column, or the
/// two expressions that replace one: for `pg_stat_activity`, and for its alias.
macro_rules! columns {
    ($render:ident) => {
        (
            $render!(pid),
            $render!(leader_pid),
            $render!(datname),
            $render!(usename),
            $render!(application_name),
            $render!(client_addr),
            $render!(client_hostname),
            $render!(client_port),
            $render!(backend_type),
            $render!(backend_start),
            $render!(xact_start),
            $render!(query_start),
            $render!(state_change),
            $render!(state),
            $render!(wait_event_type),
            $render!(wait_event),
            $render!(backend_xid),
            $render!(backend_xmin),
            $render!(QueryIdentifier, BlockingQueryIdentifier),
            $render!(QueryBytes, BlockingQueryBytes),
            $render!(QueryDuration, BlockingQueryDuration),
            $render!(TransactionDuration, BlockingTransactionDuration),
        )
    };
}

macro_rules! own_column {
    ($column:ident) => {
        pg_stat_activity::$column
    };
    ($own:ident, $blocking:ident) => {
        $own
    };
}

macro_rules! blocking_type {
    ($column:ident) => { AliasedField<BlockingActivity, pg_stat_activity::$column> };
    ($own:ident, $blocking:ident) => { $blocking };
}

macro_rules! blocking_column {
    ($column:ident) => {
        blocking_activity.field(pg_stat_activity::$column)
    };
    ($own:ident, $blocking:ident) => {
        $blocking
    };
}

impl Selectable<Pg> for PgActivity {
    type SelectExpression = columns!(own_column);

    fn construct_selection() -> Self::SelectExpression {
        columns!(own_column)
    }
}

/// The columns of a [`PgActivity`] from the alias `blocking_activity`.
pub type BlockingActivityColumns = columns!(blocking_type);

pub(crate) fn blocking_activity_columns() -> BlockingActivityColumns {
    columns!(blocking_column)
}
