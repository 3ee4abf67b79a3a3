//! Tables and progress for a person at a terminal.

pub mod progress;
pub mod table;
