//! Any template can be made into a message: the work ends, is bounded, and gives a message. A template that was found sound
//! renders.
//!
//! Input: subject, text, HTML and the debtor's name, parted by NUL. libFuzzer's time-out watches the time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use saldo_templates::{Language, MAX_OUTPUT, MAX_SUBJECT, Template, samples};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.split('\0');
    let mut part = || parts.next().map(str::to_owned);
    let template = Template {
        name: "fuzz".into(),
        language: "en".into(),
        subject: part().unwrap_or_default(),
        text: part().unwrap_or_default(),
        html: part(),
    };
    let name = part();
    let sound = template.check().is_empty();
    for mut letter in samples(Language::English) {
        if let Some(name) = &name {
            letter.debtor.name.clone_from(name);
        }
        let message = match template.render(&letter) {
            Ok(message) => message,
            Err(error) => {
                assert!(!sound || name.is_some(), "found sound, and then: {error}");
                continue;
            }
        };
        assert!(message.subject.chars().count() <= MAX_SUBJECT && !message.subject.chars().any(char::is_control));
        for body in [Some(&message.text), message.html.as_ref()].into_iter().flatten() {
            assert!(!body.is_empty() && body.len() <= MAX_OUTPUT);
            assert!(!body.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')));
        }
    }
});
