//! Relations by name.

use diesel::PgConnection;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{Nullable, Oid, Text};

use crate::failure::Failure;
use diesel_pglock::internal::{REGCLASS_PREFIX, REGCLASS_SUFFIX};

/// Finds a relation by its name, with its schema or by the `search_path`.
///
/// An unknown name is an error: for a mistyped name, the list would be empty.
pub fn find(conn: &mut PgConnection, name: &str) -> Result<u32, Failure> {
    let oid = diesel::dsl::sql::<Nullable<Oid>>(REGCLASS_PREFIX)
        .bind::<Text, _>(name)
        .sql(REGCLASS_SUFFIX);
    match diesel::select(oid).get_result::<Option<u32>>(conn) {
        Ok(Some(oid)) => Ok(oid),
        Ok(None) => Err(Failure::Usage(format!(
            "relation `{name}` does not exist; check its name and its schema"
        ))),
        // The text does not have the form of a name.
        Err(DieselError::DatabaseError(DatabaseErrorKind::Unknown, error)) => Err(Failure::Usage(
            format!("relation `{name}`: {}", error.message()),
        )),
        Err(error) => Err(error.into()),
    }
}
