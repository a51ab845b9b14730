//! PostgreSQL's words as Rust types: keys, modes, kinds and states. No SQL.

mod advisory_key;
mod backend_state;
mod decode;
mod key_names;
mod lock_mode;
mod lock_type;
mod lockable_table;
mod relation_kind;
mod table_lock_mode;
mod text_enum;

pub use advisory_key::AdvisoryKey;
pub(crate) use advisory_key::Repr;
pub use backend_state::BackendState;
pub(crate) use decode::{ClientAddress, LossyText};
pub use lock_mode::LockMode;
pub use lock_type::LockType;
pub use lockable_table::LockableTable;
pub use relation_kind::RelationKind;
pub use table_lock_mode::{ParseTableLockModeError, TableLockMode};
