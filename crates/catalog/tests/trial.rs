//! The trial of a policy's templates on samples.

use saldo_catalog::{Published, Source};

/// The rules that the only template of a policy breaks.
fn broken(text: &str, read: impl Fn(&[Source]) -> (Option<Published>, Vec<saldo_catalog::Fault>)) -> Vec<String> {
    let name = "templates/courtesy.en.toml";
    let text = format!("subject = \"x\"\ntext = \"{text}\"\n");
    let (_, faults) = read(&[Source { name: name.to_owned(), text }]);
    faults.into_iter().filter(|fault| fault.file == name && fault.field == "text").map(|fault| fault.rule).collect()
}

#[test]
fn a_template_is_tried_when_it_is_published_while_there_is_time_and_never_again() {
    let sound = "Dear {{ debtor.name }}";
    let endless = "{% for a in items %}{% for b in items %}{% for c in items %}{% endfor %}{% endfor %}{% endfor %}x";
    assert_eq!(broken(sound, Published::read), Vec::<String>::new());
    assert!(broken(endless, Published::read)[0].contains("too long"));
    assert!(broken(sound, |sources| Published::read_while(sources, || false))[0].contains("was not tried"));
    assert_eq!(broken(endless, Published::read_again), Vec::<String>::new());
    assert_eq!(broken("{{ nobody }}", Published::read_again).len(), 1, "its form is checked all the same");
}
