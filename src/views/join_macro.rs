//! The macro for joins of user tables with the lock views.

/// Allows joins of your tables with the lock views.
///
/// Diesel allows two tables in one query only if both are declared together. Its
/// `allow_tables_to_appear_in_same_query!` cannot declare tables of another crate.
/// Call this macro where your tables are defined.
///
/// # Examples
///
/// ```
/// # include!("../../tests/support/doctest.rs");
/// use diesel::prelude::*;
/// use diesel_pglock::{PgLock, schema::pg_locks};
///
/// diesel::table! {
///     workers (pid) { pid -> Integer, name -> Text, }
/// }
/// diesel_pglock::allow_tables_to_appear_beside_locks!(workers);
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use diesel::connection::SimpleConnection;
/// # let mut conn = connection();
/// # let conn = &mut conn;
/// # conn.batch_execute("CREATE TABLE workers AS SELECT pg_backend_pid() AS pid, 'night'::text AS name")?;
/// let locks: Vec<(String, PgLock)> = PgLock::query()
///     .inner_join(workers::table.on(pg_locks::pid.eq(workers::pid.nullable())))
///     .select((workers::name, PgLock::as_select()))
///     .load(conn)?;
/// assert!(locks.iter().all(|(worker, _)| worker == "night"));
/// assert!(!locks.is_empty());
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! allow_tables_to_appear_beside_locks {
    ($($table:ident),+ $(,)?) => {
        $(
            $crate::allow_tables_to_appear_beside_locks!(@views $table);
            $crate::allow_tables_to_appear_beside_locks!(@ $table: blocking);
        )+
    };
    (@views $table:ident) => {
        $crate::allow_tables_to_appear_beside_locks!(
            @ $table: pg_locks, pg_stat_activity, pg_class, pg_namespace, pg_database, pg_prepared_xacts
        );
    };
    (@ $table:ident: $($view:ident),+) => {
        $(
            impl ::diesel::query_source::TableNotEqual<$table::table> for $crate::schema::$view::table {}
            impl ::diesel::query_source::TableNotEqual<$crate::schema::$view::table> for $table::table {}
        )+
    };
}
