//! Messages from templates: MiniJinja, strict, bounded in time and size.
//!
//! A fault of a template is found when it is published, and not when a debtor's message is due. [`Template::check`] compiles
//! the template, compares the names in it with those of [`Variables`], and renders it on samples.

mod variables;
mod words;

use std::io::{self, Write};

use minijinja::{
    Environment, Error, ErrorKind, UndefinedBehavior, Value, default_auto_escape_callback, filters, tests as checks,
    value::Serde,
};
use saldo_domain::{dunning::policy::is_name, fault::FieldFault, line::is_one_line};
use serde::{Deserialize, Serialize};

pub use variables::{Item, Party, Total, Variables, samples};
pub use words::{Language, amount, day};

/// Longest source of one part, in bytes.
pub const MAX_SOURCE: usize = 64 << 10;
/// Longest subject, in characters (RFC 5322, 2.1.1 allows 998 on a line; people read less).
pub const MAX_SUBJECT: usize = 200;
/// Longest text or HTML that comes out, in bytes. Both together, encoded, stay below the largest mail.
pub const MAX_OUTPUT: usize = 192 << 10;
/// Instructions that one rendering may take. It is enough for thousands of items, and stops an endless loop. Each 64 bytes that an
/// expression makes or reads count for one too, so this bounds the memory as well: 32 MB.
const FUEL: u64 = 500_000;

/// The source of messages. The text and the HTML of one template say the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The name that steps refer to. Name and language come from the file's name.
    #[serde(skip)]
    pub name: String,
    /// The language, ISO 639-1.
    #[serde(skip)]
    pub language: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// Simple HTML. Values are escaped in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

/// The parts of one message. Each channel takes those that it can send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parts {
    /// One line, without control characters and direction marks.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// HTML, where the template has it.
    pub html: Option<String>,
}

/// Why a message could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {why}")]
pub struct RenderError {
    /// `subject`, `text` or `html`.
    pub part: &'static str,
    /// The fault. Never holds the variables' values.
    pub why: String,
}

impl Template {
    fn parts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let html = self.html.as_deref().map(|source| ("html", source));
        [("subject", self.subject.as_str()), ("text", self.text.as_str())].into_iter().chain(html)
    }

    /// Names every fault. A template without one renders every kind of message that it can be asked for.
    pub fn check(&self) -> Vec<FieldFault> {
        self.check_with(samples)
    }

    /// Names the faults of a template's form, without samples. A published template has rendered every sample before.
    pub fn check_form(&self) -> Vec<FieldFault> {
        self.check_with(|_| Vec::new())
    }

    fn check_with(&self, samples: fn(Language) -> Vec<Variables>) -> Vec<FieldFault> {
        let mut faults = Vec::new();
        let mut add = |field: &str, rule: String| faults.push(FieldFault { field: field.to_owned(), rule });
        if !is_name(&self.name) {
            add("name", "must be lower case letters, digits and hyphens".to_owned());
        }
        let Some(language) = Language::parse(&self.language) else {
            add(
                "language",
                format!("must be one that amounts and dates are written in: {}", Language::NAMES.join(", ")),
            );
            return faults;
        };
        let (environment, samples) = (environment(), samples(language));
        for (part, source) in self.parts() {
            if source.len() > MAX_SOURCE {
                add(part, format!("must be at most {MAX_SOURCE} bytes"));
                continue;
            }
            let template = match compile(&environment, part, source) {
                Ok(template) => template,
                Err(error) => {
                    add(part, error.why);
                    continue;
                }
            };
            let mut unknown: Vec<String> = template
                .undeclared_variables(true)
                .into_iter()
                .filter(|name| !variables::NAMES.contains(&name.as_str()))
                .collect();
            unknown.sort();
            if !unknown.is_empty() {
                let known = variables::NAMES.join(", ");
                add(part, format!("there is no variable {}; there are {known}", unknown.join(", ")));
                continue;
            }
            let failed = samples.iter().find_map(|variables| render(&template, part, variables).err());
            if let Some(error) = failed {
                add(part, error.why);
            }
        }
        faults
    }

    /// Fills in the variables.
    pub fn render(&self, variables: &Variables) -> Result<Parts, RenderError> {
        let environment = environment();
        let make = |part, source: &str| render(&compile(&environment, part, source)?, part, variables);
        Ok(Parts {
            subject: make("subject", &self.subject)?,
            text: make("text", &self.text)?,
            html: self.html.as_deref().map(|source| make("html", source)).transpose()?,
        })
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_auto_escape_callback(default_auto_escape_callback);
    // The filters that people need in a letter. `safe` is not there, since it would put values into HTML unescaped.
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("length", length);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("title", filters::title);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
    environment.add_test("defined", checks::is_defined);
    environment.add_test("undefined", checks::is_undefined);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment
}

/// The engine's own filter takes what is not there for empty.
fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() { Err(ErrorKind::UndefinedError.into()) } else { filters::length(value) }
}

type Compiled<'s> = minijinja::Template<'s, 's>;

fn compile<'s>(environment: &'s Environment, part: &'static str, source: &'s str) -> Result<Compiled<'s>, RenderError> {
    // MiniJinja escapes by the name's ending.
    let name = if part == "html" { "message.html" } else { "message.txt" };
    environment.template_from_named_str(name, source).map_err(|error| RenderError { part, why: said(&error) })
}

fn render(template: &Compiled<'_>, part: &'static str, variables: &Variables) -> Result<String, RenderError> {
    let mut output = Bounded(Vec::new());
    let rendered = template.render_captured_to(Value::from(Serde(variables)), &mut output).map(drop);
    rendered.map_err(|error| RenderError { part, why: said(&error) })?;
    let text = String::from_utf8(output.0).map_err(|_| RenderError { part, why: "is not UTF-8".to_owned() })?;
    let text = text.trim().to_owned();
    let wrong = |why: String| Err(RenderError { part, why });
    if text.is_empty() {
        return wrong("comes out empty".to_owned());
    }
    if part == "subject" && (!is_one_line(&text) || text.chars().count() > MAX_SUBJECT) {
        return wrong(format!(
            "must come out as one line of at most {MAX_SUBJECT} characters, without control characters and direction marks"
        ));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return wrong("must come out without control characters".to_owned());
    }
    Ok(text)
}

/// The engine's message, on one line and without the variables' values.
fn said(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    let what = match error.kind() {
        ErrorKind::OutOfFuel => "takes too long: does a loop end?".to_owned(),
        ErrorKind::WriteFailure => format!("comes out longer than {MAX_OUTPUT} bytes"),
        ErrorKind::UndefinedError => "uses a variable or field that is not there".to_owned(),
        kind => match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    format!("{what}{line}")
}

struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
