//! The plan of an import, made before anything is sent: for each account its documents in the order of the file. Repeats and
//! contradictions are decided here, by the file alone, so that it does not matter which answer comes first.

use std::collections::HashMap;

use saldo_domain::{ids::DocumentNumber, ledger::invoice::schedule, money::Currency};
use saldo_facts::date_from_api;
use uuid::Uuid;

use super::{
    document::{self, Document, Entry},
    map::RowIs,
    row::{Fault, said},
    rows::Rows,
};

/// The outcome of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// New in the history.
    Added,
    /// Recorded before, with the same content.
    Present,
    /// Says what another row of the file says, which stands on this line.
    Repeated(u64),
    /// Skipped by the map.
    Skipped,
    /// Not recorded, with the reason.
    Rejected(String),
}

impl Outcome {
    /// The outcome of a document that is recorded with the same content. A file of rejected rows lacks the rows that were accepted.
    /// So an equal payment that is recorded may be one of those, and the row must not count as present.
    pub fn recorded(rows: &Rows, document: &Document) -> Self {
        let is_payment = matches!(document, Document::Payment(_));
        if is_payment && rows.has_marks() && rows.map().counts_equal_rows() {
            let why = "an equal payment is recorded, and rejected rows alone do not tell whether it is this one; correct FILE itself and \
                       import that";
            return Self::Rejected(why.to_owned());
        }
        Self::Present
    }
}

/// A document to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The rows that make it, by their index, in the order of the file.
    pub rows: Vec<usize>,
    /// Which of several equal payments it is, from 1.
    pub occurrence: u32,
}

/// The whole plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// For each account its documents in the order of the file; the accounts by their first row.
    pub accounts: Vec<Vec<Planned>>,
    /// Rows of which nothing is sent, by their index.
    pub settled: Vec<(usize, Outcome)>,
}

impl Plan {
    /// Fails where a row cannot be read and it is not known which invoice would lack it.
    pub fn of(rows: &Rows) -> Result<Self, String> {
        let map = rows.map();
        let mut planner = Planner {
            rows,
            in_parts: map.invoice.as_ref().is_some_and(|invoice| invoice.row == RowIs::Instalment),
            counted: map.counts_equal_rows(),
            plan: Plan::default(),
            accounts: HashMap::new(),
            firsts: HashMap::new(),
            invoices: HashMap::new(),
            faulty: HashMap::new(),
        };
        for row in 0..rows.len() {
            let settled = match rows.read(row) {
                Ok(Some(entry)) => planner.place(row, &entry),
                Ok(None) => Some(Outcome::Skipped),
                Err(fault) => Some(planner.refuse(row, fault)?),
            };
            planner.plan.settled.extend(settled.map(|outcome| (row, outcome)));
        }
        let Planner { mut plan, faulty, .. } = planner;
        plan.drop_faulty(rows, &faulty);
        Ok(plan)
    }

    /// Takes out the documents that cannot be put together, with all their rows.
    fn drop_faulty(&mut self, rows: &Rows, faulty: &HashMap<Uuid, u64>) {
        let settled = &mut self.settled;
        for documents in &mut self.accounts {
            documents.retain(|planned| {
                let why = match planned.entry(rows) {
                    Err(why) => why,
                    Ok(entry) => match faulty.get(&entry.key()) {
                        Some(line) => {
                            format!("{} lacks the instalment on line {line}, which cannot be read", entry.name())
                        }
                        None => return true,
                    },
                };
                settled.extend(planned.rows.iter().map(|row| (*row, Outcome::Rejected(why.clone()))));
                false
            });
        }
        self.accounts.retain(|documents| !documents.is_empty());
    }
}

/// The first row of a number.
struct First {
    row: usize,
    content: Uuid,
    occurrences: u32,
}

/// Goes through the rows in the order of the file.
struct Planner<'r> {
    rows: &'r Rows,
    /// A row is an instalment.
    in_parts: bool,
    /// Equal rows are payments of their own.
    counted: bool,
    plan: Plan,
    accounts: HashMap<String, usize>,
    firsts: HashMap<Uuid, First>,
    /// Where an invoice that is put together stands among its account's documents.
    invoices: HashMap<Uuid, usize>,
    /// Invoices of which a row cannot be read, and the line of that row.
    faulty: HashMap<Uuid, u64>,
}

impl Planner<'_> {
    /// Takes a row's document into the plan, or says what becomes of the row instead.
    fn place(&mut self, row: usize, entry: &Entry) -> Option<Outcome> {
        let key = entry.key();
        let account = *self.accounts.entry(entry.account.clone()).or_insert(self.plan.accounts.len());
        if account == self.plan.accounts.len() {
            self.plan.accounts.push(Vec::new());
        }
        let documents = self.plan.accounts.get_mut(account)?;
        let mut planned = Planned { rows: vec![row], occurrence: 1 };
        if self.in_parts && matches!(entry.document, Document::Invoice(_)) {
            match self.invoices.get(&key).and_then(|at| documents.get_mut(*at)) {
                Some(invoice) => invoice.rows.push(row),
                None => {
                    self.invoices.insert(key, documents.len());
                    documents.push(planned);
                }
            }
            return None;
        }
        let content = entry.document.content();
        let first = self.firsts.entry(key).or_insert(First { row, content, occurrences: 0 });
        let line = self.rows.line(first.row);
        if first.content != content {
            let why = format!("{} stands on line {line} with other content; one number is one document", entry.name());
            return Some(Outcome::Rejected(why));
        }
        first.occurrences += 1;
        if first.occurrences > 1 && !self.counted {
            return Some(Outcome::Repeated(line));
        }
        planned.occurrence = first.occurrences;
        documents.push(planned);
        None
    }

    /// Keeps in mind which invoice lacks a row that cannot be read.
    fn refuse(&mut self, row: usize, fault: Fault) -> Result<Outcome, String> {
        let (line, why) = (self.rows.line(row), fault.why);
        match fault.document {
            Some((account, number)) if self.in_parts => {
                self.faulty.entry(document::key("invoice", &account, &number)).or_insert(line);
            }
            None if self.in_parts => {
                return Err(format!(
                    "line {line}: {why}; it is not known which invoice would lack this instalment, so nothing was imported"
                ));
            }
            _ => {}
        }
        Ok(Outcome::Rejected(why))
    }
}

impl Planned {
    /// The document, from its rows.
    pub fn entry(&self, rows: &Rows) -> Result<Entry, String> {
        let mut entries = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let read = rows.read(*row).map_err(|fault| fault.why)?;
            entries.extend(read.map(|entry| (rows.line(*row), entry)));
        }
        let mut entries = entries.into_iter();
        let Some((line, mut whole)) = entries.next() else { return Err("the row is empty".to_owned()) };
        if rows.map().invoice.as_ref().is_some_and(|invoice| invoice.row == RowIs::Instalment) {
            put_together(&mut whole, line, entries, rows)?;
        }
        if let (Document::Payment(payment), 2..) = (&mut whole.document, self.occurrence) {
            payment.reference = format!("{}#{}", payment.reference, self.occurrence);
            DocumentNumber::new(&payment.reference).map_err(|rule| format!("reference: {rule}"))?;
        }
        Ok(whole)
    }
}

/// Adds the further rows of an invoice to its first one.
fn put_together(
    whole: &mut Entry,
    first_line: u64,
    further: impl Iterator<Item = (u64, Entry)>,
    rows: &Rows,
) -> Result<(), String> {
    let name = whole.name();
    let Document::Invoice(invoice) = &mut whole.document else { return Ok(()) };
    let mut lines = vec![first_line];
    for (line, entry) in further {
        let Document::Invoice(part) = entry.document else { continue };
        let currency =
            |invoice: &saldo_api::v1::IssueInvoiceRequest| invoice.total.as_ref().map(|total| total.currency.clone());
        if part.issue_date != invoice.issue_date
            || currency(&part) != currency(invoice)
            || entry.stated_total != whole.stated_total
        {
            return Err(format!(
                "{name} has another issue date, currency or total on line {line} than on line {first_line}"
            ));
        }
        invoice.instalments.extend(part.instalments);
        lines.push(line);
    }
    let day = |date| date_from_api(date).unwrap_or_default();
    invoice.instalments.sort_by_key(|part| part.due_date.map(day));
    let parts: Vec<_> =
        invoice.instalments.iter().filter_map(|part| Some((day(part.due_date?), part.amount_minor))).collect();
    let sum = parts.iter().fold(0_i64, |sum, (_, amount)| sum.saturating_add(*amount));
    let code = invoice.total.as_ref().map(|total| total.currency.clone()).unwrap_or_default();
    let currency = Currency::new(&code).map_err(|rule| format!("currency: {rule}"))?;
    let lines = lines.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    if let Some(total) = whole.stated_total.filter(|total| *total != sum) {
        let write = |minor| rows.map().format.write(minor, currency);
        return Err(format!("{name}: lines {lines} add up to {} and not to {}", write(sum), write(total)));
    }
    let total = rows.map().format.money(sum, currency).map_err(|rule| format!("{name}: the total {rule}"))?;
    let issue_date = invoice.issue_date.map(day).unwrap_or_default();
    schedule(total, issue_date, None, &parts).map_err(|faults| format!("{name}, lines {lines}: {}", said(&faults)))?;
    if let Some(total) = &mut invoice.total {
        total.minor_units = sum;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{map::Map, text::Text},
        *,
    };

    const INVOICE: &str = "[invoice]\nnumber='{n}'\namount='{x}'\nissue_date='{d}'\ndue_date='{d}'\n";
    const PAYMENT: &str = "[payment]\namount='{x}'\nvalue_date='{d}'\n";

    fn rows(file: &str, sections: &str) -> Rows {
        let format = "[format]\ndate='%F'\ncurrency='EUR'\ndelimiter=';'\n[account]\nid='{a}'\n";
        let map = Map::parse(&format!("{format}{sections}")).expect("a map");
        Rows::of(Text::of(file.as_bytes().to_vec(), None).expect("text"), map).expect("a header")
    }

    /// The numbers that are sent, by account.
    fn sent(rows: &Rows, plan: &Plan) -> Vec<Vec<String>> {
        let number = |planned: &Planned| planned.entry(rows).expect("whole").document.number().to_owned();
        plan.accounts.iter().map(|documents| documents.iter().map(number).collect()).collect()
    }

    fn reasons(plan: &Plan) -> Vec<(usize, String)> {
        let reason = |(row, outcome): &(usize, Outcome)| match outcome {
            Outcome::Rejected(why) => Some((*row, why.clone())),
            _ => None,
        };
        let mut reasons: Vec<_> = plan.settled.iter().filter_map(reason).collect();
        reasons.sort();
        reasons
    }

    #[test]
    fn u4_a_number_that_comes_again_with_other_content_is_refused_and_names_the_other_line() {
        let rows = rows("a;n;x;d\nA;1;5;2026-01-01\nB;1;6;2026-01-01\nA;1;7;2026-01-01\nA;1;5;2026-01-01\n", INVOICE);
        let plan = Plan::of(&rows).expect("a plan");
        assert_eq!(sent(&rows, &plan), [["1"], ["1"]], "another account has numbers of its own");
        let [(2, why)] = &reasons(&plan)[..] else { panic!("{plan:?}") };
        assert!(why.contains("invoice 1 of account A stands on line 2"), "{why}");
        assert!(plan.settled.contains(&(3, Outcome::Repeated(2))), "{plan:?}");
    }

    #[test]
    fn u7_equal_rows_without_an_id_are_counted() {
        let row = "A;rent;45;2026-02-01\n";
        for reference in ["", "reference='{d}-{x}-{n}'\n"] {
            let sections = format!("{PAYMENT}{reference}");
            let references = |count: usize| {
                let rows = rows(&format!("a;n;x;d\n{}", row.repeat(count)), &sections);
                sent(&rows, &Plan::of(&rows).expect("a plan")).concat()
            };
            let (two, three) = (references(2), references(3));
            assert_eq!(two, three[..2], "the first two are the same payments in both files");
            assert!(three[2].ends_with("#3") && three[1].ends_with("#2"), "{three:?}");
        }
        let rows = rows(&format!("a;n;x;d\n{}", row.repeat(2)), &format!("{PAYMENT}reference='{{n}}'\n"));
        let plan = Plan::of(&rows).expect("a plan");
        assert_eq!(plan.settled, [(1, Outcome::Repeated(2))], "an id that comes again is one payment");
    }

    #[test]
    fn an_equal_payment_of_a_file_of_rejected_rows_is_not_taken_for_the_one_that_is_recorded() {
        let (plain, rejected) = (
            "a;n;x;d\nB;X;1.00;2026-11-20\n",
            "a;n;x;d;saldo_line;saldo_reason\nB;X;1.00;2026-11-20;3;amount: must be\n",
        );
        let of = |file: &str, reference: &str| {
            let rows = rows(file, &format!("{PAYMENT}{reference}"));
            let document = rows.read(0).expect("read").expect("a payment").document;
            Outcome::recorded(&rows, &document)
        };
        for reference in ["", "reference='{n}-{d}'\n"] {
            assert_eq!(of(plain, reference), Outcome::Present);
            let Outcome::Rejected(why) = of(rejected, reference) else { panic!("{reference}") };
            assert!(why.contains("correct FILE itself"), "{why}");
        }
        assert_eq!(of(rejected, "reference='{n}'\n"), Outcome::Present, "an id tells payments apart");
    }

    const PARTS: &str = "[invoice]\nrow='instalment'\nnumber='{n}'\namount='{x}'\nissue_date='{i}'\ndue_date='{d}'\n";

    #[test]
    fn rows_of_one_number_make_one_invoice_where_a_row_is_an_instalment() {
        let rows = rows(
            "a;n;x;d;i\nA;1;1.85;2026-03-01;2026-01-01\nA;2;9;2026-03-01;2026-01-01\nA;1;1.55;2026-02-01;2026-01-01\n",
            PARTS,
        );
        let plan = Plan::of(&rows).expect("a plan");
        assert_eq!(
            plan.accounts[0].iter().map(|planned| planned.rows.clone()).collect::<Vec<_>>(),
            [vec![0, 2], vec![1]]
        );
        let Document::Invoice(invoice) = plan.accounts[0][0].entry(&rows).expect("whole").document else { panic!() };
        assert_eq!(invoice.instalments.iter().map(|part| part.amount_minor).collect::<Vec<_>>(), [155, 185]);
        assert_eq!(invoice.total.map(|total| total.minor_units), Some(340));
    }

    #[test]
    fn an_invoice_that_lacks_an_instalment_is_not_imported_in_part() {
        let head = "a;n;x;d;i\nA;1;1.85;2026-03-01;2026-01-01\n";
        for (row, word) in [
            ("A;1;much;2026-02-01;2026-01-01\n", "lacks the instalment on line 3"),
            ("A;1;1;2026-02-01;2026-01-02\n", "another issue date"),
            ("A;1;1;2026-03-01;2026-01-01\n", "due_date of instalment 2: must be after"),
        ] {
            let rows = rows(&format!("{head}{row}"), PARTS);
            let plan = Plan::of(&rows).expect("a plan");
            let reasons = reasons(&plan);
            assert!(plan.accounts.is_empty() && reasons.len() == 2, "{plan:?}");
            assert!(reasons[0].1.contains(word), "{reasons:?}");
        }
        for row in ["A;1", "A B;1;1.55;2026-02-01;2026-01-01", "A;1é;1.55;2026-02-01;2026-01-01"] {
            let unknown = rows(&format!("{head}{row}\n"), PARTS);
            assert!(Plan::of(&unknown).expect_err(row).contains("line 3"));
        }
        let stated = rows("a;n;x;d;i\nA;1;1.85;2026-03-01;2026-01-01\n", &format!("{PARTS}total='{{x}}0'\n"));
        assert!(Plan::of(&stated).is_ok(), "1.850 has too many decimals and is refused alone");
        let stated = rows("a;n;x;d;i;t\nA;1;1.85;2026-03-01;2026-01-01;3\n", &format!("{PARTS}total='{{t}}'\n"));
        let why = reasons(&Plan::of(&stated).expect("a plan"))[0].1.clone();
        assert!(why.contains("add up to 1.85 and not to 3.00"), "{why}");
    }

    proptest! {
        /// Every row is sent once or settled once, and each account's rows keep the order of the file.
        #[test]
        fn no_row_is_dropped_and_none_changes_places(
            file in prop::collection::vec(("[AB ]", "[12]", prop::sample::select(vec!["5", "6", "x", ""])), 0..30),
            parts in any::<bool>(),
        ) {
            let lines: String = file.iter().map(|(a, n, x)| format!("{a};{n};{x};2026-02-01;2026-01-01\n")).collect();
            let rows = rows(&format!("a;n;x;d;i\n{lines}"), if parts { PARTS } else { INVOICE });
            let is_nobodys = parts && file.iter().any(|(account, ..)| account == " ");
            let Ok(plan) = Plan::of(&rows) else {
                prop_assert!(is_nobodys);
                return Ok(());
            };
            prop_assert!(!is_nobodys);
            let mut seen: Vec<usize> = plan.settled.iter().map(|(row, _)| *row).collect();
            for documents in &plan.accounts {
                prop_assert!(documents.is_sorted_by_key(|planned| planned.rows[0]));
                seen.extend(documents.iter().flat_map(|planned| planned.rows.iter()));
            }
            seen.sort();
            prop_assert_eq!(seen, (0..rows.len()).collect::<Vec<_>>());
        }
    }
}
