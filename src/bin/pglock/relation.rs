use diesel::PgConnection;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::Text;

use crate::failure::Failure;

#[diesel::declare_sql_function]
extern "SQL" {
    #[sql_name = "pg_catalog.to_regclass"]
    fn to_regclass(name: Text) -> Nullable<Oid>;
}

/// Finds a relation as a query would, by schema and name or along the `search_path`.
///
/// A name that means nothing is refused: of a mistyped one there would seem to be no locks.
pub fn find(conn: &mut PgConnection, name: &str) -> Result<u32, Failure> {
    match diesel::select(to_regclass(name)).get_result::<Option<u32>>(conn) {
        Ok(Some(oid)) => Ok(oid),
        Ok(None) => Err(Failure::Usage(format!("there is no relation `{name}`"))),
        // It is not written as a name is.
        Err(DieselError::DatabaseError(DatabaseErrorKind::Unknown, error)) => Err(Failure::Usage(
            format!("the relation `{name}`: {}", error.message()),
        )),
        Err(error) => Err(error.into()),
    }
}
