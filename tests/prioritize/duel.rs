//! Two prioritized runs against each other.

use super::*;

/// One of the two sessions, which locks two tables in its own order again and again.
struct Duellist {
    prioritizer: Prioritizer<String>,
    chance: Chance,
}

/// What a duellist has met.
#[derive(Default)]
struct Met {
    deadlocks: usize,
    other: usize,
    victims: usize,
}

impl Duellist {
    fn new(db: &Database, chance: Chance) -> Self {
        Self {
            prioritizer: at_once(db),
            chance,
        }
    }

    /// Locks the tables once, in as many attempts as this takes. Returns what it has met.
    fn run(mut self, other: i32, conn: &mut PgConnection) -> Met {
        let mut met = Met::default();
        loop {
            let statements = self.statements();
            let ran = conn.prioritize(&self.prioritizer, |conn| conn.batch_execute(&statements));
            met.note(&self.prioritizer.report(), other);
            if ran.is_ok() {
                return met;
            }
            // A session that the other one has terminated could not go on.
            conn.batch_execute("ROLLBACK").expect("it lives");
            met.deadlocks += 1;
            assert!(met.deadlocks < 100, "it comes to an end");
        }
    }

    fn statements(&mut self) -> String {
        let (first, second) = match self.chance.once_in(2) {
            true => ("users", "posts"),
            false => ("posts", "users"),
        };
        let mut pause = || self.chance.below(40) as f64 / 1000.0;
        let (between, at_end) = (pause(), pause());
        format!(
            "BEGIN; LOCK TABLE {first}; SELECT pg_sleep({between});
             LOCK TABLE {second}; SELECT pg_sleep({at_end}); COMMIT"
        )
    }
}

impl Met {
    fn note(&mut self, report: &PrioritizerReport, other: i32) {
        assert!(report.errors.is_empty(), "{report}");
        let by_other = report.blockers.iter().filter(|it| it.pid == Some(other));
        self.other += by_other.clone().count();
        assert!(by_other.clone().all(|it| !it.is_victim()), "{report}");
        self.victims += report.victims().count();
    }
}

#[test]
fn two_prioritized_runs_never_terminate_each_other_and_both_end() {
    let rounds = std::env::var("PGLOCK_DUEL_ROUNDS").ok();
    let rounds: usize = rounds.and_then(|it| it.parse().ok()).unwrap_or(6);
    let (db, mut chance) = (Database::new(), Chance(seed("PGLOCK_SEED")));
    let mut total = Met::default();
    for _ in 0..rounds {
        // A session between them, which both may terminate.
        let mut bystander = db.running("BEGIN; SELECT * FROM users, posts");
        let connect = || {
            let mut conn = db.running("SET deadlock_timeout = '30ms'");
            (pid(&mut conn), conn)
        };
        let ((one, mut first), (two, mut second)) = (connect(), connect());
        let duellist = |chance: &mut Chance| Duellist::new(&db, Chance(chance.next()));
        let (left, right) = (duellist(&mut chance), duellist(&mut chance));
        let met = thread::scope(|scope| {
            let left = scope.spawn(|| left.run(two, &mut first));
            let right = scope.spawn(|| right.run(one, &mut second));
            [left.join().unwrap(), right.join().unwrap()]
        });
        let _ = bystander.batch_execute("COMMIT");
        for met in met {
            total.deadlocks += met.deadlocks;
            total.other += met.other;
            total.victims += met.victims;
        }
    }
    let Met {
        deadlocks,
        other,
        victims,
    } = total;
    let line = format!(
        "{rounds} duels: the other blocked {other} runs, {deadlocks} deadlocks were tried again, \
         {victims} signals to bystanders, none to each other"
    );
    let _ = writeln!(std::io::stderr(), "{line}");
    assert!(other > 0, "they blocked each other");
}
