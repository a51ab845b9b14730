//! A session that ends unless its state is known to be in order.

use super::driver::Driver;

/// Ends the session when it is dropped while armed.
///
/// A lock or a setting that the session was left with goes with it, and pools drop the
/// connection.
pub(crate) struct EndSessionOnDrop<'d, D: Driver> {
    driver: &'d mut D,
    armed: bool,
}

impl<'d, D: Driver> EndSessionOnDrop<'d, D> {
    /// Arms the guard.
    pub(crate) fn new(driver: &'d mut D) -> Self {
        Self::armed_if(true, driver)
    }

    /// Arms the guard if `armed`; else the end of the transaction restores the session.
    pub(crate) fn armed_if(armed: bool, driver: &'d mut D) -> Self {
        Self { driver, armed }
    }

    /// Returns the driver of the session.
    pub(crate) fn driver(&mut self) -> &mut D {
        self.driver
    }

    /// Leaves the session alone.
    pub(crate) fn disarm(mut self) {
        self.armed = false;
    }

    /// Ends the session now.
    pub(crate) async fn end(mut self) {
        self.driver.end_session().await;
        self.armed = false;
    }

    /// Marks the connection broken; behind a pooler the session may belong to another client.
    pub(crate) fn mark_broken(mut self) {
        self.armed = false;
        self.driver.status().set_in_error();
    }
}

impl<D: Driver> Drop for EndSessionOnDrop<'_, D> {
    fn drop(&mut self) {
        if self.armed {
            self.driver.terminate_without_waiting();
        }
    }
}
