use diesel::PgConnection;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{Nullable, Oid, Text};

use crate::failure::Failure;
use diesel_pglock::internal::{BEFORE_NAME, BEHIND_NAME};

/// Finds a relation as a query would, by schema and name or along the `search_path`.
///
/// A name that means nothing is refused: of a mistyped one there would seem to be no locks.
pub fn find(conn: &mut PgConnection, name: &str) -> Result<u32, Failure> {
    let oid = diesel::dsl::sql::<Nullable<Oid>>(BEFORE_NAME)
        .bind::<Text, _>(name)
        .sql(BEHIND_NAME);
    match diesel::select(oid).get_result::<Option<u32>>(conn) {
        Ok(Some(oid)) => Ok(oid),
        Ok(None) => Err(Failure::Usage(format!("there is no relation `{name}`"))),
        // It is not written as a name is.
        Err(DieselError::DatabaseError(DatabaseErrorKind::Unknown, error)) => Err(Failure::Usage(
            format!("the relation `{name}`: {}", error.message()),
        )),
        Err(error) => Err(error.into()),
    }
}

/// A relation, and those that a lock on it takes too: its partitions, and what inherits from it.
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
