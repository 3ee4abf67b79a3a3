//! Text in which columns of a row take their places.

use serde::Deserialize;

/// Text with `{column}` in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Column(String),
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (column, behind) =
                after.split_once('}').ok_or_else(|| format!("template {text:?} has a {{ without its }}"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Column(column.to_owned()));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }
}

impl Template {
    /// The text for one row; columns are trimmed.
    pub fn render<'r>(&self, column: impl Fn(&str) -> Option<&'r str>) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Column(name) => column(name).unwrap_or_default().trim(),
            })
            .collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Column(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    pub fn constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_joins_text_and_columns() {
        let template = Template::try_from("INV-{no}/{year}".to_owned()).expect("valid");
        let text = template.render(|name| Some(if name == "no" { " 7 " } else { "2026" }));
        assert_eq!(text, "INV-7/2026");
    }

    #[test]
    fn a_brace_that_is_not_closed_is_named() {
        assert!(Template::try_from("x{no".to_owned()).expect_err("open").contains("x{no"));
    }
}
