//! The steps of the soak, as values.

use std::time::Duration;

use diesel_pglock::AdvisoryKey;

use crate::support::Chance;

/// The number of keys, and of pairs of accounts.
pub const KEYS: u64 = 8;

/// One use of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub around: Around,
    pub outer: Lock,
    pub inner: Option<Lock>,
    pub work: Work,
    /// The pair of accounts for the transfers.
    pub pair: i32,
    /// The time after which an async call is dropped.
    pub dropped_after: Option<Duration>,
    /// The time after which an inner async transaction is dropped.
    pub abandoned_after: Duration,
}

/// The scope in which the locks are taken.
#[derive(Clone, Copy, Debug)]
pub enum Around {
    Nothing,
    Transaction,
    LockTimeout(Duration),
    StatementTimeout(Duration),
}

/// A lock, and how long the call waits for it.
#[derive(Clone, Copy, Debug)]
pub struct Lock {
    pub kind: Kind,
    pub key: i32,
    pub shared: bool,
    pub wait: Wait,
}

/// A kind of lock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Session,
    Guard,
    Transaction,
    Table,
    Monitored,
}

/// The limit of a wait.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    Endless,
    Try,
    AtOnce,
    Timeout(Duration),
    Polling(Duration),
}

/// What happens under the locks.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Transfers between the two accounts of a pair.
    Transfer,
    /// Abandons a transfer halfway, and reports success.
    Abandon,
    Fail,
    Panic,
}

impl Step {
    pub fn new(chance: &mut Chance) -> Self {
        let outer = Lock::new(chance, true);
        // A monitored lock is refused inside a transaction.
        let around = match outer.kind {
            Kind::Monitored => Around::Nothing,
            _ => Around::new(chance),
        };
        Self {
            around,
            outer,
            inner: chance.once_in(3).then(|| Lock::new(chance, false)),
            work: Work::new(chance),
            pair: chance.below(KEYS) as i32,
            dropped_after: chance.once_in(8).then(|| chance.micros(6_000)),
            abandoned_after: chance.micros(3_000),
        }
    }

    /// Returns `true` if the step runs in a transaction of Diesel's, without a level of ours around
    /// the calls.
    pub fn is_in_transaction(&self) -> bool {
        matches!(self.around, Around::Transaction)
    }

    /// Returns `true` if the innermost lock has a level of its own, which rolls abandoned work back.
    pub fn has_level(&self, in_transaction: bool) -> bool {
        match self.inner.unwrap_or(self.outer).kind {
            Kind::Session | Kind::Monitored => true,
            Kind::Guard => false,
            Kind::Transaction | Kind::Table => !in_transaction,
        }
    }
}

impl Around {
    fn new(chance: &mut Chance) -> Self {
        match chance.below(10) {
            0..4 => Self::Nothing,
            4..7 => Self::Transaction,
            7 => Self::LockTimeout(Duration::from_millis(1 + chance.below(10))),
            _ => Self::StatementTimeout(Duration::from_millis(1 + chance.below(5))),
        }
    }
}

impl Lock {
    fn new(chance: &mut Chance, outermost: bool) -> Self {
        let kind = match chance.below(if outermost { 25 } else { 24 }) {
            0..10 => Kind::Session,
            10..14 => Kind::Guard,
            14..19 => Kind::Transaction,
            19..24 => Kind::Table,
            _ => Kind::Monitored,
        };
        Self {
            kind,
            key: chance.below(KEYS) as i32,
            // Tokens rise under exclusive locks.
            shared: kind != Kind::Monitored && chance.once_in(4),
            wait: Wait::new(chance),
        }
    }

    pub fn key(&self) -> AdvisoryKey {
        AdvisoryKey::pair(7, self.key)
    }
}

impl Wait {
    fn new(chance: &mut Chance) -> Self {
        let limit = Duration::from_millis(1 + chance.below(20));
        match chance.below(5) {
            0 => Self::Endless,
            1 => Self::Try,
            2 => Self::AtOnce,
            3 => Self::Timeout(limit),
            _ => Self::Polling(limit),
        }
    }

    /// Returns `true` for a call that answers instead of failing.
    pub fn is_try(self) -> bool {
        matches!(self, Self::Try)
    }
}

impl Work {
    fn new(chance: &mut Chance) -> Self {
        match chance.below(10) {
            0..5 => Self::Transfer,
            5..8 => Self::Abandon,
            8 => Self::Fail,
            _ => Self::Panic,
        }
    }
}
