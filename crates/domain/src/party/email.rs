//! E-mail addresses: which texts a mail can be sent to.

/// Longest address (RFC 5321, 4.5.3.1.3: a path of 256 with its angle brackets).
const MAX_ADDRESS: usize = 254;
/// Longest part before the @ (RFC 5321, 4.5.3.1.1).
const MAX_LOCAL: usize = 64;
/// Longest label of a domain (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;

/// Fails where no mail can be sent to a text, and says what an address must be. An address that passes is a dot-string, `@` and
/// a host name of two labels or more (RFC 5321, 4.1.2). The rule is narrower than the grammar, and all mail servers take such
/// addresses from each other. The part before the @ is ASCII, since few servers have the extension for other letters
/// (SMTPUTF8); a domain in other letters has an ASCII form.
pub fn check_email(text: &str) -> Result<(), &'static str> {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return Err("must be an e-mail address such as ana@example.com");
    };
    if text.len() > MAX_ADDRESS || local.len() > MAX_LOCAL {
        return Err("must have at most 64 characters before the @ and 254 in all");
    }
    if !local.is_ascii() {
        return Err("must have only ASCII before the @, since most mail servers take nothing else there");
    }
    if local.split('.').any(str::is_empty) {
        return Err("must have something before the @, with no dot at either end of it and no two dots in a row");
    }
    if !local.bytes().all(|b| b.is_ascii_alphanumeric() || b".!#$%&'*+-/=?^_`{|}~".contains(&b)) {
        return Err(
            "must have only letters, digits, dots and !#$%&'*+-/=?^_`{|}~ before the @, without spaces or quotes",
        );
    }
    if !domain.is_ascii() {
        return Err("must have its domain in ASCII, such as xn--mnchen-3ya.example for münchen.example");
    }
    let labels: Vec<&str> = domain.split('.').collect();
    let all_digits = |label: &&&str| label.bytes().all(|b| b.is_ascii_digit());
    if labels.len() < 2 || !labels.iter().all(|label| is_label(label)) || labels.last().filter(all_digits).is_some() {
        return Err(
            "must have a domain such as example.com after the @: words of at most 63 letters, digits and hyphens, with dots",
        );
    }
    Ok(())
}

fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}
