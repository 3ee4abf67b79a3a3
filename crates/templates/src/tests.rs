//! The faults that are found when a template is published.

use super::*;

fn template(text: &str) -> Template {
    Template {
        name: "courtesy".into(),
        language: "en".into(),
        subject: "Your account with {{ creditor.name }}".into(),
        text: text.into(),
        html: None,
    }
}

fn faults(template: &Template) -> String {
    template.check().into_iter().map(|fault| format!("{}: {}; ", fault.field, fault.rule)).collect()
}

#[test]
fn a_sound_template_has_no_fault_and_makes_a_message() {
    let mut sound =
        template("Dear {{ debtor.name }},\n{% for item in items %}{{ item.document }} {{ item.open }}\n{% endfor %}");
    sound.html = Some("<p>Dear {{ debtor.name }}</p>".into());
    assert_eq!(faults(&sound), "");
    let variables = &samples(Language::English)[2];
    let message = sound.render(variables).expect("rendered");
    assert_eq!(message.subject, "Your account with Ejemplo, S.L.");
    assert!(message.text.contains("Muñoz & <Hijos> \"S.A.\",\nF-2026/001 1,234.50 EUR"), "{}", message.text);
    let html = message.html.expect("html");
    assert!(html.contains("Mu\u{f1}oz &amp; &lt;Hijos&gt;"), "{html}");
}

#[test]
fn each_fault_is_named_with_its_part() {
    for (text, word) in [
        ("{{ debtor.name", "line 1"),
        ("{{ debtor.nmae }}", "no variable debtor.nmae"),
        ("{{ invoice }}", "no variable invoice"),
        ("{% for item in items %}{{ item.total }}{% endfor %}", "not there"),
        ("{% for n in range(9) %}x{% endfor %}", "no variable range"),
        (
            "{% for a in items %}{% for b in items %}{% for c in items %}{% endfor %}{% endfor %}{% endfor %}x",
            "too long",
        ),
        ("{% for a in items %}{% for b in items %}{{ payment }}{% endfor %}{% endfor %}", "longer than"),
        ("{% for item in items %}{{ item.total | length }}{% endfor %}", "not there"),
        ("{{ items | nosuchfilter }}", "nosuchfilter"),
        ("{{ debtor.name | safe }}", "safe"),
        ("{{ items | sort | tojson }}", "sort"),
        (
            "{% for a in items %}{% set x = payment * 1000 %}{% set x = x ~ x %}{% set x = x ~ x %}{% endfor %}y",
            "too long",
        ),
        ("{% include 'other' %}", "include"),
        ("   ", "empty"),
    ] {
        let said = faults(&template(text));
        assert!(said.starts_with("text: ") && said.contains(word), "{text:?} gives {said:?}");
    }
    let long = template(&"x".repeat(MAX_SOURCE + 1));
    assert!(faults(&long).contains("at most"), "{}", faults(&long));
}

#[test]
fn nothing_gets_a_second_line_into_the_subject() {
    let two = Template { subject: "Invoice\nBcc: all@example.com".into(), ..template("x") };
    assert!(faults(&two).contains("subject: must come out as one line"), "{}", faults(&two));
    let turned = Template { subject: "Invoice \u{202e}".into(), ..two.clone() };
    let written_in_code = Template { subject: "Invoice {{ '\\u2028' }}.".into(), ..two.clone() };
    for template in [turned, written_in_code] {
        assert!(faults(&template).contains("subject: must come out as one line"), "{}", faults(&template));
    }
    let by_name = Template { subject: "For {{ debtor.name }}".into(), ..template("x") };
    assert_eq!(faults(&by_name), "");
    let mut variables = samples(Language::English)[0].clone();
    for name in ["Ana\r\nBcc: all@example.com", "Ana \u{202e}lig", "Ana\u{2028}Gil", "Ana\u{2029}Gil"] {
        variables.debtor.name = name.into();
        assert_eq!(by_name.render(&variables).expect_err("refused").part, "subject");
    }
}

#[test]
fn amounts_and_days_are_written_as_the_language_does() {
    let (eur, jpy) = (eur(), saldo_domain::money::Currency::new("JPY").expect("JPY"));
    for (minor, currency, spanish, english) in [
        (123_456_789, eur, "1.234.567,89 EUR", "1,234,567.89 EUR"),
        (-100_050, eur, "-1.000,50 EUR", "-1,000.50 EUR"),
        (7, eur, "0,07 EUR", "0.07 EUR"),
        (123_456, jpy, "123.456 JPY", "123,456 JPY"),
    ] {
        assert_eq!(amount(minor, currency, Language::Spanish), spanish);
        assert_eq!(amount(minor, currency, Language::English), english);
    }
    let last = jiff::civil::Date::constant(2026, 12, 31);
    assert_eq!(day(last, Language::Spanish), "31 de diciembre de 2026");
    assert_eq!(day(last, Language::English), "31 December 2026");
}

fn eur() -> saldo_domain::money::Currency {
    saldo_domain::money::Currency::new("EUR").expect("EUR")
}

#[test]
fn a_template_that_grows_without_bound_is_a_fault_and_never_exhausts_the_memory() {
    for source in ["{{ ('x' * 99999999999999999) | length }}", "{{ 'x' | indent(9999999999999) | length }}"] {
        assert_ne!(faults(&template(source)), "", "{source}");
    }
    let doubling = format!("{{% set a = payment %}}{}{{{{ a | length }}}}", "{% set a = a ~ a %}".repeat(25));
    assert_ne!(faults(&template(&doubling)), "");
}

#[test]
fn a_published_template_is_read_again_without_its_samples() {
    let slow =
        template("{% for a in items %}{% for b in items %}{% for c in items %}{% endfor %}{% endfor %}{% endfor %}x");
    assert!(faults(&slow).contains("too long"));
    assert_eq!(slow.check_form(), []);
    assert!(template("{{ nobody }}").check_form().len() == 1, "what it names is looked at all the same");
}
