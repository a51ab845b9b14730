//! Cancels and terminations at random moments.

use std::sync::atomic::{AtomicBool, Ordering};

use diesel::prelude::*;

use super::world::World;
use crate::support::{Chance, number};

/// Signals sessions of the soak until `done`; most signals are cancels.
pub fn disturb(world: &World, chance: &mut Chance, done: &AtomicBool) {
    let mut conn = world.observer();
    while !done.load(Ordering::SeqCst) {
        std::thread::sleep(chance.micros(3_000));
        let (name, function) = match chance.once_in(25) {
            true => ("terminations", "pg_terminate_backend"),
            false => ("cancels", "pg_cancel_backend"),
        };
        let sent = diesel::select(number(&signal(function, chance))).get_result::<i64>(&mut conn);
        if sent.expect("a signal") > 0 {
            world.journal.count(name);
        }
    }
}

/// Returns the statement that signals one session; it prefers one that runs a statement.
fn signal(function: &str, chance: &mut Chance) -> String {
    format!(
        "SELECT count({function}(pid)) FROM (
            SELECT pid FROM pg_stat_activity
            WHERE usename LIKE 'soak%' AND backend_type = 'client backend'
            ORDER BY state <> 'active', hashint4(pid # {salt}) LIMIT 1
        ) AS session",
        salt = chance.below(1 << 30)
    )
}
