//! A mail is one mail and always the same bytes, whatever stands in its fields.

use super::*;

pub(crate) fn sample() -> Mail {
    Mail {
        from_name: "Ejemplo, S.L.".into(),
        from: "cobros@example.com".into(),
        reply_to: Some("administracion@example.com".into()),
        to: "ana@example.org".into(),
        subject: "Próximo vencimiento".into(),
        text: "A la atención de Ana:\n.\nUn punto solo no acaba el mensaje.\n".into(),
        html: Some("<p>A la atención de Ana</p>".into()),
        id: "reminder-1".into(),
        date: "2026-03-02T09:00:00Z".parse().expect("an instant"),
    }
}

fn text(mail: &Mail) -> String {
    String::from_utf8(mail.build().expect("a mail").bytes().to_vec()).expect("text")
}

/// The header lines' names, in their order.
fn headers(mail: &str) -> Vec<&str> {
    let header = mail.split("\r\n\r\n").next().expect("a header");
    header.split("\r\n").filter(|line| !line.starts_with(' ')).filter_map(|line| line.split(':').next()).collect()
}

#[test]
fn the_same_mail_is_the_same_bytes() {
    for html in [sample().html, None] {
        let mail = Mail { html, ..sample() };
        let (once, again) = (mail.build().expect("a mail"), mail.build().expect("a mail"));
        assert_eq!(once.bytes(), again.bytes());
        assert_eq!(once.sha256(), again.sha256());
        assert_eq!(once.message_id(), "reminder-1@example.com");
        let other = Mail { id: "reminder-2".into(), ..mail }.build().expect("a mail");
        assert_ne!(once.sha256(), other.sha256());
    }
}

/// The history keeps the hash of a mail, and the mail may be built again years later. This test notices a library that
/// writes the mail in another way.
#[test]
fn the_bytes_of_today_are_those_of_tomorrow() {
    let hash: String = sample().build().expect("a mail").sha256().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, "7e2dbfb91fb44c8f68a0782e3eb76fc77d0b3446b1fe8d44ff6cbb3941718b3a", "{}", text(&sample()));
}

#[test]
fn no_part_can_contain_what_separates_the_parts() {
    let first = sample();
    let boundary = first.boundary(first.html.as_deref().expect("html"));
    assert!(text(&first).contains(&format!("boundary=\"{boundary}\"")), "{}", text(&first));
    assert_eq!(text(&first).matches(&format!("--{boundary}")).count(), 3);
    let quoting = Mail { text: format!("--{boundary}--\n"), ..first };
    assert!(!text(&quoting).contains(&format!("boundary=\"{boundary}\"")));
}

#[test]
fn nothing_in_a_header_can_end_its_line() {
    type Put = fn(&mut Mail, String);
    let fields: [(&str, Put); 6] = [
        ("subject", |mail, text| mail.subject = text),
        ("from_name", |mail, text| mail.from_name = text),
        ("from", |mail, text| mail.from = text),
        ("reply_to", |mail, text| mail.reply_to = Some(text)),
        ("to", |mail, text| mail.to = text),
        ("id", |mail, text| mail.id = text),
    ];
    for (field, put) in fields {
        for end in ["\r\n", "\n", "\r", "\0", "\u{85}", "\u{7f}", "\u{2028}", "\u{2029}", "\u{202e}", "\u{2066}"] {
            for before in ["", "x", "a@example.com", "a@example.com>"] {
                let mut mail = sample();
                put(&mut mail, format!("{before}{end}Bcc: all@example.com"));
                assert_eq!(mail.build().expect_err(field).field, field, "{before:?} {end:?}");
            }
        }
    }
}

#[test]
fn nothing_in_a_field_becomes_a_second_address_or_id() {
    type Put = fn(&mut Mail, String);
    let fields: [(&str, Put); 4] = [
        ("from", |mail, text| mail.from = text),
        ("reply_to", |mail, text| mail.reply_to = Some(text)),
        ("to", |mail, text| mail.to = text),
        ("id", |mail, text| mail.id = text),
    ];
    for (field, put) in fields {
        for wrong in [
            "",
            "ana@example.org, all@example.com",
            "ana@example.org>, <all@example.com",
            "<ana@example.org>",
            "Ana <ana@example.org>",
            "ana@example.org> SIZE=1",
            "añá@example.org",
            "ana@exámple.org",
            "ana@example.org ",
            "x> <y",
        ] {
            let mut mail = sample();
            put(&mut mail, wrong.into());
            assert_eq!(mail.build().expect_err(wrong).field, field, "{wrong:?}");
        }
    }
    for id in [".x", "x.", "x..y", "x@y", "x y", &"x".repeat(MAX_ID + 1)] {
        assert_eq!(Mail { id: id.into(), ..sample() }.build().expect_err(id).field, "id");
    }
    // A name may hold anything on one line: it is quoted or encoded, and the address stays the one after it.
    for name in ["Ana <all@example.com>, Luis", "\"Ana\" <all@example.com>", "a\\", "\\\" <all@example.com>", "Bcc: x"]
    {
        let mail = text(&Mail { from_name: name.into(), ..sample() });
        let from = mail.split("\r\n").find(|line| line.starts_with("From: ")).expect("a sender");
        assert!(from.ends_with(" <cobros@example.com>"), "{from}");
        let name = from.trim_start_matches("From: ").trim_end_matches(" <cobros@example.com>");
        let quoted = name.starts_with('"') && name.ends_with('"') && name.len() > 1;
        let encoded = name.split(' ').all(|word| word.starts_with("=?utf-8?b?") && word.ends_with("?="));
        assert!(quoted || encoded, "{from}");
    }
}

/// Every address that the domain takes can be rendered by the parser of the library that writes the mail.
#[test]
fn u9_every_address_that_an_account_can_have_can_stand_in_a_mail() {
    let longest = format!("{}@{}.{}.example.com", "l".repeat(64), "d".repeat(63), "e".repeat(63));
    let addresses = [
        "ana@example.org",
        "a@b.co",
        "ana.gil+facturas@sub.example.org",
        "!#$%&'*+-/=?^_`{|}~@example.com",
        "1.2.3@1a.example",
        "a@xn--mnchen-3ya.de",
        "A@EXAMPLE.COM",
        "a@e-x.com",
        longest.as_str(),
    ];
    for to in addresses {
        assert_eq!(saldo_domain::party::email::check_email(to), Ok(()), "{to}");
        Mail { to: to.into(), ..sample() }.build().expect(to);
    }
}

#[test]
fn a_mail_has_the_headers_it_should_have_and_no_others() {
    let hostile = Mail {
        subject: format!("{} Bcc: all@example.com", "muy largo y con acentos: ñ ".repeat(40)),
        from_name: format!("{}: ñ", "x ".repeat(400)),
        text: "\r\n\r\nBcc: all@example.com\r\n".into(),
        ..sample()
    };
    for mail in [sample(), hostile] {
        let mail = text(&mail);
        let expected = [
            "From",
            "To",
            "Subject",
            "Message-ID",
            "Date",
            "Auto-Submitted",
            "Reply-To",
            "MIME-Version",
            "Content-Type",
        ];
        assert_eq!(headers(&mail), expected, "{mail}");
    }
}

#[test]
fn lines_are_ended_in_one_way_and_none_is_too_long() {
    for part in ["a\rb\nc\r\nd\n\re\r", "\r.\r\n.\r\r\n\n.\n", "\n.\r\n", "", "ñ\r.\n", &"long ".repeat(1_000)] {
        for html in [None, Some(part.to_owned())] {
            let mail = text(&Mail { text: part.into(), html, ..sample() });
            assert!(mail.ends_with("\r\n"));
            assert!(!mail.replace("\r\n", "").contains(['\r', '\n']), "{mail:?}");
            // RFC 5322, 2.1.1.
            assert!(mail.split("\r\n").all(|line| line.len() <= 998), "{mail}");
        }
    }
    let nul = Mail { text: "a\0b".into(), ..sample() };
    assert_eq!(nul.build().expect_err("NUL").field, "text");
    let nul = Mail { html: Some("a\0b".into()), ..sample() };
    assert_eq!(nul.build().expect_err("NUL").field, "html");
}

#[test]
fn a_mail_has_a_longest_size() {
    let fits = Mail { text: "x\n".repeat(190_000), html: None, ..sample() };
    assert!(fits.build().expect("it fits").bytes().len() <= MAX_MAIL_BYTES);
    // The first is too long before it is encoded, the second only after.
    for long in ["x\n".repeat(MAX_MAIL_BYTES), "ñ\n".repeat(150_000)] {
        let error = Mail { text: long, ..sample() }.build().expect_err("too long");
        assert_eq!(error.to_string(), format!("mail must be of at most {MAX_MAIL_BYTES} bytes as it is sent"));
    }
}

#[test]
fn a_date_that_no_header_can_name_is_refused() {
    for (date, fits) in [(Timestamp::MIN, false), (Timestamp::UNIX_EPOCH, true), (Timestamp::MAX, true)] {
        assert_eq!(Mail { date, ..sample() }.build().is_ok(), fits, "{date}");
    }
}
