//! The calls of a step, on a connection of any kind.
//!
//! The body is a macro because no function can be generic over sync and async connections.

/// Defines `take_step` for a type of connection: `$wait` is `.await` or nothing.
macro_rules! calls {
    ([$($async:tt)?] [$($wait:tt)*] $Handle:ty) => {
        /// Takes a step: `true` if its work was done.
        pub $($async)? fn take_step(
            conn: &mut $Handle,
            step: Step,
            world: &World,
        ) -> Result<bool, Error> {
            match step.around {
                Around::Nothing => outer(conn, step, world, false) $($wait)*,
                Around::Transaction => {
                    let call = $($async)? |conn: &mut $Handle| outer(conn, step, world, true) $($wait)*;
                    conn.transaction(call) $($wait)*
                }
                Around::LockTimeout(limit) => {
                    let call = $($async)? |conn: &mut $Handle| outer(conn, step, world, false) $($wait)*;
                    conn.with_lock_timeout(limit, call) $($wait)*
                }
                Around::StatementTimeout(limit) => {
                    let call = $($async)? |conn: &mut $Handle| outer(conn, step, world, false) $($wait)*;
                    conn.with_statement_timeout(limit, call) $($wait)*
                }
            }
        }

        $($async)? fn outer(
            conn: &mut $Handle,
            step: Step,
            world: &World,
            in_transaction: bool,
        ) -> Result<bool, Error> {
            let lock = step.outer;
            if let Kind::Monitored = lock.kind {
                let under = $($async)? |conn: &mut $Handle, held: &Held| {
                    store(conn, lock, held.token()) $($wait)* ?;
                    world.journal.count("tokens");
                    inner(conn, step, world, in_transaction) $($wait)*
                };
                let lock = with_options!(conn.advisory(lock.key()), lock);
                return lock.monitored(&world.monitor).run(under) $($wait)*;
            }
            let opens = matches!(lock.kind, Kind::Transaction | Kind::Table);
            let under = $($async)? |conn: &mut $Handle| {
                inner(conn, step, world, in_transaction || opens) $($wait)*
            };
            under_lock!([$($wait)*] conn, lock, in_transaction, under)
        }

        $($async)? fn inner(
            conn: &mut $Handle,
            step: Step,
            world: &World,
            in_transaction: bool,
        ) -> Result<bool, Error> {
            world.journal.count(format!("held: {:?}", step.outer.kind));
            let Some(lock) = step.inner else {
                return work(conn, step, step.has_level(step.is_in_transaction())) $($wait)*;
            };
            let under = $($async)? |conn: &mut $Handle| {
                world.journal.count(format!("held inside another: {:?}", lock.kind));
                work(conn, step, step.has_level(in_transaction)) $($wait)*
            };
            under_lock!([$($wait)*] conn, lock, in_transaction, under)
        }

        $($async)? fn work(conn: &mut $Handle, step: Step, has_level: bool) -> Result<bool, Error> {
            match step.work {
                Work::Abandon if has_level => abandon(conn, step) $($wait)* ?,
                Work::Transfer | Work::Abandon => transfer(conn, step) $($wait)* ?,
                Work::Fail => conn.batch_execute("SELECT 1/0") $($wait)* ?,
                Work::Panic => resume_unwind(Box::new("on purpose")), // without a message
            }
            Ok(true)
        }

        /// Stores a token under its lock; the sequence of the table orders the tokens.
        $($async)? fn store(conn: &mut $Handle, lock: Lock, token: FencingToken) -> Result<(), Error> {
            let key = lock.key;
            let store = format!("INSERT INTO tokens (key, token) VALUES ({key}, '{token}')");
            Ok(conn.batch_execute(&store) $($wait)* ?)
        }

        $($async)? fn withdraw(conn: &mut $Handle, step: Step) -> Result<(), Error> {
            let from = 2 * step.pair;
            let update = format!("UPDATE accounts SET balance = balance - 100 WHERE id = {from}");
            Ok(conn.batch_execute(&update) $($wait)* ?)
        }

        $($async)? fn deposit(conn: &mut $Handle, step: Step) -> Result<(), Error> {
            let to = 2 * step.pair + 1;
            let update = format!("UPDATE accounts SET balance = balance + 100 WHERE id = {to}");
            Ok(conn.batch_execute(&update) $($wait)* ?)
        }

        $($async)? fn transfer(conn: &mut $Handle, step: Step) -> Result<(), Error> {
            conn.transaction($($async)? |conn: &mut $Handle| {
                withdraw(conn, step) $($wait)* ?;
                deposit(conn, step) $($wait)*
            }) $($wait)*
        }
    };
}

macro_rules! with_options {
    ($lock:expr, $options:expr) => {{
        let lock = $lock;
        let lock = match $options.shared {
            true => lock.shared(),
            false => lock,
        };
        match $options.wait {
            Wait::Endless | Wait::Try => lock,
            Wait::AtOnce => lock.nowait(),
            Wait::Timeout(limit) => lock.timeout(limit),
            Wait::Polling(limit) => lock.polling().timeout(limit),
        }
    }};
}

/// Runs `$under` under a lock; `false` if the lock was refused to a try.
macro_rules! under_lock {
    ([$($wait:tt)*] $conn:ident, $lock:ident, $in_transaction:ident, $under:ident) => {
        match $lock.kind {
            Kind::Session | Kind::Monitored => {
                let lock = with_options!($conn.advisory($lock.key()), $lock);
                run!([$($wait)*] lock, $lock, $under)
            }
            Kind::Guard => under_guard!([$($wait)*] $conn, $lock, $under),
            Kind::Transaction => {
                let lock = with_options!($conn.advisory($lock.key()).xact(), $lock);
                if $in_transaction {
                    acquire!([$($wait)*] lock, $conn, $lock, $under)
                } else {
                    run!([$($wait)*] lock, $lock, $under)
                }
            }
            Kind::Table => {
                let mode = if $lock.shared { Share } else { AccessExclusive };
                let lock = $conn.lock_table::<ledger::table>(mode);
                let lock = match $lock.wait {
                    Wait::Endless | Wait::Try => lock,
                    Wait::AtOnce => lock.nowait(),
                    Wait::Timeout(limit) | Wait::Polling(limit) => lock.timeout(limit),
                };
                if $in_transaction {
                    acquire!([$($wait)*] lock, $conn, $lock, $under)
                } else {
                    run!([$($wait)*] lock, $lock, $under)
                }
            }
        }
    };
}

macro_rules! run {
    ([$($wait:tt)*] $builder:ident, $lock:ident, $under:ident) => {
        if $lock.wait.is_try() {
            $builder.try_run($under) $($wait)* .map(|ran| ran.unwrap_or(false))
        } else {
            $builder.run($under) $($wait)*
        }
    };
}

macro_rules! acquire {
    ([$($wait:tt)*] $builder:ident, $conn:ident, $lock:ident, $under:ident) => {
        if $lock.wait.is_try() {
            match $builder.try_acquire() $($wait)* ? {
                true => $under($conn) $($wait)*,
                false => Ok(false),
            }
        } else {
            $builder.acquire() $($wait)* ?;
            $under($conn) $($wait)*
        }
    };
}

pub(super) use {acquire, calls, run, under_lock, with_options};
