//! Model checks the page protocols of tailpin.
//!
//! The protocols are the ones that ship: only their atomic word is the checker's, and where a
//! protective step is left out to see that its absence is noticed, that is an implementation of the
//! protocol's own step trait.

pub mod engine;
mod entry_steps;
mod entry_world;
pub mod family;
mod futex_steps;
mod futex_world;
mod lock_wait;
pub mod names;
pub mod plan;
pub mod report;
pub mod runner;
pub mod scenarios;
pub mod stress;
pub mod suite;
pub mod switches;
pub mod table;
pub mod trace;
pub mod word;
pub mod world;
