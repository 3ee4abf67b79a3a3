//! The folder of a policy: `policy.toml` and `templates/NAME.LANGUAGE.toml`.

use std::path::Path;

use saldo_api::v1;
use saldo_catalog::{
    Fault, Published, Source,
    sources::{POLICY, template_name},
};

pub fn sources(dir: &Path) -> Result<Vec<Source>, String> {
    let read = |path: &Path, name: String| {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<_, String>(Source { name, text })
    };
    let mut sources = vec![read(&dir.join(POLICY), POLICY.to_owned())?];
    let templates = dir.join("templates");
    let failed = |error: std::io::Error| format!("{}: {error}", templates.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&templates).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    for path in paths {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        sources.push(read(&path, format!("templates/{name}"))?);
    }
    Ok(sources)
}

/// Reads a folder and finds every fault. Fails only if a file cannot be read; `None` if the policy itself could not be parsed.
pub fn read(dir: &Path) -> Result<(Option<Published>, Vec<Fault>), String> {
    Ok(Published::read(&sources(dir)?))
}

/// Reads a folder that must have no fault.
pub fn sound(dir: &Path) -> Result<Published, String> {
    match read(dir)? {
        (Some(published), faults) if faults.is_empty() => Ok(published),
        (_, faults) => {
            let dir = dir.display();
            Err(format!("the policy has {} faults; `saldo policy validate {dir}` lists them", faults.len()))
        }
    }
}

/// The files of a folder, for a request.
pub fn files(dir: &Path) -> Result<Vec<v1::PolicyFile>, String> {
    Ok(sources(dir)?.into_iter().map(|source| v1::PolicyFile { name: source.name, source: source.text }).collect())
}

/// Writes files into a folder that is empty or missing.
pub fn write(dir: &Path, files: &[v1::PolicyFile]) -> Result<(), String> {
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    if dir.exists() && std::fs::read_dir(dir).map_err(|error| failed(dir, error))?.next().is_some() {
        return Err(format!("{} is not empty", dir.display()));
    }
    let templates = dir.join("templates");
    std::fs::create_dir_all(&templates).map_err(|error| failed(&templates, error))?;
    for file in files {
        // The service accepts only names of these two shapes. Another name could lead out of the folder.
        let known = file.name == POLICY || template_name(&file.name).is_some_and(|(name, _)| !name.contains('/'));
        if !known {
            return Err(format!("a file of the policy has an unexpected name, and is not written: {:?}", file.name));
        }
        let path = dir.join(&file.name);
        std::fs::write(&path, &file.source).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}
