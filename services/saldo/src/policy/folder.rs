//! A policy's folder: `policy.toml`, and `templates/NAME.LANGUAGE.toml` beside it.

use std::path::Path;

use saldo_domain::{fault::FieldFault, policy::Policy};
use saldo_templates::Template;
use serde::{Serialize, de::DeserializeOwned};

/// Templates one policy can have.
const MAX_TEMPLATES: usize = 200;

/// A policy with its templates.
pub struct Folder {
    /// The policy.
    pub policy: Policy,
    /// Its templates, by name and language.
    pub templates: Vec<Template>,
}

/// A fault and the file it stands in.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Relative to the folder.
    pub file: String,
    /// The field.
    pub field: String,
    /// The rule it breaks.
    pub rule: String,
}

impl Folder {
    /// Reads a folder and names every fault. Fails only where files cannot be read; `None` where there is no policy to
    /// speak of.
    pub fn read(dir: &Path) -> Result<(Option<Self>, Vec<Fault>), String> {
        let mut faults = Vec::new();
        let path = dir.join("policy.toml");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let policy: Option<Policy> = parse("policy.toml", &text, &mut faults);
        if let Some(policy) = &policy {
            note("policy.toml", policy.check(|name| jiff::tz::TimeZone::get(name).is_ok()), &mut faults);
        }
        let (templates, files) = read_templates(&dir.join("templates"), &mut faults)?;
        if let Some(policy) = &policy {
            check_references(policy, &files, &mut faults);
        }
        Ok((policy.map(|policy| Self { policy, templates }), faults))
    }

    /// Reads a folder that must be without fault.
    pub fn sound(dir: &Path) -> Result<Self, String> {
        match Self::read(dir)? {
            (Some(folder), faults) if faults.is_empty() => Ok(folder),
            (_, faults) => {
                let dir = dir.display();
                Err(format!("the policy has {} faults; `saldo policy validate {dir}` names them", faults.len()))
            }
        }
    }

    /// The languages that templates are written in.
    pub fn languages(&self) -> Vec<String> {
        let mut languages: Vec<String> = self.templates.iter().map(|template| template.language.clone()).collect();
        languages.sort();
        languages.dedup();
        languages
    }
}

/// Name and language of a template's file.
type Named = (String, String);

/// Each step's template is there in each language, and none is there for nothing.
fn check_references(policy: &Policy, files: &[Named], faults: &mut Vec<Fault>) {
    let mut languages: Vec<&str> = files.iter().map(|(_, language)| language.as_str()).collect();
    languages.sort_unstable();
    languages.dedup();
    for (index, step) in policy.steps.iter().enumerate() {
        let has = |language: &str| files.iter().any(|(name, one)| *name == step.template && one == language);
        let missing: Vec<String> = languages
            .iter()
            .filter(|language| !has(language))
            .map(|language| format!("templates/{}.{language}.toml", step.template))
            .collect();
        let rule = match missing.as_slice() {
            [] if languages.is_empty() => "must name a template; the folder templates has none".to_owned(),
            [] => continue,
            missing => format!("must be there in every language: {} is missing", missing.join(", ")),
        };
        faults.push(Fault { file: "policy.toml".into(), field: format!("step[{index}].template"), rule });
    }
    for (name, language) in files {
        if !policy.steps.iter().any(|step| step.template == *name) {
            let file = format!("templates/{name}.{language}.toml");
            faults.push(Fault { file, field: "name".into(), rule: "must be a template that a step names".into() });
        }
    }
}

/// The templates that can be read, and what all the files are called.
fn read_templates(dir: &Path, faults: &mut Vec<Fault>) -> Result<(Vec<Template>, Vec<Named>), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    if paths.len() > MAX_TEMPLATES {
        return Err(format!("{}: at most {MAX_TEMPLATES} templates", dir.display()));
    }
    let (mut templates, mut files) = (Vec::new(), Vec::new());
    for path in paths {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let file = format!("templates/{name}");
        let parts: Vec<&str> = name.split('.').collect();
        let &[stem, language, "toml"] = parts.as_slice() else {
            let rule = "must be NAME.LANGUAGE.toml, for example courtesy.es.toml".to_owned();
            faults.push(Fault { file, field: "name".into(), rule });
            continue;
        };
        files.push((stem.to_owned(), language.to_owned()));
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let Some(template) = parse::<Template>(&file, &text, faults) else { continue };
        let template = Template { name: stem.to_owned(), language: language.to_owned(), ..template };
        note(&file, template.check(), faults);
        templates.push(template);
    }
    Ok((templates, files))
}

fn parse<T: DeserializeOwned>(file: &str, text: &str, faults: &mut Vec<Fault>) -> Option<T> {
    toml::from_str(text)
        .map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let rule = error.message().to_owned();
            faults.push(Fault { file: file.to_owned(), field: format!("line {line}"), rule });
        })
        .ok()
}

fn note(file: &str, found: Vec<FieldFault>, faults: &mut Vec<Fault>) {
    faults.extend(found.into_iter().map(|fault| Fault { file: file.to_owned(), field: fault.field, rule: fault.rule }));
}
