//! `--spare field~value`: the sessions that are never signalled.

use std::str::FromStr;

use diesel_pglock::{PgActivity, PgLock};

use crate::list::{Filter, Row};

/// A condition on a session, with the fields of `--filter` that belong to sessions.
#[derive(Clone, Debug)]
pub struct Spare(Filter);

impl FromStr for Spare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let filter: Filter = text.parse().map_err(|error| format!("{error}"))?;
        let name = filter.field.name;
        if name == "pid" || name.starts_with("activity.") {
            return Ok(Self(filter));
        }
        Err(format!(
            "`{name}` is no field of a session; those are `pid` and the fields from `activity.application` on"
        ))
    }
}

impl Spare {
    pub fn selects(&self, activity: &PgActivity) -> bool {
        let mut lock = PgLock::default();
        lock.pid = Some(activity.pid);
        lock.activity = Some(activity.clone());
        self.0.matches(&Row::from(lock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(spare: &str) -> bool {
        let mut activity = PgActivity::default();
        activity.pid = 7;
        activity.application_name = Some("billing job".to_owned());
        spare.parse::<Spare>().unwrap().selects(&activity)
    }

    #[test]
    fn a_session_is_selected_by_the_fields_of_sessions() {
        assert!(selects("activity.application~BILL"));
        assert!(selects("pid=7") && !selects("pid=8"));
        assert!(!selects("activity.user=billing"));
    }

    #[test]
    fn a_field_of_a_lock_is_refused() {
        let error = "relation=users".parse::<Spare>().unwrap_err();
        assert!(
            error.contains("`relation` is no field of a session"),
            "{error}"
        );
        assert!("mode".parse::<Spare>().is_err());
    }
}
