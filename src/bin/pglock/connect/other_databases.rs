//! The names of relations of the server's other databases.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use diesel::prelude::*;
use diesel_pglock::schema::{pg_class, pg_namespace};
use diesel_pglock::{LockedRelation, PgLock};

use super::connection::Database;
use super::limit::LimitArgs;
use crate::failure::Failure;
use crate::output::note;

/// The relations of other databases, by the name of the database and their `oid`.
#[derive(Debug, Default)]
pub struct OtherDatabases(HashMap<(String, u32), LockedRelation>);

impl OtherDatabases {
    /// Connects to each database that has a lock whose relation has no name.
    ///
    /// Prints why a database cannot be read.
    pub fn of_locks<'l>(
        locks: impl Iterator<Item = &'l PgLock>,
        database: &Database,
        timeout: LimitArgs,
    ) -> Result<Self, Failure> {
        let mut nameless: BTreeMap<&String, BTreeSet<u32>> = BTreeMap::new();
        for lock in locks.filter(|lock| lock.relation.is_none()) {
            if let (Some(name), Some(oid)) = (&lock.database, lock.relation_oid) {
                nameless.entry(name).or_default().insert(oid);
            }
        }
        let mut names = HashMap::new();
        for (name, oids) in nameless {
            match relations(&database.of_name(name), &oids, timeout) {
                Ok(relations) => names.extend(
                    relations
                        .into_iter()
                        .map(|relation| ((name.clone(), relation.oid), relation)),
                ),
                Err(failure) => note(&format!("no names of database `{name}`: {failure}\n"))?,
            }
        }
        Ok(Self(names))
    }

    /// Returns the relation of a lock of another database, if it has a name.
    pub fn relation(&self, lock: &PgLock) -> Option<LockedRelation> {
        let key = (lock.database.clone()?, lock.relation_oid?);
        self.0.get(&key).cloned()
    }
}

fn relations(
    database: &Database,
    oids: &BTreeSet<u32>,
    timeout: LimitArgs,
) -> Result<Vec<LockedRelation>, Failure> {
    let mut conn = database.connect()?;
    timeout.within(&mut conn, |conn| {
        let schema = pg_namespace::table.on(pg_namespace::oid.eq(pg_class::relnamespace));
        let relations = pg_class::table
            .inner_join(schema)
            .filter(pg_class::oid.eq_any(oids.iter().copied()))
            .select(LockedRelation::as_select());
        Ok(relations.load(conn)?)
    })
}
