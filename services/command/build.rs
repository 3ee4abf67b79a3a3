//! Derives the versions of what the local store keeps from the code that makes it, so that nobody has to remember to raise
//! one: see src/pipeline/store/versions.rs.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// The code that decodes, folds and stores what the store keeps.
const SOURCES: [&str; 7] = [
    "../../crates/domain/src",
    "../../crates/facts/src",
    "src/answer.rs",
    "src/answer",
    "src/pipeline/store.rs",
    "src/pipeline/store",
    "src/pipeline/fold.rs",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
        collect(Path::new(source), &mut files)?;
    }
    files.sort();
    let mut parts: BTreeMap<String, Sha256> = BTreeMap::new();
    for file in files {
        let hash = parts.entry(part_of(&file)).or_default();
        // Comments, empty lines and indentation change no state.
        hash.update(file.to_string_lossy().as_bytes());
        for line in std::fs::read_to_string(&file)?.lines().map(str::trim) {
            if !line.is_empty() && !line.starts_with("//") {
                hash.update(line.as_bytes());
                hash.update(b"\n");
            }
        }
    }
    let mut code = String::from("&[");
    for (part, hash) in parts {
        write!(code, "({part:?}, {:?}), ", <[u8; 32]>::from(hash.finalize()))?;
    }
    code.push(']');
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("versions.rs"), code)?;
    Ok(())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
        files.push(path.to_owned());
    }
    Ok(())
}

/// A folder of the domain is a subject, whose state is a part of its own. The file beside it belongs to it. All other code
/// counts for the part `documents`.
fn part_of(file: &Path) -> String {
    let Ok(rest) = file.strip_prefix(SOURCES[0]) else {
        return if file.starts_with("src/answer") || file == Path::new(SOURCES[2]) { "answers" } else { "documents" }
            .into();
    };
    let first = rest.components().next().map(|first| first.as_os_str().to_string_lossy().into_owned());
    let first = first.unwrap_or_default();
    let subject = first.strip_suffix(".rs").unwrap_or(&first);
    if Path::new(SOURCES[0]).join(subject).is_dir() { subject.to_owned() } else { "documents".into() }
}
