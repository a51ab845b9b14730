//! Which relation a name means, in SQL: the name stands between the two texts.
//!
//! `to_regclass` finds it as a query would, through the `search_path` when no schema is
//! given, and is NULL when there is none. But it fails without the right to the schema,
//! which whoever watches the server often lacks: there the catalogs are asked.

/// What stands before the name.
pub const REGCLASS_PREFIX: &str = "(SELECT CASE WHEN EXISTS (\
     SELECT FROM pg_catalog.pg_namespace AS n \
     WHERE NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
     AND (pg_catalog.starts_with(pg_catalog.lower(given.name), pg_catalog.concat(n.nspname, '.')) \
     OR pg_catalog.starts_with(given.name, pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.')))) \
     THEN (SELECT c.oid FROM pg_catalog.parse_ident(given.name) AS parts \
     JOIN pg_catalog.pg_namespace AS n ON n.nspname = parts[1] \
     JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = parts[2] \
     WHERE pg_catalog.cardinality(parts) = 2) \
     ELSE pg_catalog.to_regclass(given.name)::pg_catalog.oid END FROM (SELECT ";

/// What stands behind the name.
pub const REGCLASS_SUFFIX: &str = " AS name OFFSET 0) AS given)";
