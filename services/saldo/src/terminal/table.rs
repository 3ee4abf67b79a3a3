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
