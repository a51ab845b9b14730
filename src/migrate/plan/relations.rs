//! The relations of a database, and the files in which they are stored.

use std::collections::HashMap;

use diesel::Connection;
use diesel::QueryResult;
use diesel::connection::LoadConnection;
use diesel::deserialize::Queryable;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment};
use diesel::sql_types::{CChar, Nullable, Oid, Text};

use crate::error::Result;
use crate::session::{Driver, query, run_ready, uncached};
use crate::types::RelationKind;

/// The relations of a database, by oid.
pub(super) type Relations = HashMap<u32, Relation>;

/// A relation, and its file.
#[derive(Clone, Debug, PartialEq, Queryable)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: RelationKind,
    /// The file; another one after a rewrite. 0 without storage.
    pub(super) file: u32,
    /// The table of an index.
    pub(super) table: Option<u32>,
}

/// Reads the relations, as this session sees them.
pub(super) fn load_relations<C>(conn: &mut C) -> Result<Relations>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    type Columns = <ReadRelations as Query>::SqlType;
    let read = run_ready(uncached(conn).load::<_, Columns, Relation>(ReadRelations))?;
    Ok(read.into_iter().map(|it| (it.oid, it)).collect())
}

/// The files that a statement has replaced or made.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The tables that were rewritten.
    pub(super) rewritten: Vec<u32>,
    /// The indexes that were built, each with true if it had been there before.
    pub(super) built: Vec<(Relation, bool)>,
}

impl Changes {
    /// Compares the files before and after a statement.
    ///
    /// The indexes of a rewritten table are built anew too, and left out.
    pub(super) fn between(before: &Relations, after: &Relations) -> Self {
        let was = |it: &Relation| before.get(&it.oid).map(|before| before.file);
        let changed = after.values().filter(|it| was(it) != Some(it.file));
        let (indexes, tables): (Vec<_>, Vec<_>) =
            changed.partition(|it| it.kind == RelationKind::Index);
        let rewritten = tables.into_iter().filter(|it| was(it).is_some());
        let mut rewritten: Vec<u32> = rewritten.map(|it| it.oid).collect();
        rewritten.sort_unstable();
        let is_built = |it: &&Relation| it.table.is_some_and(|table| !rewritten.contains(&table));
        let built = indexes.into_iter().filter(is_built);
        let mut built: Vec<_> = built.map(|it| (it.clone(), was(it).is_some())).collect();
        built.sort_by_key(|(index, _)| index.oid);
        Self { rewritten, built }
    }
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.rewritten.is_empty() && self.built.is_empty()
    }

    /// Keeps the changes of these tables.
    pub(super) fn retain(&mut self, is_kept: impl Fn(u32) -> bool) {
        self.rewritten.retain(|table| is_kept(*table));
        self.built
            .retain(|(index, _)| index.table.is_some_and(&is_kept));
    }
}

/// Reads the relations, without temporary ones, which no other session can lock.
#[derive(Debug)]
struct ReadRelations;

query!(ReadRelations => (Oid, Text, Text, CChar, Oid, Nullable<Oid>), Relation);

impl QueryFragment<Pg> for ReadRelations {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind, \
             c.relfilenode, i.indrelid FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
             LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid OPERATOR(pg_catalog.=) c.oid \
             WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,m,v,f,i}'::pg_catalog.\"char\"[]) \
             AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_') \
             AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'",
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(oid: u32, kind: RelationKind, file: u32, table: Option<u32>) -> (u32, Relation) {
        let relation = Relation {
            oid,
            schema: "public".to_owned(),
            name: oid.to_string(),
            kind,
            file,
            table,
        };
        (oid, relation)
    }

    #[test]
    fn another_file_is_a_rewrite_and_a_new_index_is_a_build() {
        use RelationKind::{Index, Table};
        let before = Relations::from([
            relation(1, Table, 1, None),
            relation(2, Table, 2, None),
            relation(3, Index, 3, Some(2)),
        ]);
        let after = Relations::from([
            relation(1, Table, 9, None),
            relation(2, Table, 2, None),
            relation(3, Index, 8, Some(2)),
            relation(4, Index, 4, Some(1)),
            relation(5, Index, 5, Some(2)),
            relation(6, Table, 6, None),
        ]);
        let changes = Changes::between(&before, &after);
        assert_eq!(changes.rewritten, [1]);
        let built: Vec<_> = changes
            .built
            .iter()
            .map(|(it, old)| (it.oid, *old))
            .collect();
        assert_eq!(built, [(3, true), (5, false)]);
    }
}
