//! One line of a sender, read (RFC 5321, 4.1).

/// Longest path, in bytes (RFC 5321, 4.5.3.1.3).
const MAX_PATH: usize = 256;

/// A command of the sender.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'l> {
    Ehlo,
    Helo,
    /// MAIL: the sender's address, and the size that the sender announces.
    Mail {
        from: &'l str,
        size: Option<u64>,
    },
    Rcpt {
        to: &'l str,
    },
    Data,
    Rset,
    Noop,
    Vrfy,
    Quit,
}

/// Why a line is no command, as the answer to it.
pub(super) type Wrong = &'static str;

const SYNTAX: Wrong = "501 5.5.4 wrong syntax";
const ADDRESS: Wrong = "553 5.1.3 no such address can be: <local@domain> in ASCII, of at most 256 bytes";
const PARAMETER: Wrong = "555 5.5.4 unknown parameter";

impl<'l> Command<'l> {
    /// Reads a line, without its end.
    pub(super) fn parse(line: &'l [u8]) -> Result<Self, Wrong> {
        let line = str::from_utf8(line).map_err(|_| "500 5.5.2 not UTF-8")?;
        // A CR or LF within a line is where two servers would read different things.
        if line.chars().any(char::is_control) {
            return Err("500 5.5.2 control character in a command, or a line not ended by CR LF");
        }
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_end_matches(' ');
        let alone = |command| if rest.is_empty() { Ok(command) } else { Err(SYNTAX) };
        let named = |command| if rest.is_empty() { Err(SYNTAX) } else { Ok(command) };
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => named(Self::Ehlo),
            "HELO" => named(Self::Helo),
            "MAIL" => {
                let (from, parameters) = path(after(rest, "FROM:")?, true)?;
                Ok(Self::Mail { from, size: size(parameters)? })
            }
            "RCPT" => match path(after(rest, "TO:")?, false)? {
                (to, "") => Ok(Self::Rcpt { to }),
                _ => Err(PARAMETER),
            },
            "DATA" => alone(Self::Data),
            "RSET" => alone(Self::Rset),
            "QUIT" => alone(Self::Quit),
            "NOOP" => Ok(Self::Noop),
            "VRFY" => named(Self::Vrfy),
            _ => Err("500 5.5.1 unknown command"),
        }
    }
}

/// The text after a word that is written in upper or lower case.
fn after<'l>(text: &'l str, word: &str) -> Result<&'l str, Wrong> {
    match text.split_at_checked(word.len()) {
        Some((found, rest)) if found.eq_ignore_ascii_case(word) => Ok(rest.trim_start_matches(' ')),
        _ => Err(SYNTAX),
    }
}

/// The address between angle brackets, and what stands behind them. Within quotes a bracket is a letter.
fn path(text: &str, may_be_empty: bool) -> Result<(&str, &str), Wrong> {
    let text = text.strip_prefix('<').ok_or(SYNTAX)?;
    let (mut quoted, mut escaped) = (false, false);
    let end = text.char_indices().find_map(|(at, letter)| {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => return Some(at),
            _ => {}
        }
        None
    });
    let (address, rest) = text.split_at(end.ok_or(SYNTAX)?);
    let rest = match rest.strip_prefix('>') {
        Some("") => "",
        Some(rest) => rest.strip_prefix(' ').ok_or(SYNTAX)?,
        None => return Err(SYNTAX),
    };
    if address.is_empty() {
        return if may_be_empty { Ok((address, rest)) } else { Err(ADDRESS) };
    }
    let (local, domain) = address.rsplit_once('@').ok_or(ADDRESS)?;
    let spaced = !local.starts_with('"') && local.contains([' ', '<', '"']);
    if local.is_empty() || domain.is_empty() || domain.contains(' ') || spaced {
        return Err(ADDRESS);
    }
    if address.len() > MAX_PATH || !address.is_ascii() { Err(ADDRESS) } else { Ok((address, rest)) }
}

/// The parameters of MAIL (RFC 1870 and 6152).
fn size(parameters: &str) -> Result<Option<u64>, Wrong> {
    let mut size = None;
    for parameter in parameters.split(' ').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or(PARAMETER)?;
        match name.to_ascii_uppercase().as_str() {
            "SIZE" => size = Some(value.parse().map_err(|_| SYNTAX)?),
            "BODY" if value.eq_ignore_ascii_case("7BIT") || value.eq_ignore_ascii_case("8BITMIME") => {}
            _ => return Err(PARAMETER),
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_in_any_case() {
        assert_eq!(Command::parse(b"eHLO client"), Ok(Command::Ehlo));
        let mail = Command::Mail { from: "a@example.com", size: Some(42) };
        assert_eq!(Command::parse(b"mail from:<a@example.com> size=42 body=8bitmime"), Ok(mail));
        assert_eq!(Command::parse(b"MAIL FROM:<>"), Ok(Command::Mail { from: "", size: None }));
        assert_eq!(Command::parse(b"MAIL FROM: <> "), Ok(Command::Mail { from: "", size: None }));
        let quoted = Command::Rcpt { to: "\"a> \\\"b\"@example.com" };
        assert_eq!(Command::parse(b"RCPT TO:<\"a> \\\"b\"@example.com>"), Ok(quoted));
        assert_eq!(Command::parse(b"NOOP what ever"), Ok(Command::Noop));
    }

    #[test]
    fn what_is_no_command_is_said_to_be_none() {
        let cases: [(&[u8], &str); 17] = [
            (b"", "500"),
            (b"HELP", "500"),
            (b"EHLO", "501"),
            (b"DATA now", "501"),
            (b"MAIL", "501"),
            (b"MAIL TO:<a@example.com>", "501"),
            (b"MAIL FROM:a@example.com", "501"),
            (b"MAIL FROM:<a@example.com", "501"),
            (b"MAIL FROM:<a@example.com>SIZE=1", "501"),
            (b"MAIL FROM:<a@example.com> SIZE=-1", "501"),
            (b"MAIL FROM:<a@example.com> AUTH=<>", "555"),
            (b"RCPT TO:<>", "553"),
            (b"RCPT TO:<a b@example.com>", "553"),
            ("RCPT TO:<ñ@example.com>".as_bytes(), "553"),
            (b"RCPT TO:<a@example.com> NOTIFY=NEVER", "555"),
            (b"RCPT TO:<a@example.com>\rDATA", "500"),
            (b"RCPT TO:<a@example.com>\nDATA", "500"),
        ];
        for (line, code) in cases {
            let wrong = Command::parse(line).expect_err("no command");
            assert!(wrong.starts_with(code), "{}: {wrong}", String::from_utf8_lossy(line));
        }
        assert!(Command::parse(format!("RCPT TO:<{}@example.com>", "a".repeat(MAX_PATH)).as_bytes()).is_err());
    }
}
