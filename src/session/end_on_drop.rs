//! A session that ends unless what was done to it is in order again.

use super::driver::Driver;

/// Ends the session when dropped before it was settled: what it was left with, a lock
/// or a setting, goes with it, and pools drop the connection.
pub(crate) struct Unsettled<'d, D: Driver> {
    driver: &'d mut D,
    settled: bool,
}

impl<'d, D: Driver> Unsettled<'d, D> {
    pub(crate) fn new(driver: &'d mut D) -> Self {
        Self::unless(false, driver)
    }

    /// Not when `settled`, because the end of the transaction will see to it.
    pub(crate) fn unless(settled: bool, driver: &'d mut D) -> Self {
        Self { driver, settled }
    }

    pub(crate) fn driver(&mut self) -> &mut D {
        self.driver
    }

    pub(crate) fn settle(mut self) {
        self.settled = true;
    }

    /// Ends the session now.
    pub(crate) async fn end(mut self) {
        self.driver.end_session().await;
        self.settled = true;
    }

    /// Only marks the connection broken: behind a pooler the session may be somebody else's.
    pub(crate) fn mark_broken(mut self) {
        self.settled = true;
        self.driver.status().set_in_error();
    }
}

impl<D: Driver> Drop for Unsettled<'_, D> {
    fn drop(&mut self) {
        if !self.settled {
            self.driver.hang_up();
        }
    }
}
