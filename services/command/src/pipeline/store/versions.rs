//! The version of each part that the store keeps.
//!
//! A stored part is the fold of commits by one release's code. Another release may fold to other values, or keep them in
//! another shape. So the version of a part is the SHA-256 of the code that it stands on, which the build script takes: the
//! subject's folder in the domain for the state of a subject, and all other code that folds, decodes and stores for the
//! documents. Comments do not count. A store that has a part of another version is emptied and read anew from the log. That
//! costs a start some minutes on a large log, and can never decide on a state that this release would not have folded.

/// Each part and its version.
pub const VERSIONS: &[(&str, [u8; 32])] = include!(concat!(env!("OUT_DIR"), "/versions.rs"));
