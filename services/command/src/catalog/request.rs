//! From requests to changes of the catalog: every field checked, every fault named.

use saldo_api::v1;
use saldo_auth::Caller;
use saldo_catalog::{
    Fault, Published, Source, settings,
    sources::{POLICY, template_name},
};
use saldo_domain::{ids::TenantId, ledger::ApplyCredit};
use saldo_facts::{CatalogEvent, FiscalYearStart, PolicyPublished, Settings, TemplatePublished};

use super::heavy::GoesOn;
use crate::{edge::is_request_id, failure::Failure, violations::Violation};

pub(super) fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Failure {
    Failure::Invalid(vec![Violation { field: field.into(), rule: rule.into() }])
}

pub(super) fn check_caller(caller: &Caller, request_id: &str) -> Result<(), Failure> {
    TenantId::new(&caller.tenant).map_err(|rule| invalid("tenant", rule.to_string()))?;
    if is_request_id(request_id) { Ok(()) } else { Err(invalid("request_id", crate::edge::REQUEST_ID_RULE)) }
}

pub(super) fn sources(files: &[v1::PolicyFile]) -> Vec<Source> {
    files.iter().map(|file| Source { name: file.name.clone(), text: file.source.clone() }).collect()
}

/// Reads a policy that must be without fault, and tries its templates while that may go on.
pub(super) fn sound(sources: &[Source], goes_on: &GoesOn) -> Result<Published, Failure> {
    let (published, faults) = Published::read_while(sources, || goes_on.check());
    match published {
        Some(published) if faults.is_empty() => Ok(published),
        _ => {
            let violation = |Fault { file, field, rule }: Fault| Violation { field: format!("{file}: {field}"), rule };
            Err(Failure::Invalid(faults.into_iter().map(violation).collect()))
        }
    }
}

/// The facts of a policy that is without fault: the policy first, then its templates.
pub(super) fn policy_events(sources: Vec<Source>) -> Vec<CatalogEvent> {
    let mut events: Vec<CatalogEvent> = sources
        .into_iter()
        .filter_map(|Source { name, text }| {
            if name == POLICY {
                return Some(PolicyPublished { source: text }.into());
            }
            let (template, language) = template_name(&name)?;
            let (name, language) = (template.to_owned(), language.to_owned());
            Some(TemplatePublished { name, language, source: text }.into())
        })
        .collect();
    events.sort_by_key(|event| !matches!(event, CatalogEvent::PolicyPublished(_)));
    events
}

/// Reads settings that must be without fault; what is left out has its default.
pub(super) fn settings(asked: Option<&v1::TenantSettings>) -> Result<Settings, Failure> {
    let asked = asked.ok_or_else(|| invalid("settings", "must be there"))?;
    let defaults = Settings::default();
    let read = Settings {
        name: asked.name.clone(),
        time_zone: if asked.time_zone.is_empty() { defaults.time_zone } else { asked.time_zone.clone() },
        languages: asked.languages.clone(),
        fiscal_year_start: asked
            .fiscal_year_start
            .map_or(defaults.fiscal_year_start, |start| FiscalYearStart { month: start.month, day: start.day }),
        apply_credit: match asked.apply_credit() {
            v1::ApplyCredit::Unspecified | v1::ApplyCredit::OldestFirst => ApplyCredit::OldestFirst,
            v1::ApplyCredit::Leave => ApplyCredit::Leave,
        },
    };
    let faults = settings::check(&read);
    if faults.is_empty() {
        return Ok(read);
    }
    let violation = |fault: saldo_domain::fault::FieldFault| Violation {
        field: format!("settings.{}", fault.field),
        rule: fault.rule,
    };
    Err(Failure::Invalid(faults.into_iter().map(violation).collect()))
}

pub(super) fn settings_to_api(settings: &Settings) -> v1::TenantSettings {
    let FiscalYearStart { month, day } = settings.fiscal_year_start;
    v1::TenantSettings {
        name: settings.name.clone(),
        time_zone: settings.time_zone.clone(),
        languages: settings.languages.clone(),
        fiscal_year_start: Some(v1::FiscalYearStart { month, day }),
        apply_credit: match settings.apply_credit {
            ApplyCredit::OldestFirst => v1::ApplyCredit::OldestFirst,
            ApplyCredit::Leave => v1::ApplyCredit::Leave,
        }
        .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_left_out_have_their_defaults_and_faults_are_named() {
        assert_eq!(settings(Some(&v1::TenantSettings::default())).ok(), Some(Settings::default()));
        let odd = v1::TenantSettings {
            name: "a\nb".into(),
            time_zone: "Mars/Olympus".into(),
            languages: vec!["spanish".into()],
            fiscal_year_start: Some(v1::FiscalYearStart { month: 2, day: 30 }),
            ..Default::default()
        };
        let Err(Failure::Invalid(violations)) = settings(Some(&odd)) else { panic!("they were taken") };
        let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        let expected = ["settings.name", "settings.time_zone", "settings.languages", "settings.fiscal_year_start"];
        assert_eq!(fields, expected);
        assert!(matches!(settings(None), Err(Failure::Invalid(_))));
    }
}
