//! The store over the stores that object_store brings, in one program.

mod examples;
mod integration;
mod reads;
