//! Bytes in, answers and mails out, however the bytes are cut.

use super::*;

type Mails = Vec<(String, Vec<String>, Vec<u8>)>;

/// The replies to an input that comes in pieces of so many bytes, and the mails that come out.
fn said(input: &[u8], piece: usize) -> (String, Mails, Next) {
    let mut mails = Mails::new();
    let mut answers = Vec::new();
    let mut session = Session::new(|from, to, raw: Bytes| {
        mails.push((from, to, raw.to_vec()));
        mails.len() as u64
    });
    let mut buffer = BytesMut::new();
    let mut next = Next::More;
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        next = session.take(&mut buffer, &mut answers);
        assert!(buffer.len() <= MAX_COMMAND.max(MAX_LINE), "what waits is bounded");
        if next == Next::Close {
            break;
        }
    }
    drop(session);
    (String::from_utf8(answers).expect("text"), mails, next)
}

/// The answers' codes, without the lines of an answer before its last.
fn codes(answers: &str) -> Vec<&str> {
    answers.lines().filter(|line| line.as_bytes()[3] == b' ').map(|line| &line[..3]).collect()
}

const BEGIN: &str = "EHLO client\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n";

#[test]
fn pipelined_commands_are_answered_in_order_however_they_are_cut() {
    let input = format!(
        "{BEGIN}one\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@example.org>\r\nRCPT TO:<d@example.org>\r\nDATA\r\n.\r\nNOOP\r\nVRFY b\r\nQUIT\r\nNOOP\r\n"
    );
    for piece in 1..input.len() {
        let (answers, mails, next) = said(input.as_bytes(), piece);
        let expected = "250 250 250 354 250 250 250 250 354 250 250 252 221";
        assert_eq!((codes(&answers).join(" ").as_str(), next), (expected, Next::Close), "{piece}: {answers}");
        let of = |to: &[&str]| to.iter().map(|to| format!("{to}@example.org")).collect::<Vec<_>>();
        assert_eq!(mails[0], ("a@example.com".to_owned(), of(&["b"]), b"one\r\n".to_vec()));
        assert_eq!(mails[1], (String::new(), of(&["c", "d"]), vec![]));
        assert_eq!(mails.len(), 2);
    }
}

#[test]
fn the_greeting_names_what_it_can() {
    let (answers, ..) = said(b"EHLO client\r\nHELO client\r\n", 100);
    let expected = format!(
        "250-mail-sink\r\n250-SIZE {MAX_MESSAGE_BYTES}\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n250 mail-sink\r\n"
    );
    assert_eq!(answers, expected);
}

#[test]
fn doubled_dots_are_single_and_only_crlf_ends_a_line() {
    let message = "..\r\n.a\r\n...b\r\nc\n.\nd\r\n\n.\r\ne\r.\rf\r\n";
    let input = format!("{BEGIN}{message}.\r\n");
    for piece in 1..input.len() {
        let (answers, mails, _) = said(input.as_bytes(), piece);
        assert_eq!(mails.len(), 1, "{piece}: {answers}");
        let expected = b".\r\na\r\n..b\r\nc\n.\nd\r\n\n.\r\ne\r.\rf\r\n";
        assert_eq!(String::from_utf8_lossy(&mails[0].2), String::from_utf8_lossy(expected), "{piece}");
    }
    // A second mail behind an end that is none (known as SMTP smuggling) stays part of the first mail.
    for end in ["\n.\n", "\n.\r\n", "\r.\r\n", "\r\n.\n", "\r\n.\r"] {
        let input = format!("{BEGIN}x{end}MAIL FROM:<boss@example.com>\r\n.\r\n");
        let (answers, mails, _) = said(input.as_bytes(), 7);
        assert_eq!((codes(&answers).len(), mails.len()), (5, 1), "{end:?}: {answers}");
    }
}

#[test]
fn what_is_too_large_is_refused_and_the_next_is_taken() {
    let line = format!("{}\r\n", "x".repeat(MAX_LINE - 2));
    let fits = line.repeat(MAX_MESSAGE_BYTES / MAX_LINE);
    let longest = format!(".{line}");
    let cases = [
        (fits.clone(), "250"),
        (longest, "250"),
        (format!("{fits}{line}"), "552"),
        (format!("x{line}"), "554"),
        ("x".repeat(5 * MAX_LINE) + "\r\n", "554"),
        ("x".repeat(5 * MAX_LINE) + "\r\n.\r", "554"),
    ];
    for (message, code) in &cases {
        let end = if message.ends_with("\r\n") { "" } else { "\r\n" };
        let input = format!("{BEGIN}{message}{end}.\r\n{BEGIN}y\r\n.\r\n");
        for piece in [1009, 64 << 10] {
            let mut waits = said(input.as_bytes(), piece);
            assert_eq!(codes(&waits.0)[4..], [code, "250", "250", "250", "354", "250"], "{}", waits.0);
            assert_eq!(waits.1.pop().map(|mail| mail.2), Some(b"y\r\n".to_vec()), "nothing is left of the one before");
        }
    }
    let (answers, ..) =
        said(b"EHLO x\r\nMAIL FROM:<a@example.com> SIZE=2097153\r\nMAIL FROM:<a@example.com> SIZE=2097152\r\n", 100);
    assert_eq!(codes(&answers), ["250", "552", "250"]);
}

#[test]
fn recipients_are_bounded_and_those_before_stay() {
    let mut input = "EHLO x\r\nMAIL FROM:<a@example.com>\r\n".to_owned();
    input += &"RCPT TO:<b@example.org>\r\n".repeat(MAX_RECIPIENTS + 1);
    input += "DATA\r\n.\r\n";
    let (answers, mails, _) = said(input.as_bytes(), 1000);
    let codes = codes(&answers);
    assert_eq!(codes[2 + MAX_RECIPIENTS..], ["452", "354", "250"]);
    assert_eq!(mails[0].1.len(), MAX_RECIPIENTS);
}

#[test]
fn commands_have_their_order() {
    for (input, expected) in [
        ("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n", "503 503 503"),
        ("EHLO x\r\nDATA\r\nMAIL FROM:<a@example.com>\r\nMAIL FROM:<a@example.com>\r\nDATA\r\n", "250 503 250 503 554"),
        ("EHLO x\r\nMAIL FROM:<a@example.com>\r\nRSET\r\nRCPT TO:<b@example.org>\r\n", "250 250 250 503"),
        ("EHLO x\r\nMAIL FROM:<a@example.com>\r\nEHLO x\r\nRCPT TO:<b@example.org>\r\n", "250 250 250 503"),
    ] {
        assert_eq!(codes(&said(input.as_bytes(), 100).0).join(" "), expected, "{input}");
    }
}

#[test]
fn what_does_not_speak_smtp_is_shown_out() {
    let (answers, _, next) = said("nonsense\r\n".repeat(30).as_bytes(), 100);
    assert_eq!((codes(&answers).len(), codes(&answers).last(), next), (21, Some(&"421"), Next::Close));
    let (answers, _, next) = said(&[b'x'; 5_000], 100);
    assert_eq!((answers.as_str(), next), ("500 5.5.2 line too long\r\n", Next::Close));
    let (answers, ..) = said(b"NOOP\nNOOP\r\n\xff\xfe\r\n\0\r\n\r\n", 100);
    assert_eq!(codes(&answers), ["500", "250", "500", "500", "500"]);
}

/// Nothing that can be sent makes it panic, or keep what it should not.
#[test]
fn any_bytes_are_answered() {
    let words: [&[u8]; 16] = [
        b"EHLO x\r\n",
        b"MAIL FROM:<",
        b"a@b>",
        b"\r\n",
        b"RCPT TO:<a@b>\r\n",
        b"DATA\r\n",
        b".\r\n",
        b"\r",
        b"\n",
        b".",
        b"\"\\",
        b"\xff\x00",
        b"RSET\r\n",
        b" SIZE=9 ",
        &[b'x'; 999],
        b"<>",
    ];
    let mut state = 1_u64;
    for _ in 0..2_000 {
        let mut input = b"EHLO x\r\n".to_vec();
        for _ in 0..40 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            input.extend_from_slice(words[(state >> 60) as usize]);
        }
        let (answers, mails, _) = said(&input, input.len());
        for piece in [1, 13, 1500] {
            assert_eq!(said(&input, piece).1, mails, "{answers}");
        }
    }
}
