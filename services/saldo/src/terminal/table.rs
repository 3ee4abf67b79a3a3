//! Tables for people.

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use saldo_api::v1;
use saldo_domain::money::{Currency, format_minor};

/// An amount in major units, with the currency's decimals.
pub fn major(minor: i64, currency: &str) -> String {
    Currency::new(currency).map_or_else(|_| minor.to_string(), |currency| format_minor(minor, currency))
}

/// A day; empty without one.
pub fn day(date: Option<&v1::Date>) -> String {
    date.map(|date| format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)).unwrap_or_default()
}

/// An amount in major units with its currency: `1234.50 EUR`.
pub fn money(money: Option<&v1::Money>) -> String {
    money.map(|money| format!("{} {}", major(money.minor_units, &money.currency), money.currency)).unwrap_or_default()
}

/// An instant to the second; empty without one.
pub fn instant(at: Option<&saldo_api::Timestamp>) -> String {
    at.and_then(|at| jiff::Timestamp::new(at.seconds, 0).ok()).map(|at| at.to_string()).unwrap_or_default()
}

/// Names and their values, a line each. A value of several lines stands under itself.
pub fn named(values: &[(&str, String)]) -> String {
    let width = values.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let line = |(name, value): &(&str, String)| {
        let value = value.replace('\n', &format!("\n{:width$}  ", ""));
        format!("{name:<width$}  {value}").trim_end().to_owned()
    };
    values.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A plain table; without rows it says "none". The columns from `numbers` on are aligned to the right.
pub fn plain(header: &[&str], numbers: usize, rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_style(TableComponent::HeaderLines, '─')
        .set_style(TableComponent::MiddleHeaderIntersections, '─')
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    if table.row_count() == 0 {
        table.add_row(["none"]);
    }
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Receivables by age, with the totals below.
pub fn aging(rows: &[v1::AgingRow], totals: &[v1::AgingRow]) -> Table {
    let line = |name: &str, row: &v1::AgingRow| {
        let figures = [row.not_due, row.d1_30, row.d31_60, row.d61_90, row.d91_plus, row.unapplied, row.balance];
        let mut cells = vec![name.to_owned(), row.currency.clone()];
        cells.extend(figures.iter().map(|minor| major(*minor, &row.currency)));
        cells
    };
    let lines = rows.iter().map(|row| line(&row.account_id, row)).chain(totals.iter().map(|row| line("TOTAL", row)));
    let header = ["account", "", "not due", "1-30", "31-60", "61-90", "91+", "unapplied", "balance"];
    plain(&header, 2, lines)
}

/// The open items: instalments, and credit that is not applied.
pub fn open_items(items: &[v1::OpenItem]) -> Table {
    let lines = items.iter().map(|item| {
        vec![
            item.document.clone(),
            if item.instalment == 0 { "unapplied".to_owned() } else { item.instalment.to_string() },
            day(item.due_date.as_ref()),
            major(item.original_minor, &item.currency),
            format!("{} {}", major(item.open_minor, &item.currency), item.currency),
        ]
    });
    plain(&["document", "part", "due", "original", "open"], 3, lines)
}

/// Everything that happened on an account.
pub fn history(entries: &[v1::HistoryEntry]) -> Table {
    let lines = entries.iter().map(|entry| {
        vec![
            format!("v{}.{}", entry.version, entry.index),
            instant(entry.recorded_at.as_ref()),
            day(entry.effective_date.as_ref()),
            entry.r#type.clone(),
            entry.summary.clone(),
        ]
    });
    plain(&["", "recorded", "true on", "type", "what"], 5, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_value_of_several_lines_stands_under_itself() {
        let text = named(&[("name", "Ana Gil".to_owned()), ("reached by", "a\nb".to_owned()), ("none", String::new())]);
        assert_eq!(text, "name        Ana Gil\nreached by  a\n            b\nnone");
    }
}
