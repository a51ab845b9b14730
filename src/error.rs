/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// PostgreSQL or Diesel refused a statement.
    #[error("the statement failed")]
    Query(#[from] diesel::result::Error),
}
