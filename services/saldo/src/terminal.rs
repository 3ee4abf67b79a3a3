//! What a person at a terminal sees: tables and progress.

pub mod progress;
pub mod table;
