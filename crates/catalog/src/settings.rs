//! The rules of a creditor's settings, and the day that its time zone makes of an instant.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use saldo_domain::{
    fault::FieldFault,
    line::{ONE_LINE, is_one_line},
};
use saldo_facts::Settings;

use crate::zone;

/// Longest name, in bytes.
pub const MAX_NAME: usize = 200;
/// Languages at most.
pub const MAX_LANGUAGES: usize = 20;
/// A year without a 29 February: what such a year has, every year has.
const COMMON_YEAR: i16 = 2_001;

/// Every rule that settings break.
pub fn check(settings: &Settings) -> Vec<FieldFault> {
    let Settings { name, time_zone, languages, fiscal_year_start, apply_credit: _ } = settings;
    let mut faults = Vec::new();
    let mut fault = |field: &str, rule: String| faults.push(FieldFault { field: field.to_owned(), rule });
    if name.len() > MAX_NAME || name.trim() != name {
        fault("name", format!("must be at most {MAX_NAME} bytes without spaces at either end"));
    }
    if !is_one_line(name) {
        fault("name", ONE_LINE.to_owned());
    }
    if zone(time_zone).is_none_or(|zone| zone.iana_name() != Some(time_zone.as_str())) {
        fault("time_zone", "must be the IANA name of a time zone, for example Europe/Madrid".to_owned());
    }
    let is_language = |code: &String| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_lowercase());
    let mut distinct = languages.clone();
    distinct.sort();
    distinct.dedup();
    if languages.len() > MAX_LANGUAGES || distinct.len() != languages.len() || !languages.iter().all(is_language) {
        let rule = format!("must be at most {MAX_LANGUAGES} ISO 639-1 codes in lower case, each once, for example es");
        fault("languages", rule);
    }
    let day = (i8::try_from(fiscal_year_start.month), i8::try_from(fiscal_year_start.day));
    if !matches!(day, (Ok(month), Ok(day)) if Date::new(COMMON_YEAR, month, day).is_ok()) {
        let rule = "must be a month and a day that every year has, for example 4 and 1".to_owned();
        fault("fiscal_year_start", rule);
    }
    faults
}

/// The day that an instant falls on, as the creditor counts days.
pub fn day(settings: &Settings, at: Timestamp) -> Date {
    // Settings in force were checked, so the zone is there.
    at.to_zoned(zone(&settings.time_zone).unwrap_or(TimeZone::UTC)).date()
}

#[cfg(test)]
mod tests {
    use saldo_facts::FiscalYearStart;

    use super::*;

    fn chicago() -> Settings {
        Settings {
            name: "Ejemplo, S.L.".into(),
            time_zone: "America/Chicago".into(),
            languages: vec!["es".into(), "en".into()],
            fiscal_year_start: FiscalYearStart { month: 4, day: 1 },
            ..Settings::default()
        }
    }

    #[test]
    fn sound_settings_and_the_defaults_have_no_fault() {
        assert_eq!(check(&chicago()), []);
        assert_eq!(check(&Settings::default()), []);
    }

    #[test]
    fn each_fault_is_named_by_its_field() {
        let faulty = |change: fn(&mut Settings)| {
            let mut settings = chicago();
            change(&mut settings);
            check(&settings).into_iter().map(|fault| fault.field).collect::<Vec<_>>()
        };
        assert_eq!(faulty(|s| s.name = "two\nlines".into()), ["name"]);
        assert_eq!(faulty(|s| s.name = "Ejemplo \u{202e}.L.S".into()), ["name"]);
        assert_eq!(faulty(|s| s.name = "n".repeat(MAX_NAME + 1)), ["name"]);
        for zone in ["", "Mars/Olympus", "america/chicago", "UTC+1"] {
            let settings = Settings { time_zone: zone.into(), ..chicago() };
            assert_eq!(check(&settings).len(), 1, "{zone:?}");
        }
        assert_eq!(faulty(|s| s.languages.push("es".into())), ["languages"]);
        assert_eq!(faulty(|s| s.languages = vec!["ES".into()]), ["languages"]);
        assert_eq!(faulty(|s| s.fiscal_year_start = FiscalYearStart { month: 2, day: 29 }), ["fiscal_year_start"]);
        assert_eq!(faulty(|s| s.fiscal_year_start = FiscalYearStart { month: 0, day: 0 }), ["fiscal_year_start"]);
    }

    #[test]
    fn the_day_is_the_creditors() {
        // 20:30 in Chicago on the third is the fourth in UTC.
        let at: Timestamp = "2026-09-04T01:30:00Z".parse().expect("an instant");
        assert_eq!(day(&chicago(), at), jiff::civil::date(2026, 9, 3));
        assert_eq!(day(&Settings::default(), at), jiff::civil::date(2026, 9, 4));
    }
}
