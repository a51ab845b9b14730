//! The description of a locked object in words.

use std::fmt;

use super::pg_lock::PgLock;
use crate::types::LockType;

/// The description of a locked object, as `Display`: the result of [`PgLock::target`].
#[derive(Clone, Copy, Debug)]
pub struct LockTarget<'a>(&'a PgLock);

impl PgLock {
    /// Describes the locked object.
    ///
    /// For example `relation public.users`, `row (0,1) of public.users`, `transaction 731`,
    /// `advisory lock 42`, `schema public`, or in a [`WaitGraph`](crate::WaitGraph)
    /// `transaction 731, row (0,1) of public.users`. Names of relations are shown only for this database and for
    /// shared catalogs; elsewhere their `oid` is shown.
    pub fn target(&self) -> LockTarget<'_> {
        LockTarget(self)
    }
}

impl LockTarget<'_> {
    fn relation(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.relation, self.0.relation_oid, &self.0.database) {
            (Some(relation), _, _) => write!(f, "{relation}"),
            (None, Some(oid), Some(database)) => write!(f, "{oid} in database {database}"),
            (None, Some(oid), None) => write!(f, "{oid}"),
            (None, None, _) => f.write_str("unknown"),
        }
    }

    fn within(&self, part: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{part} of ")?;
        self.relation(f)
    }

    /// Writes the transaction, and the row for which the session waits if it is known.
    fn transaction(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lock = self.0;
        write!(f, "transaction {}", lock.transaction_id.unwrap_or_default())?;
        if lock.relation_oid.is_none() {
            return Ok(());
        }
        f.write_str(", ")?;
        match (lock.page, lock.tuple) {
            (Some(page), Some(tuple)) => self.within(&format!("row ({page},{tuple})"), f)?,
            _ => self.within("a row", f)?,
        }
        Ok(())
    }

    fn advisory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.advisory_key {
            Some(key) => write!(f, "advisory lock {key}"),
            None => f.write_str("advisory lock"),
        }
    }

    fn user_lock(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (class, object) = (self.0.class_id, self.0.object_id);
        let (class, object) = (class.unwrap_or_default(), object.unwrap_or_default());
        write!(f, "user lock {class}, {object}")
    }

    fn frozen_ids(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the frozen transaction ids of database ")?;
        match &self.0.database {
            Some(database) => f.write_str(database),
            None => write!(f, "{}", self.0.database_oid.unwrap_or_default()),
        }
    }

    fn object(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.0.object {
            return f.write_str(object);
        }
        let (class, object) = (self.0.class_id, self.0.object_id);
        write!(
            f,
            "object {} of catalog {}",
            object.unwrap_or_default(),
            class.unwrap_or_default()
        )
    }
}

impl fmt::Display for LockTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lock = self.0;
        let page = lock.page.unwrap_or_default();
        match &lock.lock_type {
            LockType::Relation => {
                f.write_str("relation ")?;
                self.relation(f)
            }
            LockType::Extend => self.within("the end", f),
            LockType::Page => self.within(&format!("page {page}"), f),
            LockType::Tuple => {
                let tuple = lock.tuple.unwrap_or_default();
                self.within(&format!("row ({page},{tuple})"), f)
            }
            LockType::TransactionId => self.transaction(f),
            LockType::SpecToken => {
                // Older servers have it in the column of the database.
                let transaction = lock.transaction_id.or(lock.database_oid);
                let transaction = transaction.unwrap_or_default();
                write!(f, "speculative insertion of transaction {transaction}")
            }
            LockType::ApplyTransaction => {
                let transaction = lock.transaction_id.unwrap_or_default();
                let subscription = lock.object_id.unwrap_or_default();
                write!(
                    f,
                    "transaction {transaction}, applied by subscription {subscription}"
                )
            }
            LockType::VirtualXid => {
                let virtual_xid = lock.virtual_xid.as_deref().unwrap_or_default();
                write!(f, "virtual transaction {virtual_xid}")
            }
            LockType::Advisory => self.advisory(f),
            LockType::Object => self.object(f),
            LockType::UserLock => self.user_lock(f),
            LockType::FrozenId => self.frozen_ids(f),
            other => write!(f, "{other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RelationKind;
    use crate::views::LockedRelation;

    fn lock(lock_type: LockType) -> PgLock {
        PgLock {
            lock_type,
            ..PgLock::default()
        }
    }

    fn on_users(lock_type: LockType) -> PgLock {
        let users = LockedRelation {
            oid: 7,
            schema: "public".to_owned(),
            name: "users".to_owned(),
            kind: RelationKind::Table,
        };
        PgLock {
            relation: Some(users),
            page: Some(3),
            tuple: Some(4),
            ..lock(lock_type)
        }
    }

    /// The columns that `pg_locks` fills for each type, and their meaning.
    #[test]
    fn a_lock_is_described_by_the_columns_of_its_type() {
        let shown = [
            (on_users(LockType::Relation), "relation public.users"),
            (on_users(LockType::Extend), "the end of public.users"),
            (on_users(LockType::Page), "page 3 of public.users"),
            (on_users(LockType::Tuple), "row (3,4) of public.users"),
            (
                PgLock {
                    database_oid: Some(731),
                    class_id: Some(1),
                    ..lock(LockType::SpecToken)
                },
                "speculative insertion of transaction 731",
            ),
            (
                PgLock {
                    transaction_id: Some(731),
                    object_id: Some(1),
                    ..lock(LockType::SpecToken)
                },
                "speculative insertion of transaction 731",
            ),
            (
                PgLock {
                    database_oid: Some(5),
                    transaction_id: Some(731),
                    object_id: Some(16400),
                    ..lock(LockType::ApplyTransaction)
                },
                "transaction 731, applied by subscription 16400",
            ),
            (
                PgLock {
                    virtual_xid: Some("3/42".to_owned()),
                    ..lock(LockType::VirtualXid)
                },
                "virtual transaction 3/42",
            ),
            (
                PgLock {
                    database: Some("shop".to_owned()),
                    database_oid: Some(5),
                    ..lock(LockType::FrozenId)
                },
                "the frozen transaction ids of database shop",
            ),
            (
                PgLock {
                    class_id: Some(8),
                    object_id: Some(9),
                    ..lock(LockType::UserLock)
                },
                "user lock 8, 9",
            ),
            (
                PgLock {
                    class_id: Some(2615),
                    object_id: Some(2200),
                    ..lock(LockType::Object)
                },
                "object 2200 of catalog 2615",
            ),
        ];
        for (lock, expected) in shown {
            assert_eq!(lock.target().to_string(), expected);
        }
    }
}
