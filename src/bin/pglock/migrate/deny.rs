//! `--deny`: the rules by which a plan fails a check.

use std::str::FromStr;

use diesel_pglock::{
    MigrationPlan, PlannedMigration, PlannedRelation, PlannedStatement, TableLockMode,
};
use serde::Serialize;

/// A rule such as `rewrite` or `access-exclusive>1GB`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenyRule {
    text: String,
    denied: Denied,
    /// Smaller relations are allowed.
    size: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denied {
    Rewrite,
    /// An index that is built while writes are blocked.
    Index,
    /// A lock in this mode or a stronger one.
    Lock(TableLockMode),
}

/// The rules that are no modes.
pub const RULES: [&str; 2] = ["rewrite", "index"];

/// A statement that a rule denies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    rule: String,
    migration: String,
    line: usize,
    relation: String,
}

impl FromStr for DenyRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, size) = match text.split_once('>') {
            Some((name, size)) => (name, Some(parse_size(size)?)),
            None => (text, None),
        };
        let denied = match name.trim() {
            "rewrite" => Denied::Rewrite,
            "index" => Denied::Index,
            mode => Denied::Lock(mode.parse().map_err(|error| {
                format!("`{text}` is no rule; write `rewrite`, `index` or a mode, and `>1GB` to allow smaller tables: {error}")
            })?),
        };
        Ok(Self {
            text: text.to_owned(),
            denied,
            size,
        })
    }
}

/// Parses a size, in units of 1024 as the server's.
fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let (number, unit) = text.split_at(text.len() - digits.len());
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(0),
        "kb" => Some(10),
        "mb" => Some(20),
        "gb" => Some(30),
        "tb" => Some(40),
        _ => None,
    };
    let size = shift.and_then(|shift| number.parse::<u64>().ok()?.checked_mul(1 << shift));
    size.ok_or_else(|| format!("`{text}` is not a size; write it as 500MB, 1GB or 2TB"))
}

/// Returns the statements that the rules deny.
pub fn violations(plan: &MigrationPlan, rules: &[DenyRule]) -> Vec<Violation> {
    let rules = rules.iter();
    let violations = rules.flat_map(|rule| {
        let migrations = plan.migrations.iter();
        migrations.flat_map(|migration| rule.violations(migration))
    });
    violations.collect()
}

impl DenyRule {
    fn violations(&self, migration: &PlannedMigration) -> Vec<Violation> {
        let statements = migration.statements.iter().enumerate();
        let violations = statements.flat_map(|(i, statement)| {
            let until = &migration.statements[..=i];
            let denied = self.denied_relations(statement, until).into_iter();
            let denied = denied.filter(|relation| self.is_denied_size(relation));
            denied.map(|relation| Violation {
                rule: self.text.clone(),
                migration: migration.name.clone(),
                line: statement.line,
                relation: relation.to_string(),
            })
        });
        violations.collect()
    }

    fn denied_relations<'p>(
        &self,
        statement: &'p PlannedStatement,
        until: &[PlannedStatement],
    ) -> Vec<&'p PlannedRelation> {
        match self.denied {
            Denied::Rewrite => statement.rewrites.iter().collect(),
            Denied::Index => {
                let tables = statement.indexes.iter().map(|index| &index.table);
                tables.filter(|it| blocks_writes(it, until)).collect()
            }
            Denied::Lock(mode) => {
                let locks = statement.locks.iter().filter(|lock| lock.mode >= mode);
                locks.map(|lock| &lock.relation).collect()
            }
        }
    }

    /// An unknown size may be any.
    fn is_denied_size(&self, relation: &PlannedRelation) -> bool {
        let is_larger = |limit| relation.size.is_none_or(|size| size > limit);
        relation.exists && self.size.is_none_or(is_larger)
    }
}

/// Returns true if one of the statements has locked the table against writes.
fn blocks_writes(table: &PlannedRelation, statements: &[PlannedStatement]) -> bool {
    let locks = statements.iter().flat_map(|it| &it.locks);
    let mut locks = locks.filter(|lock| &lock.relation == table);
    locks.any(|lock| lock.mode.conflicts_with(TableLockMode::RowExclusive))
}

impl Violation {
    pub fn line(&self) -> String {
        let Self {
            rule,
            migration,
            line,
            relation,
        } = self;
        format!("denied by `{rule}`: {migration}, line {line}, on {relation}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_an_effect_or_a_mode_and_a_size() {
        let parsed = |text: &str| text.parse().map(|it: DenyRule| (it.denied, it.size));
        assert_eq!(parsed("rewrite"), Ok((Denied::Rewrite, None)));
        assert_eq!(parsed("index>500 MB"), Ok((Denied::Index, Some(500 << 20))));
        let exclusive = Denied::Lock(TableLockMode::AccessExclusive);
        assert_eq!(
            parsed("access-exclusive>1GB"),
            Ok((exclusive, Some(1 << 30)))
        );
        assert_eq!(parsed("ACCESS EXCLUSIVE"), Ok((exclusive, None)));
        for wrong in [
            "rewrites",
            "share>1 moon",
            "share>",
            "share>99999999999TB",
            "",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
