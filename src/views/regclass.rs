//! A subquery that returns the `oid` of a named relation: a prefix, the name, and a suffix.
//!
//! `to_regclass` finds a relation as a query does, along the `search_path` if the name has no
//! schema, and returns NULL if there is no such relation. It fails if the role lacks USAGE on
//! the schema, as roles that monitor a server often do. In that case the catalogs are read.

/// The text before the name.
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

/// The text after the name.
pub const REGCLASS_SUFFIX: &str = " AS name OFFSET 0) AS given)";
