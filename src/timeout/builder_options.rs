//! The options that the builders of locks have in common.

/// Gives a builder `nowait`, `timeout` and `Debug`; `$target` is its field that says what is
/// locked, `$nowait` what `nowait` is called in SQL.
macro_rules! lock_options {
    ($Lock:ident, $target:ident, $nowait:literal) => {
        impl<C> $Lock<'_, C> {
            /// Does not wait at all.
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
        impl<C> std::fmt::Debug for $Lock<'_, C> {
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
    ($Lock:ident, $nowait:literal, $shared:literal) => {
        $crate::timeout::lock_options!($Lock, target, $nowait);

        impl<C> $Lock<'_, C> {
            /// Shares the lock with others who ask for it shared.
            #[doc(alias = $shared)]
            pub fn shared(mut self) -> Self {
                self.target.shared = true;
                self
            }
        }
    };
}

pub(crate) use {advisory_lock_options, lock_options};
