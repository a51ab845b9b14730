//! The context that programs write into the comments of their queries.

use serde_json::{Map, Value};

use super::pg_activity::PgActivity;
use crate::fmt::percent_decode;

impl PgActivity {
    /// Returns the context that the program wrote into a comment of its query.
    ///
    /// Two forms are read. django-pgactivity writes a leading comment `/*pga_context={…}*/`
    /// with JSON. [sqlcommenter][spec] writes a trailing comment `/*key='value',…*/`, whose
    /// values become the strings of an object. A query that PostgreSQL cut at
    /// `track_activity_query_size` has lost the trailing comment. Other comments are `None`.
    ///
    /// The client chose the text, so do not trust it more than the client.
    ///
    /// [spec]: https://google.github.io/sqlcommenter/spec/
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// use diesel::prelude::*;
    /// use diesel_pglock::{PgActivity, schema::pg_stat_activity};
    ///
    /// # fn main() -> QueryResult<()> {
    /// # let conn = &mut connection();
    /// # let own = diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>("pg_backend_pid()")).get_result::<i32>(conn)?;
    /// # let mut worker = connection();
    /// # let pid = diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>("pg_backend_pid()")).get_result::<i32>(&mut worker)?;
    /// diesel::sql_query("SELECT 1 /*job='nightly%20import',attempt='2'*/").execute(&mut worker)?;
    ///
    /// let worker: PgActivity = PgActivity::query()
    ///     .filter(pg_stat_activity::pid.eq(pid))
    ///     .first(conn)?;
    /// let context = worker.context().unwrap();
    /// assert_eq!(context["job"], "nightly import");
    /// assert_eq!(context["attempt"], "2");
    /// # Ok(())
    /// # }
    /// ```
    pub fn context(&self) -> Option<Value> {
        let query = self.query.as_deref()?;
        pga_context(query).or_else(|| sqlcommenter(query))
    }
}

/// Reads a leading `/*pga_context={…}*/`.
///
/// django-pgactivity does not escape `*/` within the JSON. PostgreSQL refuses such a query,
/// so the first `*/` always ends the comment.
fn pga_context(query: &str) -> Option<Value> {
    let comment = query.trim_start().strip_prefix("/*pga_context=")?;
    let (json, _) = comment.split_once("*/")?;
    serde_json::from_str(json).ok()
}

/// Reads a trailing `/*key='value',key='value'*/`.
fn sqlcommenter(query: &str) -> Option<Value> {
    let query = query.trim_end().trim_end_matches(';').trim_end();
    let (_, comment) = query.strip_suffix("*/")?.rsplit_once("/*")?;
    let mut object = Map::new();
    // A comma within a value is encoded as %2C.
    for pair in comment.split(',') {
        let (key, value) = pair.split_once('=')?;
        let value = value.trim().strip_prefix('\'')?.strip_suffix('\'')?;
        let value = percent_decode(&value.replace("\\'", "'"));
        object.insert(percent_decode(key.trim()), Value::String(value));
    }
    Some(Value::Object(object))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{pga_context, sqlcommenter};

    fn context(query: &str) -> Option<Value> {
        pga_context(query).or_else(|| sqlcommenter(query))
    }

    #[test]
    fn the_leading_comment_of_django_pgactivity_is_json() {
        let query = r#"/*pga_context={"url": "/a?b='c'", "user": 7}*/ SELECT 1"#;
        assert_eq!(context(query), Some(json!({"url": "/a?b='c'", "user": 7})));
        assert_eq!(context(" \n/*pga_context={}*/SELECT"), Some(json!({})));
    }

    #[test]
    fn the_trailing_comment_of_sqlcommenter_is_decoded() {
        let query =
            r"SELECT * FROM a /*action='%2Fparam*d',controller='index,'framework='spring'*/";
        assert_eq!(context(query), None);
        let query = r"SELECT 1 /*route='%2Fpolls%201000',traceparent='00-5bd6-01',name='O\'Brien',x='%C3%A4'*/ ; ";
        let expected = json!({
            "route": "/polls 1000", "traceparent": "00-5bd6-01", "name": "O'Brien", "x": "ä",
        });
        assert_eq!(context(query), Some(expected));
    }

    #[test]
    fn other_comments_are_ignored() {
        for query in [
            "",
            "SELECT 1",
            "/* pga_context */ SELECT 1",
            "SELECT 1 /* nightly */",
            "SELECT 1 /*a=b*/",
            "SELECT 1 /**/",
            "SELECT '*/'",
            "/*pga_context={\"cut\": \"sho",
            "/*pga_context=nonsense*/ SELECT 1",
        ] {
            assert_eq!(context(query), None, "{query}");
        }
    }

    #[test]
    fn no_text_causes_a_panic() {
        let pieces = [
            "/*",
            "*/",
            "pga_context=",
            "{",
            "}",
            "\"",
            "'",
            "\\",
            "%",
            "%C",
            "%zz",
            "%F0",
            "ä",
            ",",
            "=",
            ";",
            "\0",
            "🦀",
            "/*pga_context=",
            "a='",
            "[[[[",
        ];
        // Tests every sequence of four pieces.
        let count = pieces.len();
        for n in 0..count.pow(4) {
            let at = |power: u32| pieces[n / count.pow(power) % count];
            let query = [at(0), at(1), at(2), at(3)].concat();
            let _ = context(&query);
        }
        let deep = format!("/*pga_context={}*/", "[".repeat(100_000));
        assert_eq!(context(&deep), None);
    }
}
