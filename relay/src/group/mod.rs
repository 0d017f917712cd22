//! The rules of a consumer group, pure: who gets which partition ([`assign`]), what a member does next
//! ([`decide`]), how long it may send without word from ZooKeeper ([`Lease`]), and how far a partition is
//! ([`Tracker`]).

mod assign;
mod lease;
mod member;
mod tracker;

pub use assign::assign;
pub use lease::Lease;
pub use member::{Intent, Seen, decide};
pub use tracker::{Point, Tracker};
