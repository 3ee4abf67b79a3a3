//! What a command applied and took back, as tables and as JSON.

use saldo_api::v1;
use serde_json::{Value, json};

use super::credit::Source;
use crate::terminal::table;

/// Adds both to the fields of an answer: what was applied, and what was taken back.
pub fn add(fields: &mut Value, answer: &v1::CommandResponse) {
    let lines = |is_back: bool| -> Value {
        answer.moved.iter().filter(|line| (line.amount_minor < 0) == is_back).map(as_json).collect()
    };
    fields["allocations"] = lines(false);
    fields["taken_back"] = lines(true);
    fields["effective_date"] = answer.effective_date.as_ref().map(|day| table::day(Some(day))).into();
}

fn as_json(line: &v1::MovedCredit) -> Value {
    json!({
        "kind": line.kind, "document": line.document, "invoice": line.invoice_number, "instalment": line.instalment,
        "due_date": table::day(line.due_date.as_ref()), "effective_date": table::day(line.effective_date.as_ref()),
        "amount_minor": line.amount_minor.abs(), "currency": line.currency,
    })
}

/// The tables below what a command says: what it took back, where the credit of its own document went, and what other credit
/// was applied by itself.
pub fn told(answer: &v1::CommandResponse, own: Option<(Source, &str)>) -> String {
    let is_own = |line: &v1::MovedCredit| {
        own.is_some_and(|(source, document)| line.kind == source.kind() && line.document == document)
    };
    let (back, applied): (Vec<_>, Vec<_>) = answer.moved.iter().partition(|line| line.amount_minor < 0);
    let (own, by_itself): (Vec<_>, Vec<_>) = applied.into_iter().partition(|line| is_own(line));
    let mut text = String::new();
    for (title, lines) in
        [("Taken back:", back), ("Applied:", own), ("Credit that waited was applied by itself:", by_itself)]
    {
        if !lines.is_empty() {
            text += &format!("\n\n{title}\n{}", shown(&lines));
        }
    }
    text
}

fn shown(lines: &[&v1::MovedCredit]) -> comfy_table::Table {
    let rows = lines.iter().map(|line| {
        vec![
            line.kind.replace('_', " "),
            line.document.clone(),
            line.invoice_number.clone(),
            line.instalment.to_string(),
            table::day(line.due_date.as_ref()),
            table::day(line.effective_date.as_ref()),
            format!("{} {}", table::major(line.amount_minor.abs(), &line.currency), line.currency),
        ]
    });
    table::plain(&["by", "number", "invoice", "instalment", "due", "from", "amount"], 6, rows)
}

/// What is left unapplied of a document that was recorded just now, in minor units.
pub fn unapplied(whole: i64, answer: &v1::CommandResponse) -> i64 {
    whole - answer.moved.iter().map(|line| line.amount_minor).sum::<i64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_back_and_what_was_applied_by_itself_stand_apart() {
        let line = |document: &str, amount_minor| v1::MovedCredit {
            kind: "payment".into(),
            document: document.into(),
            invoice_number: "F-1".into(),
            amount_minor,
            currency: "EUR".into(),
            ..Default::default()
        };
        let answer = v1::CommandResponse { moved: vec![line("P-1", -5_000), line("P-2", 2_050)], ..Default::default() };
        let text = told(&answer, Some((Source::Payment, "P-1")));
        let (back, by_itself) = text.split_once("applied by itself:").expect("both");
        assert!(back.contains("Taken back:") && back.contains("P-1") && back.contains("50.00 EUR"), "{text}");
        assert!(by_itself.contains("P-2") && by_itself.contains("20.50 EUR"), "{text}");
        assert!(!text.contains("\nApplied:"), "{text}");
        assert_eq!(told(&v1::CommandResponse::default(), None), "");
    }
}
