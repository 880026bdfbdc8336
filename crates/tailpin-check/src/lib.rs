//! Model checks the page protocols of tailpin, the futexes over them, pins by address and the
//! shootdowns of a kernel.
//!
//! The code under test is the code that ships: only its atomic word is the checker's. To see that a
//! missing safeguard is noticed, the checker gives that code an implementation of its own trait of
//! safeguards that leaves one out.

mod belief;
mod bound;
pub mod changes;
mod check;
mod engine;
mod fixture;
mod futex_fixture;
mod futex_safeguards;
mod gather;
mod lock_wait;
pub mod names;
mod page_table_fixture;
mod page_table_safeguards;
mod panics;
mod protocol_kind;
pub mod report;
mod resume;
mod runner;
pub mod safeguards;
mod scenario;
mod scenarios;
mod shootdown_fixture;
mod shootdown_safeguards;
pub mod story;
mod stress;
pub mod suite;
pub mod table;
mod tested_protocol;
mod trace;
mod word;

pub use protocol_kind::ProtocolKind;
pub use resume::Resume;
pub use runner::Counterexample;
