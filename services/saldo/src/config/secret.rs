//! Passwords, and URLs that hold one.

use std::fmt;

use serde::Deserialize;
use url::Url;

/// A value that is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the value holds a password. A URL can come without.
    pub fn holds_password(&self) -> bool {
        let is_one = |key: &str| key.contains("password");
        match Url::parse(&self.0) {
            Ok(url) => url.password().is_some() || url.query_pairs().any(|(key, _)| is_one(&key)),
            Err(_) => is_one(&self.0),
        }
    }

    /// A URL with its password left out, for people.
    pub fn without_password(&self) -> String {
        let Ok(mut url) = Url::parse(&self.0) else { return "<secret>".to_owned() };
        // A password can stand behind the question mark too.
        url.set_query(None);
        match url.set_password(None) {
            Ok(()) => url.to_string(),
            // A URL without a host has no place for a password.
            Err(()) => "<secret>".to_owned(),
        }
    }
}

/// From a flag. Every text is taken, so that no message of clap's repeats it.
impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_wherever_it_stands() {
        for url in ["smtps://u:hunter2@h", "postgres://h/d?user=u&password=hunter2", "host=h password=hunter2"] {
            assert!(Secret::new(url).holds_password(), "{url}");
        }
        for url in ["smtp://u@h:25?tls=none", "postgres://u@h/d?sslmode=verify-full", "postgres:///d?host=/run"] {
            assert!(!Secret::new(url).holds_password(), "{url}");
        }
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        for url in ["postgres://u:hunter2@h:5/d", "postgres://h/d?user=u&password=hunter2", "host=h password=hunter2"] {
            assert!(!Secret::new(url).without_password().contains("hunter2"), "{url}");
        }
        assert_eq!(Secret::new("postgres://u:hunter2@h:5/d?x=1").without_password(), "postgres://u@h:5/d");
    }
}
