//! Parts that several works share: sessions that hold and wait, and lists written by hand.

mod by_hand;
mod cpu;
mod crowd;
mod holders;

pub use by_hand::{BlockRow, LockRow, blocks_by_hand, locks_by_hand};
pub use cpu::cpu_seconds;
pub use crowd::Crowd;
pub use holders::hold_locks;
