//! The options that the builders of locks have in common.

/// Gives a builder `nowait`, `timeout` and `Debug`; `$target` is its field that says what is
/// locked, `$nowait` what `nowait` is called in SQL.
macro_rules! lock_options {
    ($Lock:ident<$($arg:tt),+>, $target:ident, $nowait:literal) => {
        impl<C> $Lock<$($arg),+> {
            /// Does not wait at all.
            ///
            /// A refused `acquire` or `run` reads `pg_locks` for the holders that its error names,
            /// which costs more the more locks the server has; a refused `try_acquire` or
            /// `try_run` does not.
            #[doc(alias = $nowait)]
            pub fn nowait(mut self) -> Self {
                self.wait = $crate::timeout::WaitOption::NoWait;
                self
            }

            /// Waits no longer than `timeout` in all, 1 ms to `i32::MAX` ms (24.8 days),
            /// rounded up to a millisecond.
            ///
            /// A free lock costs no more round trips with a timeout than without.
            #[doc(alias = "lock_timeout")]
            pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
                self.wait = $crate::timeout::WaitOption::Timeout(timeout);
                self
            }
        }

        /// Connections need not be `Debug`.
        impl<C> std::fmt::Debug for $Lock<$($arg),+> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($Lock))
                    .field(stringify!($target), &self.$target)
                    .field("wait", &self.wait)
                    .finish_non_exhaustive()
            }
        }
    };
}

/// Gives a builder of advisory locks its options; `$shared` is what `shared` is called in SQL.
macro_rules! advisory_lock_options {
    ($Lock:ident<$($arg:tt),+>, $nowait:literal, $shared:literal) => {
        $crate::timeout::lock_options!($Lock<$($arg),+>, target, $nowait);

        impl<C> $Lock<$($arg),+> {
            /// Shares the lock with other sessions that ask for it shared.
            ///
            /// Two sessions that hold it shared and both ask for it exclusively deadlock.
            #[doc(alias = $shared)]
            pub fn shared(mut self) -> Self {
                self.target.shared = true;
                self
            }

            /// Waits by polling, about ten times a second, instead of inside the server.
            ///
            /// A session that waits inside the server holds a snapshot all the while: `VACUUM` keeps
            /// the rows that it may see, and `CREATE INDEX CONCURRENTLY` waits for it. A polling
            /// session holds none between its polls. The price is fairness: a polling session
            /// has no place in the queue, and sessions that wait inside the server overtake it. The
            /// session's `lock_timeout` does not count; [`timeout`](Self::timeout) does.
            pub fn polling(mut self) -> Self {
                self.target.polling = true;
                self
            }

            /// Acquires the lock on a hot standby too.
            ///
            /// It excludes the sessions of this standby alone, and none of the primary or of other
            /// standbys; without this option a standby is an
            /// [`Error::InRecovery`](crate::Error::InRecovery).
            #[doc(alias = "pg_is_in_recovery")]
            pub fn on_standby(mut self) -> Self {
                self.target.on_standby = true;
                self
            }
        }
    };
}

pub(crate) use {advisory_lock_options, lock_options};
