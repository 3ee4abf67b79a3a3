//! A policy as people write it: `policy.toml`, and `templates/NAME.LANGUAGE.toml` beside it.

use std::collections::BTreeMap;

use saldo_domain::{dunning::Policy, fault::FieldFault};
use saldo_templates::Template;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::zone;

/// Templates one policy can have.
pub const MAX_TEMPLATES: usize = 200;
/// All of a policy's sources together, in bytes: they go into one commit.
pub const MAX_SOURCES: usize = 800_000;
/// The policy's own file.
pub const POLICY: &str = "policy.toml";

/// A file of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `policy.toml`, or `templates/NAME.LANGUAGE.toml`.
    pub name: String,
    /// The text of the file.
    pub text: String,
}

/// A policy with its templates, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The policy.
    pub policy: Policy,
    /// Its templates, by name and language.
    pub templates: Vec<Template>,
}

/// A fault and the file it stands in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// The field.
    pub field: String,
    /// The rule it breaks.
    pub rule: String,
}

impl Published {
    /// Reads a policy's files and names every fault; `None` where there is no policy to speak of. Every template is tried on samples.
    pub fn read(sources: &[Source]) -> (Option<Self>, Vec<Fault>) {
        Self::read_while(sources, || true)
    }

    /// Reads a policy's files like [`Published::read`]. Once `goes_on` says no, a template that is not yet tried is a fault.
    pub fn read_while(sources: &[Source], goes_on: impl Fn() -> bool) -> (Option<Self>, Vec<Fault>) {
        Self::read_with(sources, |template| {
            if goes_on() {
                return template.check();
            }
            let rule =
                "was not tried, since this policy's templates take too long: make their loops shorter".to_owned();
            vec![FieldFault { field: "text".to_owned(), rule }]
        })
    }

    /// Reads the files of a policy that was published, and whose templates were therefore tried before. So the templates' loops do not
    /// slow a start.
    pub fn read_again(sources: &[Source]) -> (Option<Self>, Vec<Fault>) {
        Self::read_with(sources, Template::check_form)
    }

    fn read_with(sources: &[Source], check: impl Fn(&Template) -> Vec<FieldFault>) -> (Option<Self>, Vec<Fault>) {
        let mut faults = Vec::new();
        let total: usize = sources.iter().map(|source| source.text.len()).sum();
        if total > MAX_SOURCES || sources.len() > MAX_TEMPLATES + 1 {
            let rule = format!("must have at most {MAX_TEMPLATES} templates and {MAX_SOURCES} bytes in all");
            return (None, vec![Fault { file: POLICY.into(), field: "files".into(), rule }]);
        }
        let (mut policy, mut templates, mut named) = (None, Vec::new(), Vec::new());
        for (index, source) in sources.iter().enumerate() {
            let mut fault = |rule: &str| {
                faults.push(Fault { file: source.name.clone(), field: "name".into(), rule: rule.to_owned() });
            };
            if sources[..index].iter().any(|other| other.name == source.name) {
                fault("must be there once");
            } else if source.name == POLICY {
                policy = parse::<Policy>(POLICY, &source.text, &mut faults);
            } else if let Some((name, language)) = template_name(&source.name) {
                named.push((name.to_owned(), language.to_owned()));
                let Some(template) = parse::<Template>(&source.name, &source.text, &mut faults) else { continue };
                let template = Template { name: name.to_owned(), language: language.to_owned(), ..template };
                note(&source.name, check(&template), &mut faults);
                templates.push(template);
            } else {
                fault("must be policy.toml or templates/NAME.LANGUAGE.toml, for example templates/courtesy.es.toml");
            }
        }
        match &policy {
            None if !sources.iter().any(|source| source.name == POLICY) => {
                let rule = "must be there".to_owned();
                faults.push(Fault { file: POLICY.into(), field: "name".into(), rule });
            }
            None => {}
            Some(policy) => {
                note(POLICY, policy.check(|name| zone(name).is_some()), &mut faults);
                check_references(policy, &named, &mut faults);
            }
        }
        (policy.map(|policy| Self { policy, templates }), faults)
    }

    /// The languages that templates are written in.
    pub fn languages(&self) -> Vec<String> {
        let mut languages: Vec<String> = self.templates.iter().map(|template| template.language.clone()).collect();
        languages.sort();
        languages.dedup();
        languages
    }

    /// A digest of the words of each template, by its name and language.
    pub fn words(&self) -> BTreeMap<Named, [u8; 32]> {
        let digest = |template: &Template| {
            let mut hash = Sha256::new();
            for part in [&template.subject, &template.text, template.html.as_deref().unwrap_or_default()] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            hash.finalize().into()
        };
        let named = |template: &Template| ((template.name.clone(), template.language.clone()), digest(template));
        self.templates.iter().map(named).collect()
    }
}

/// Name and language of `templates/NAME.LANGUAGE.toml`.
pub fn template_name(file: &str) -> Option<(&str, &str)> {
    file.strip_prefix("templates/")?
        .strip_suffix(".toml")?
        .split_once('.')
        .filter(|(_, language)| !language.contains('.'))
}

/// Name and language of a template's file.
type Named = (String, String);

/// Each step's template is there in each language, and none is there for nothing.
fn check_references(policy: &Policy, files: &[Named], faults: &mut Vec<Fault>) {
    let mut languages: Vec<&str> = files.iter().map(|(_, language)| language.as_str()).collect();
    languages.sort_unstable();
    languages.dedup();
    let mut fault = |field: String, rule: String| faults.push(Fault { file: POLICY.into(), field, rule });
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
        fault(format!("step[{index}].template"), rule);
    }
    if !languages.is_empty() && !languages.contains(&policy.sender.language.as_str()) {
        fault("sender.language".into(), format!("must be one that templates are written in: {}", languages.join(", ")));
    }
    for (name, language) in files {
        if !policy.steps.iter().any(|step| step.template == *name) {
            let file = format!("templates/{name}.{language}.toml");
            faults.push(Fault { file, field: "name".into(), rule: "must be a template that a step names".into() });
        }
    }
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
