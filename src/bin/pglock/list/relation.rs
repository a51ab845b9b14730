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

/// Returns the relation, its partitions and the tables that inherit from it.
///
/// A lock on the relation is also taken on these.
pub fn with_descendants(conn: &mut PgConnection, oid: u32) -> Result<Vec<u32>, Failure> {
    #[derive(QueryableByName)]
    struct Relation {
        #[diesel(sql_type = Oid)]
        oid: u32,
    }
    let query = diesel::sql_query(
        "WITH RECURSIVE family(oid) AS (SELECT $1 UNION \
         SELECT inhrelid FROM pg_catalog.pg_inherits JOIN family ON inhparent = family.oid) \
         SELECT oid FROM family",
    );
    let family: Vec<Relation> = query.bind::<Oid, _>(oid).load(conn)?;
    Ok(family.into_iter().map(|it| it.oid).collect())
}
