//! A thread that sends one cancel at a time, at a random moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};

use crate::support::Chance;

/// One cancel, and the release of the lock for which the call waits.
struct Order {
    pid: i32,
    holds: bool,
    cancelled: Duration,
    released: Duration,
}

pub struct Canceller {
    orders: Sender<Order>,
    ready: Receiver<()>,
    sent: Receiver<()>,
    started: Arc<AtomicBool>,
}

impl Canceller {
    pub fn new(url: &str) -> Self {
        let (orders, received) = channel::<Order>();
        let (is_ready, ready) = channel();
        let (send, sent) = channel();
        let started = Arc::new(AtomicBool::new(false));
        let (mut conn, start) = (connect(url), started.clone());
        std::thread::spawn(move || {
            for order in received {
                if order.holds {
                    hold(&mut conn);
                }
                is_ready.send(()).expect("a caller");
                carry_out(&mut conn, &order, &start);
                send.send(()).expect("a caller");
            }
        });
        Self {
            orders,
            ready,
            sent,
            started,
        }
    }

    /// Prepares a cancel; if the call waits, the lock is held meanwhile, and released before or after
    /// the cancel.
    pub fn prepare(&self, pid: i32, holds: bool, chance: &mut Chance) {
        let order = Order {
            pid,
            holds,
            cancelled: chance.micros(if holds { 2_000 } else { 2_500 }),
            released: chance.micros(2_000),
        };
        self.orders.send(order).expect("the thread");
        self.ready.recv().expect("the thread");
    }

    /// Returns the flag that starts the time.
    pub fn started(&self) -> Arc<AtomicBool> {
        self.started.clone()
    }

    pub fn await_sent(&self) {
        self.sent.recv().expect("the cancel");
    }
}

fn connect(url: &str) -> PgConnection {
    PgConnection::establish(url).expect("a session")
}

fn carry_out(conn: &mut PgConnection, order: &Order, start: &AtomicBool) {
    // A sleep could not end at such moments.
    while !start.swap(false, Ordering::SeqCst) {
        std::hint::spin_loop();
    }
    let started = Instant::now();
    if order.holds && order.released < order.cancelled {
        spin_until(started + order.released);
        release(conn);
    }
    spin_until(started + order.cancelled);
    cancel(conn, order.pid);
    if order.holds && order.released >= order.cancelled {
        spin_until(started + order.released);
        release(conn);
    }
}

fn spin_until(moment: Instant) {
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
}

fn cancel(conn: &mut PgConnection, pid: i32) {
    execute(conn, &format!("SELECT pg_cancel_backend({pid})"));
}

/// Holds the locks that a call may wait for.
fn hold(conn: &mut PgConnection) {
    let locks = "SELECT pg_advisory_lock(1); BEGIN; LOCK TABLE users IN SHARE MODE";
    execute(conn, locks);
}

fn release(conn: &mut PgConnection) {
    execute(conn, "COMMIT; SELECT pg_advisory_unlock_all()");
}

fn execute(conn: &mut PgConnection, statement: &str) {
    conn.batch_execute(statement).expect(statement);
}
