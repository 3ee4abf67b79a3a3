//! The version of each part that the store keeps.
//!
//! A stored part is the fold of commits by one release's code. Another release may fold to other values, or keep them in
//! another shape. So the version of a part is the SHA-256 of the code that it stands on. The build script takes it, without
//! comments, over these files. A subject's folder of the domain counts for that subject's state, and the command service's
//! answers for the answers. All other code that decodes, folds and stores counts for the documents.
//!
//! A store that has a part of another version is emptied and read anew from the log. After an upgrade this may cost a start
//! some minutes on a large log. In return no decision rests on a state that this release would fold otherwise.

/// Each part and its version.
pub const VERSIONS: &[(&str, [u8; 32])] = include!(concat!(env!("OUT_DIR"), "/versions.rs"));
