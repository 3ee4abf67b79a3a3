//! Files as people have them: a file is taken as it stands, and the same file always gives the same answer.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::tz::TimeZone;
use saldo::client::Clients;
use saldo_api::v1;
use saldo_clock::Clock;
use serde_json::{Value, json};

use crate::{Failure, Outcome, env::Env, process::Saldo};

const FORMAT: &str = "[format]\ndate = '%d.%m.%Y'\ndecimal = ','\ngroup = '.'\ndelimiter = ';'\ncurrency = 'EUR'\n";
const OPEN: &str = "[account.open]\ndisplay_name = 'Kunde {customer}'\nkind = 'business'\nlanguage = 'de'\n\
    time_zone = 'Europe/Berlin'\ncountry = 'DE'\n";
const INVOICE: &str = "[invoice]\nnumber = '{no}'\namount = '{amount}'\nissue_date = '{date}'\ndue_date = '{due}'\n";
const PAYMENT: &str = "[payment]\nreference = '{ref}'\namount = '{amount}'\nvalue_date = '{paid}'\ninvoice = '{no}'\n";

/// A folder of files, and a running service.
struct Importer {
    saldo: Saldo,
    /// Goes after the service that writes to it.
    dir: tempfile::TempDir,
}

impl Importer {
    async fn start() -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let saldo = Saldo::start(&dir.path().join("data"), &[]).await?;
        Ok(Self { dir, saldo })
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf, Failure> {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content)?;
        Ok(path)
    }

    /// A map whose accounts have this suffix.
    fn map(&self, suffix: &str, sections: &str) -> Result<PathBuf, Failure> {
        let account = format!("[account]\nid = 'K-{{customer}}{suffix}'\n{OPEN}");
        self.write(&format!("map{suffix}.toml"), format!("{FORMAT}{sections}{account}"))
    }

    /// The exit code and the summary.
    async fn import(&self, kind: &str, file: &Path, map: &Path, more: &[&str]) -> Result<(i32, Value), Failure> {
        let (file, map) = (file.display().to_string(), map.display().to_string());
        let args = [&["import", kind, &file, "--map", &map, "--json"], more].concat();
        let output = self.saldo.command(&args).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        let summary = serde_json::from_slice(&output.stdout).map_err(|_| said.into_owned())?;
        Ok((output.status.code().unwrap_or(-1), summary))
    }
}

/// How many rows were added, present, repeated, skipped and rejected.
fn counts(summary: &Value) -> [u64; 5] {
    ["added", "present", "repeated", "skipped", "rejected"].map(|key| summary[key].as_u64().unwrap_or(u64::MAX))
}

/// The open items of an account: document, instalment and minor units.
async fn open_items(clients: &Clients, account: &str) -> Result<Vec<(String, u32, i64)>, Failure> {
    let request = v1::ListOpenItemsRequest { account_id: account.into(), ..Default::default() };
    let items = clients.query.clone().list_open_items(request).await?.into_inner().items;
    Ok(items.into_iter().map(|item| (item.document, item.instalment, item.open_minor)).collect())
}

pub async fn u3_money_that_does_not_fit_stays_unapplied(_: Arc<Env>) -> Outcome {
    let importer = Importer::start().await?;
    let (invoices, payments) = (importer.map("", INVOICE)?, importer.map("-p", PAYMENT)?);
    // The payments import opens accounts, too.
    std::fs::write(&payments, std::fs::read_to_string(&payments)?.replace("{customer}-p", "{customer}"))?;
    let file = importer.write("invoices.csv", "customer;no;amount;date;due\n1;S1;1,00;01.01.2026;31.01.2026\n")?;
    assert_eq!(importer.import("invoices", &file, &invoices, &[]).await?.0, 0);
    let file = importer.write(
        "payments.csv",
        "customer;ref;amount;paid;no\n1;P1;5,00;01.02.2026;S1\n2;P2;7,00;01.02.2026;\n1;P3;2,00;01.02.2026;S9\n",
    )?;
    for present in [0, 3] {
        let (code, summary) = importer.import("payments", &file, &payments, &[]).await?;
        assert_eq!((code, counts(&summary)), (0, [3 - present, present, 0, 0, 0]), "{summary}");
        let unapplied = summary["unapplied"].as_array().ok_or("unapplied")?;
        let told: Vec<_> =
            unapplied.iter().map(|one| json!([one["line"], one["invoice"], one["amount_minor"]])).collect();
        assert_eq!(told, [json!([2, "S1", 400]), json!([3, "", 700]), json!([4, "S9", 200])]);
    }
    let (file, map) = (file.display().to_string(), payments.display().to_string());
    let said = importer.saldo.succeed(&["import", "payments", &file, "--map", &map]).await?;
    assert!(said.contains("13,00 EUR stay unapplied") && said.contains("line 2: 4,00 EUR of payment P1"), "{said}");
    // A credit note that does not fit is told, too.
    let credits = "[credit_note]\nnumber = '{ref}'\ninvoice = '{no}'\namount = '{amount}'\ndate = '{paid}'\n";
    let credits = importer.map("-c", credits)?;
    std::fs::write(&credits, std::fs::read_to_string(&credits)?.replace("{customer}-c", "{customer}"))?;
    let file = importer.write("credits.csv", "customer;ref;amount;paid;no\n1;C1;0,50;01.02.2026;S1\n")?;
    let (code, summary) = importer.import("credit-notes", &file, &credits, &[]).await?;
    assert_eq!((code, counts(&summary)), (0, [1, 0, 0, 0, 0]), "{summary}");
    let one = &summary["unapplied"][0];
    assert_eq!(json!([one["kind"], one["reference"], one["amount_minor"]]), json!(["credit note", "C1", 50]));
    let clients = importer.saldo.clients().await?;
    assert_eq!(
        open_items(&clients, "K-1").await?,
        [("C1".into(), 0, -50), ("P1".into(), 0, -400), ("P3".into(), 0, -200)]
    );
    assert_eq!(open_items(&clients, "K-2").await?, [("P2".into(), 0, -700)]);
    Ok(())
}

pub async fn u3_a_dry_run_foresees_what_stays_unapplied(_: Arc<Env>) -> Outcome {
    let importer = Importer::start().await?;
    let credit = "[credit_note]\nnumber = '{no}'\ninvoice = '{of}'\namount = '{amount}'\ndate = '{date}'\n";
    let invoices = importer.map("", &format!("{INVOICE}{credit}"))?;
    let payments = importer.map("-p", PAYMENT)?;
    std::fs::write(&payments, std::fs::read_to_string(&payments)?.replace("{customer}-p", "{customer}"))?;
    let as_foreseen = async |kind: &str, file: &Path, map: &Path| -> Result<Value, Failure> {
        let mut said = Vec::new();
        for more in [&["--dry-run"][..], &[]] {
            let (code, mut summary) = importer.import(kind, file, map, more).await?;
            for key in ["seconds", "dry_run"] {
                summary[key].take();
            }
            said.push((code, summary));
        }
        assert_eq!(said[0], said[1], "{kind}");
        Ok(said[1].1["unapplied"].take())
    };
    let told = |unapplied: &Value| -> Vec<(u64, i64)> {
        let one = |one: &Value| Some((one["line"].as_u64()?, one["amount_minor"].as_i64()?));
        unapplied.as_array().into_iter().flatten().filter_map(one).collect()
    };
    // Among invoices, credit notes of more than their invoice has; in the order of the file.
    let file = importer.write(
        "invoices.csv",
        "customer;no;amount;date;due;of\n1;A;10,00;01.01.2026;31.01.2026;\n1;B;20,00;01.01.2026;28.02.2026;\n\
         1;C;30,00;05.01.2026;15.01.2026;\n1;G1;-25,00;06.01.2026;;C\n1;G2;-7,50;06.01.2026;;C\n",
    )?;
    assert_eq!(told(&as_foreseen("invoices", &file, &invoices).await?), [(6, 250)]);
    // Two payments for one invoice. Then one for the oldest due, one for an invoice that is settled by then, and one for an account
    // that is opened.
    let file = importer.write(
        "payments.csv",
        "customer;ref;amount;paid;no\n1;P1;6,00;01.02.2026;A\n1;P2;6,00;01.02.2026;A\n1;P3;15,00;01.02.2026;\n\
         1;P4;9,00;02.02.2026;B\n2;P5;7,00;01.02.2026;\n1;P6;1,00;02.02.2026;none\n",
    )?;
    let first = as_foreseen("payments", &file, &payments).await?;
    assert_eq!(told(&first), [(3, 200), (5, 400), (6, 700), (7, 100)]);
    assert_eq!(as_foreseen("payments", &file, &payments).await?, first, "of payments that are present, too");
    Ok(())
}

pub async fn u3_u4_the_file_alone_decides(_: Arc<Env>) -> Outcome {
    let importer = Importer::start().await?;
    let (mut invoices, mut payments) =
        ("customer;no;amount;date;due\n".to_owned(), "customer;ref;amount;paid;no\n".to_owned());
    for customer in 1..=12 {
        // Two invoices, one of them again with other content and once more as it was.
        for row in ["A;10,00", "B;20,00", "A;11,00", "A;10,00"] {
            invoices += &format!("{customer};{row};01.01.2026;31.01.2026\n");
        }
        // 6.00 and 6.00 for the 10.00; then oldest due first; then a reference again with other content.
        for row in ["P1;6,00;01.02.2026;A", "P2;6,00;01.02.2026;A", "P3;15,00;01.02.2026;", "P1;7,00;01.02.2026;A"] {
            payments += &format!("{customer};{row}\n");
        }
    }
    let (invoices, payments) = (importer.write("invoices.csv", invoices)?, importer.write("payments.csv", payments)?);
    let clients = importer.saldo.clients().await?;
    let mut results = Vec::new();
    for (suffix, in_flight) in [("-a", "1"), ("-b", "64"), ("-c", "64")] {
        let map = importer.map(suffix, &format!("{INVOICE}{PAYMENT}"))?;
        let mut told = Vec::new();
        for (kind, file) in [("invoices", &invoices), ("payments", &payments)] {
            let (code, mut summary) = importer.import(kind, file, &map, &["--in-flight", in_flight]).await?;
            summary["seconds"].take();
            let rejected = std::fs::read_to_string(summary["rejected_file"].as_str().ok_or("no rejected rows")?)?;
            told.push((code, summary.to_string().replace(suffix, ""), rejected.replace(suffix, "")));
        }
        for customer in 1..=12 {
            let items = open_items(&clients, &format!("K-{customer}{suffix}")).await?;
            assert_eq!(items, [("B".into(), 1, 500), ("P2".into(), 0, -200)]);
        }
        results.push(told);
    }
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
    let (code, summary, rejected) = &results[0][0];
    assert_eq!((*code, counts(&serde_json::from_str(summary)?)), (3, [24, 0, 12, 0, 12]), "{summary}");
    assert!(
        rejected.contains("1;A;11,00;01.01.2026;31.01.2026;4;\"invoice A of account K-1 stands on line 2 "),
        "{rejected}"
    );
    Ok(())
}

pub async fn u7_equal_rows_are_counted(_: Arc<Env>) -> Outcome {
    let importer = Importer::start().await?;
    let sections = "[payment]\nreference = '{paid}-{amount}-{text}'\namount = '{amount}'\nvalue_date = '{paid}'\n";
    for (suffix, sections) in
        [("-a", sections), ("-b", &sections.replace("reference = '{paid}-{amount}-{text}'\n", ""))]
    {
        let map = importer.map(suffix, sections)?;
        let row = "1;45,00;01.02.2026;Miete\n";
        for (rows, added, present) in [(2, 2, 0), (3, 1, 2), (3, 0, 3)] {
            let file = importer.write("payments.csv", format!("customer;amount;paid;text\n{}", row.repeat(rows)))?;
            let (code, summary) = importer.import("payments", &file, &map, &[]).await?;
            assert_eq!((code, counts(&summary)), (0, [added, present, 0, 0, 0]), "{rows} rows: {summary}");
        }
        let items = open_items(&importer.saldo.clients().await?, &format!("K-1{suffix}")).await?;
        assert_eq!(items.iter().map(|(.., open)| *open).collect::<Vec<_>>(), [-4_500; 3]);
    }
    Ok(())
}

pub async fn u7_a_corrected_row_that_equals_an_accepted_one_is_not_lost(_: Arc<Env>) -> Outcome {
    let importer = Importer::start().await?;
    let map =
        importer.map("", "[payment]\nreference = '{text}-{paid}'\namount = '{amount}'\nvalue_date = '{paid}'\n")?;
    let wrong = "customer;text;amount;paid\n1;X;1,00;20.01.2026\n1;X;1,0O;20.01.2026\n";
    let file = importer.write("payments.csv", wrong)?;
    let (code, summary) = importer.import("payments", &file, &map, &[]).await?;
    assert_eq!((code, counts(&summary)), (3, [1, 0, 0, 0, 1]), "{summary}");
    let rejected = PathBuf::from(format!("{}.rejected.csv", file.display()));
    std::fs::write(&rejected, std::fs::read_to_string(&rejected)?.replace("1,0O", "1,00"))?;
    for more in [&["--dry-run"][..], &[]] {
        let (code, summary) = importer.import("payments", &rejected, &map, more).await?;
        assert_eq!((code, counts(&summary)), (3, [0, 0, 0, 0, 1]), "{summary}");
        assert!(summary.to_string().contains("correct FILE itself"), "{summary}");
    }
    std::fs::write(&file, wrong.replace("1,0O", "1,00"))?;
    let (code, summary) = importer.import("payments", &file, &map, &[]).await?;
    assert_eq!((code, counts(&summary)), (0, [1, 1, 0, 0, 0]), "{summary}");
    let items = open_items(&importer.saldo.clients().await?, "K-1").await?;
    assert_eq!(items.iter().map(|(.., open)| *open).collect::<Vec<_>>(), [-100; 2]);
    Ok(())
}

pub async fn rejected_rows_come_back(_: Arc<Env>) -> Outcome {
    let importer = Importer::start().await?;
    let sections = format!("{INVOICE}description = '{{text}}'\n").replace("\n\n", "\n");
    let map = importer.map("", &sections)?;
    // As a German spreadsheet writes it: windows-1252, CR LF, a quote, a line break in a field.
    let text = "customer;no;amount;date;due;text\r\n1;A-1;10,00;01.01.2026;31.01.2026;\"M\u{fc}ller\r\nS\u{f6}hne\"\r\n\
                1;A-2;zehn;01.01.2026;31.01.2026;\"sagt \"\"nein\"\" \u{fc}brigens\"\r\n1;A-3;5,00;2026-01-01;31.01.2026;x\r\n";
    let latin = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect::<Vec<u8>>();
    let file = importer.write("rows.csv", latin(text))?;
    let rejected = PathBuf::from(format!("{}.rejected.csv", file.display()));

    // Without its name the encoding is found out row by row, and the reason says what to do.
    let (code, summary) = importer.import("invoices", &file, &map, &["--dry-run"]).await?;
    assert_eq!((code, counts(&summary)), (3, [0, 0, 0, 0, 3]), "{summary}");
    assert!(summary.to_string().contains("--encoding windows-1252") && !rejected.exists(), "{summary}");

    let named = ["--encoding", "windows-1252"];
    let (code, summary) = importer.import("invoices", &file, &map, &named).await?;
    assert_eq!((code, counts(&summary)), (3, [1, 0, 0, 0, 2]), "{summary}");
    let expected = "customer;no;amount;date;due;text;saldo_line;saldo_reason\r\n\
        1;A-2;zehn;01.01.2026;31.01.2026;\"sagt \"\"nein\"\" \u{fc}brigens\";4;amount: must be a number such as 1.234,50\r\n\
        1;A-3;5,00;2026-01-01;31.01.2026;x;5;";
    let written = std::fs::read(&rejected)?;
    assert!(written.starts_with(&latin(expected)), "{}", String::from_utf8_lossy(&written));
    let text: String = written.iter().map(|byte| char::from(*byte)).collect();
    std::fs::write(&rejected, latin(&text.replace("zehn", "10,00").replace("2026-01-01", "01.01.2026")))?;
    let (code, summary) = importer.import("invoices", &rejected, &map, &named).await?;
    assert_eq!((code, counts(&summary)), (0, [2, 0, 0, 0, 0]), "{summary}");

    // A row that the service refused is corrected, too: the refusal does not stand in the way of the right row.
    let credits = importer
        .map("-c", "[credit_note]\nnumber = '{no}'\ninvoice = '{of}'\namount = '{amount}'\ndate = '{date}'\n")?;
    std::fs::write(&credits, std::fs::read_to_string(&credits)?.replace("{customer}-c", "{customer}"))?;
    let row = "customer;no;of;amount;date\n1;C-1;A-9;1,00;02.01.2026\n";
    let file = importer.write("credits.csv", row)?;
    let (code, summary) = importer.import("credit-notes", &file, &credits, &[]).await?;
    assert_eq!(code, 3, "{summary}");
    assert_eq!(summary["rejections"][0]["reason"], "account K-1 has no invoice A-9; import the invoices first");
    let rejected = PathBuf::from(format!("{}.rejected.csv", file.display()));
    std::fs::write(&rejected, std::fs::read_to_string(&rejected)?.replace("A-9;", "A-1;"))?;
    let (code, summary) = importer.import("credit-notes", &rejected, &credits, &[]).await?;
    assert_eq!((code, counts(&summary)), (0, [1, 0, 0, 0, 0]), "{summary}");

    // A quote that nobody closes ends the import before anything is sent, and leaves the former run's rows.
    let file =
        importer.write("credits.csv", format!("{row}1;C-2;\"A-1;1,00;02.01.2026\n1;C-3;A-1;1,00;02.01.2026\n"))?;
    let why = importer.import("credit-notes", &file, &credits, &[]).await.expect_err("an open quote").to_string();
    assert!(why.contains("line 3") && rejected.exists(), "{why}");
    let file = importer.write("credits.csv", row.replace("A-9", "A-1"))?;
    assert_eq!(importer.import("credit-notes", &file, &credits, &[]).await?.0, 0);
    assert!(!rejected.exists() && rejected.with_extension("csv.before").exists(), "they are set aside");
    Ok(())
}

pub async fn instalments_and_credit_notes(_: Arc<Env>) -> Outcome {
    let importer = Importer::start().await?;
    let credit = "[credit_note]\nnumber = '{no}'\ninvoice = '{of}'\namount = '{amount}'\ndate = '{date}'\n";
    let rows = importer.map("", &format!("{INVOICE}row = 'instalment'\n{credit}"))?;
    // In UTF-16, as some programs export it.
    let text = "\u{feff}customer;no;amount;date;due;of\r\n1;A;1,85;01.01.2026;31.03.2026;\r\n1;A;1,55;01.01.2026;28.02.2026;\r\n\
                1;G;-0,40;02.01.2026;;A\r\n2;A;3,40;01.01.2026;28.02.2026;\r\n";
    let file = importer.write("rows.csv", text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>())?;
    for present in [0, 4] {
        let (code, summary) = importer.import("invoices", &file, &rows, &[]).await?;
        assert_eq!((code, counts(&summary)), (0, [4 - present, present, 0, 0, 0]), "{summary}");
    }
    let clients = importer.saldo.clients().await?;
    assert_eq!(open_items(&clients, "K-1").await?, [("A".into(), 1, 115), ("A".into(), 2, 185)]);
    assert_eq!(open_items(&clients, "K-2").await?, [("A".into(), 1, 340)]);

    let parts = "[[invoice.instalments]]\ndue_date = '{due1}'\namount = '{part1}'\n\
                 [[invoice.instalments]]\ndue_date = '{due2}'\namount = '{part2}'\n";
    let columns = INVOICE.replace("due_date = '{due}'\n", "");
    let columns = importer.map("-c", &format!("{columns}{parts}"))?;
    let head = "customer;no;amount;date;due1;part1;due2;part2\n";
    let file = importer.write("columns.csv", format!("{head}1;A;3,40;01.01.2026;28.02.2026;1,55;31.03.2026;1,85\n"))?;
    let (code, summary) = importer.import("invoices", &file, &columns, &[]).await?;
    assert_eq!((code, counts(&summary)), (0, [1, 0, 0, 0, 0]), "{summary}");
    assert_eq!(open_items(&clients, "K-1-c").await?, [("A".into(), 1, 155), ("A".into(), 2, 185)]);
    Ok(())
}

pub async fn dry_run(_: Arc<Env>) -> Outcome {
    let importer = Importer::start().await?;
    let map = importer.map("", INVOICE)?;
    let head = "customer;no;amount;date;due\n";
    let file = importer.write("first.csv", format!("{head}1;A;10,00;01.01.2026;31.01.2026\n"))?;
    importer.import("invoices", &file, &map, &[]).await?;
    let before = importer.saldo.verify().await?["records"].as_u64();
    // In order: a row that is present, one that was recorded before with other content, a new row, its repeat, a row with a
    // faulty amount, and one whose account is opened.
    let rows = "1;A;10,00;01.01.2026;31.01.2026\n1;B;5,00;01.01.2026;31.01.2026\n1;B;5,00;01.01.2026;31.01.2026\n\
                1;C;x;01.01.2026;31.01.2026\n2;A;10,00;01.01.2026;31.01.2026\n;;;;\n";
    let file = importer.write("second.csv", format!("{head}{rows}"))?;
    let (code, mut dry) = importer.import("invoices", &file, &map, &["--dry-run"]).await?;
    assert_eq!((code, counts(&dry)), (3, [2, 1, 1, 1, 1]), "{dry}");
    assert_eq!(importer.saldo.verify().await?["records"].as_u64(), before, "a dry run records nothing");
    let (_, mut wet) = importer.import("invoices", &file, &map, &[]).await?;
    for key in ["seconds", "dry_run", "rejected_file"] {
        for summary in [&mut dry, &mut wet] {
            summary[key].take();
        }
    }
    assert_eq!(dry, wet);
    // A payment may be dated one day ahead.
    let payments = importer.map("-p", PAYMENT)?;
    let ahead = Clock::system().now().to_zoned(TimeZone::UTC).date().tomorrow()?.strftime("%d.%m.%Y");
    let paid = importer.write("paid.csv", format!("customer;ref;amount;paid;no\n1;P1;1,00;{ahead};\n"))?;
    assert_eq!(importer.import("payments", &paid, &payments, &[]).await?.0, 0);
    for more in [&["--dry-run"][..], &[]] {
        let (code, summary) = importer.import("payments", &paid, &payments, more).await?;
        assert_eq!((code, counts(&summary)), (0, [0, 1, 0, 0, 0]), "{summary}");
    }
    let other = importer.write("third.csv", format!("{head}1;A;11,00;01.01.2026;31.01.2026\n"))?;
    for more in [&["--dry-run"][..], &[]] {
        let (_, summary) = importer.import("invoices", &other, &map, more).await?;
        let reason = summary["rejections"][0]["reason"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            reason,
            "invoice A of account K-1 was recorded before with other content, or was taken back since; the record stays"
        );
    }
    // A profile is wanted for an account that is missing, and for no other.
    let named = std::fs::read_to_string(&map)?.replace("Kunde {customer}", "{name}");
    let named = importer.write("named.toml", named)?;
    let head = "customer;name;no;amount;date;due\n";
    let file = importer.write("named.csv", format!("{head}1;;N;1,00;01.01.2026;31.01.2026\n"))?;
    for more in [&["--dry-run"][..], &[]] {
        let (code, summary) = importer.import("invoices", &file, &named, more).await?;
        assert_eq!((code, counts(&summary)), (0, [1, 0, 0, 0, 0]), "{summary}");
    }
    let file = importer.write("nameless.csv", format!("{head}9;;N;1,00;01.01.2026;31.01.2026\n"))?;
    let (code, summary) = importer.import("invoices", &file, &named, &[]).await?;
    let reason = summary["rejections"][0]["reason"].as_str().unwrap_or_default();
    assert!(code == 3 && reason.starts_with("account.open.display_name"), "{summary}");
    Ok(())
}
