//! Where in the log an answer stands.

use std::{fmt, str::FromStr};

/// A position of a log: a query given it waits until its read model has passed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsistencyToken {
    /// The log's identity.
    pub log_id: [u8; 16],
    /// The partition.
    pub partition: u32,
    /// The record's offset in it.
    pub offset: u64,
}

/// Not the text form of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a consistency_token as a command's answer gave it")]
pub struct InvalidToken;

/// `v1.<log id, 32 hex digits>.<partition>.<offset>`
impl fmt::Display for ConsistencyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("v1.")?;
        for byte in self.log_id {
            write!(f, "{byte:02x}")?;
        }
        write!(f, ".{}.{}", self.partition, self.offset)
    }
}

impl FromStr for ConsistencyToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let mut parts = text.split('.');
        let (Some("v1"), Some(hex), Some(partition), Some(offset), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidToken);
        };
        if hex.len() != 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidToken);
        }
        let log_id = u128::from_str_radix(hex, 16).map_err(|_| InvalidToken)?.to_be_bytes();
        Ok(Self {
            log_id,
            partition: partition.parse().map_err(|_| InvalidToken)?,
            offset: offset.parse().map_err(|_| InvalidToken)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_as_written() {
        let token = ConsistencyToken { log_id: [0xab; 16], partition: 7, offset: u64::MAX };
        assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn other_texts_are_no_tokens() {
        for text in ["", "v1", "v2.ab.1.1", "v1.+bababababababababababababababab.1.1", "v1.00.1.1", "v1.1.1.1.1"] {
            assert_eq!(text.parse::<ConsistencyToken>(), Err(InvalidToken), "{text}");
        }
    }
}
