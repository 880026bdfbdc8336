//! The store over the stores that object_store brings, in one program.

mod integration;
mod reads;
