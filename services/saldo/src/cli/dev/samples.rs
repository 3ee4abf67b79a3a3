//! What `saldo dev` leaves in its folder to try things with: a file of invoices with its map, and a policy.

use std::path::{Path, PathBuf};

use jiff::{ToSpan, civil::Date};

use crate::cli::policy::{example, folder};

const MAP: &str = include_str!("invoices.toml");

/// The paths of the samples.
pub struct Samples {
    pub invoices: PathBuf,
    pub map: PathBuf,
    pub policy: PathBuf,
}

impl Samples {
    /// Writes what is missing, and leaves what is there: somebody may have changed it. The invoices are overdue, or soon due, `today`.
    pub fn write(dir: &Path, today: Date) -> Result<Self, String> {
        let dir = dir.join("samples");
        let samples =
            Self { invoices: dir.join("invoices.csv"), map: dir.join("invoices.toml"), policy: dir.join("policy") };
        let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        std::fs::create_dir_all(&dir).map_err(|error| failed(&dir, error))?;
        for (path, text) in [(&samples.invoices, invoices(today)), (&samples.map, MAP.to_owned())] {
            if !path.exists() {
                std::fs::write(path, text).map_err(|error| failed(path, error))?;
            }
        }
        if !samples.policy.exists() {
            folder::write(&samples.policy, &example::files())?;
        }
        Ok(samples)
    }
}

fn invoices(today: Date) -> String {
    let mut text = "customer,name,email,language,number,issued,due,amount\n".to_owned();
    for (customer, number, due_in, amount) in [
        ("D-1,Ana Gil,ana@example.org,es", "F-1", -10, "1250.00"),
        ("D-2,Bea Soler,bea@example.org,en", "F-2", -40, "480.50"),
        ("D-2,Bea Soler,bea@example.org,en", "F-3", 2, "99.90"),
    ] {
        let due = today.saturating_add(due_in.days());
        text += &format!("{customer},{number},{},{due},{amount}\n", due.saturating_sub(30.days()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::import::{Map, Rows, Text},
        *,
    };

    #[test]
    fn the_samples_are_read_by_their_map_and_are_left_as_they_are() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = Samples::write(dir.path(), Date::constant(2026, 11, 27)).expect("written");
        let text = std::fs::read(&first.invoices).expect("read");
        let rows = Rows::of(Text::of(text.clone(), None).expect("text"), Map::read(&first.map).expect("a map"));
        let rows = rows.expect("a header");
        assert!(rows.len() == 3 && (0..3).all(|row| matches!(rows.read(row), Ok(Some(_)))));
        assert!(folder::sound(&first.policy).is_ok());
        Samples::write(dir.path(), Date::constant(2026, 12, 27)).expect("written");
        assert_eq!(std::fs::read(&first.invoices).expect("read"), text, "the same rows are present at the next import");
    }
}
