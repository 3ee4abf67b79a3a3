//! A record's value, byte for byte.
//!
//! ```text
//! "SALD"  u8 rule = 2  u8 kind  u8 length + tenant  u8 length + account  u64 version  parent [32]
//! u32 length + payload  u32 number of the log key  authenticator [32], and nothing after.
//! authenticator = HMAC-SHA-256(log key, SHA-256 of all before it)          Integers big-endian.
//! ```

use jiff::Timestamp;
use saldo_domain::ids::{AccountId, TenantId};
use sha2::{Digest, Sha256};

use crate::{
    Record,
    keys::{KeysError, LogKeys},
};

/// Largest value of a record. Kafka's default for a message is 1 MiB with its own overhead.
pub const MAX_COMMIT_BYTES: usize = 900_000;

const MAGIC: &[u8; 4] = b"SALD";
/// The acceptance rule's version. It never changes for a log.
const RULE: u8 = 2;
const FIRST_PARENT: &[u8] = b"saldo/first/1";

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first record of a partition.
    Genesis,
    /// A link of an account's chain.
    Commit,
}

/// A frame, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The kind.
    pub kind: Kind,
    /// Empty in a Genesis.
    pub tenant: &'a str,
    /// Empty in a Genesis.
    pub account: &'a str,
    /// From 1; 0 in a Genesis.
    pub version: u64,
    /// SHA-256 of the previous accepted record's whole value, or [`first_parent`]; zeros in a Genesis.
    pub parent: [u8; 32],
    /// Protobuf.
    pub payload: &'a [u8],
    /// The number of the log key that it was written under.
    pub key_number: u32,
    /// Tells a record of ours from a forged one.
    pub authenticator: [u8; AUTHENTICATOR],
}

/// Bytes of the authenticator, which ends the value.
const AUTHENTICATOR: usize = 32;

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends too early.
    #[error("it ends too early")]
    Short,
    /// Bytes behind the payload.
    #[error("it has bytes behind its payload")]
    Trailing,
    /// Not ours.
    #[error("it does not begin with SALD")]
    Magic,
    /// Another rule version.
    #[error("its rule version is not {RULE}")]
    Rule,
    /// Another kind.
    #[error("its kind is unknown")]
    Kind,
    /// An id that is none.
    #[error("its tenant or account is no identifier")]
    Id,
    /// A commit of version 0, or a Genesis of another.
    #[error("its version does not fit its kind")]
    Version,
    /// Larger than any writer makes.
    #[error("it is larger than {MAX_COMMIT_BYTES} bytes")]
    Large,
}

impl<'a> Frame<'a> {
    /// Reads a frame and nothing after it.
    pub fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        if value.len() > MAX_COMMIT_BYTES {
            return Err(Malformed::Large);
        }
        let mut rest = value;
        if take(&mut rest, 4)? != MAGIC {
            return Err(Malformed::Magic);
        }
        if byte(&mut rest)? != RULE {
            return Err(Malformed::Rule);
        }
        let kind = match byte(&mut rest)? {
            0 => Kind::Genesis,
            1 => Kind::Commit,
            _ => return Err(Malformed::Kind),
        };
        let tenant = text(&mut rest)?;
        let account = text(&mut rest)?;
        let version = u64::from_be_bytes(array(&mut rest)?);
        let parent = array(&mut rest)?;
        let length = u32::from_be_bytes(array(&mut rest)?) as usize;
        let payload = take(&mut rest, length)?;
        let key_number = u32::from_be_bytes(array(&mut rest)?);
        let authenticator = array(&mut rest)?;
        if !rest.is_empty() {
            return Err(Malformed::Trailing);
        }
        let ids_fit = match kind {
            Kind::Genesis => tenant.is_empty() && account.is_empty(),
            Kind::Commit => TenantId::new(tenant).is_ok() && AccountId::new(account).is_ok(),
        };
        if !ids_fit {
            return Err(Malformed::Id);
        }
        if (kind == Kind::Genesis) != (version == 0) {
            return Err(Malformed::Version);
        }
        Ok(Self { kind, tenant, account, version, parent, payload, key_number, authenticator })
    }

    /// The key the record must stand under.
    pub fn key(&self) -> String {
        match self.kind {
            Kind::Genesis => GENESIS_KEY.to_owned(),
            Kind::Commit => format!("{}/{}", self.tenant, self.account),
        }
    }
}

/// The key of a Genesis; no account has it, since it has no slash.
pub const GENESIS_KEY: &str = "genesis";

/// The key of a probe, by which an instance asks for the log's clock: no frame and no account's, so void to every reader.
pub const PROBE_KEY: &str = "clock";

/// The key of a place without a record, which a reader puts there itself: Kafka keeps a marker of its own at the end of a foreign
/// transaction. No frame stands under it by right either.
pub const MARKER_KEY: &str = "marker";

/// Writes a frame under the newest of these keys. Ids longer than a byte can count are cut, and then read as malformed: callers
/// pass checked ids.
pub fn encode(
    kind: Kind,
    tenant: &str,
    account: &str,
    version: u64,
    parent: [u8; 32],
    payload: &[u8],
    keys: &LogKeys,
) -> Vec<u8> {
    let key_number = keys.number_now();
    let frame = Frame { kind, tenant, account, version, parent, payload, key_number, authenticator: [0; 32] };
    let mut value = frame.before_authenticator();
    let authenticator = keys.tag(key_number, &hash(&value));
    value.extend_from_slice(&authenticator);
    value
}

impl Frame<'_> {
    /// Whether a writer of this log has written it. `before` is the digest of the bytes before the authenticator.
    pub(crate) fn is_ours(&self, before: &[u8; 32], keys: &LogKeys, appended_at: Timestamp) -> Result<bool, KeysError> {
        keys.wrote(self.key_number, before, &self.authenticator, appended_at)
    }

    /// The frame's bytes up to its authenticator, with room for it.
    pub fn before_authenticator(&self) -> Vec<u8> {
        let Self { kind, tenant, account, version, parent, payload, key_number, .. } = *self;
        let ids = tenant.len() + account.len();
        let mut value = Vec::with_capacity(4 + 2 + 2 + ids + 8 + 32 + 4 + payload.len() + 4 + AUTHENTICATOR);
        value.extend_from_slice(MAGIC);
        value.push(RULE);
        value.push(match kind {
            Kind::Genesis => 0,
            Kind::Commit => 1,
        });
        for id in [tenant, account] {
            value.push(id.len() as u8);
            value.extend_from_slice(id.as_bytes());
        }
        value.extend_from_slice(&version.to_be_bytes());
        value.extend_from_slice(&parent);
        value.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        value.extend_from_slice(payload);
        value.extend_from_slice(&key_number.to_be_bytes());
        value
    }
}

/// The frame of a record that a writer of ours has written under these keys; `None` where it is no such record.
pub fn ours<'r>(record: &'r Record, keys: &LogKeys) -> Result<Option<Frame<'r>>, KeysError> {
    let Ok(frame) = Frame::parse(&record.value) else { return Ok(None) };
    let is_ours = frame.is_ours(&digests(&record.value).0, keys, record.appended_at)?;
    Ok(Some(frame).filter(|_| is_ours))
}

/// SHA-256 of a record's whole value.
pub fn hash(value: &[u8]) -> [u8; 32] {
    Sha256::digest(value).into()
}

/// What the authenticator is made of, and [`hash`], in one pass.
pub(crate) fn digests(value: &[u8]) -> ([u8; 32], [u8; 32]) {
    let (before, authenticator) = value.split_at(value.len().saturating_sub(AUTHENTICATOR));
    let before = Sha256::new_with_prefix(before);
    let whole = before.clone().chain_update(authenticator);
    (before.finalize().into(), whole.finalize().into())
}

/// The partition of `tenant/account`: the first 8 bytes of SHA-256(key), big-endian, modulo the count.
pub fn partition_of(key: &str, count: u32) -> u32 {
    let digest = Sha256::digest(key.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    let partition = u64::from_be_bytes(first) % u64::from(count.max(1));
    // Below the count, which fits 32 bits.
    partition as u32
}

/// The parent of an account's first commit.
pub fn first_parent(log_id: &[u8; 16], key: &str) -> [u8; 32] {
    Sha256::new().chain_update(FIRST_PARENT).chain_update(log_id).chain_update(key.as_bytes()).finalize().into()
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, behind) = rest.split_at_checked(length).ok_or(Malformed::Short)?;
    *rest = behind;
    Ok(taken)
}

fn byte(rest: &mut &[u8]) -> Result<u8, Malformed> {
    take(rest, 1)?.first().copied().ok_or(Malformed::Short)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    take(rest, N)?.try_into().map_err(|_| Malformed::Short)
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Malformed> {
    let length = byte(rest)?;
    std::str::from_utf8(take(rest, usize::from(length))?).map_err(|_| Malformed::Id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::same::hex;

    const GOLDEN: &str = "53414c4402010461636d6503442d370000000000000002070707070707070707070707070707070707070707070707070707070707070700000002787900000001aa2263de269b32336c6e72284bda6132b4c852dabc292b79c58870406d657448";

    fn keys() -> LogKeys {
        LogKeys::fixed([3; 32])
    }

    #[test]
    fn the_bytes_of_a_commit_stay_as_they_are() {
        let value = encode(Kind::Commit, "acme", "D-7", 2, [7; 32], b"xy", &keys());
        assert_eq!(hex(&value), GOLDEN);
        assert_eq!(digests(&value).1, hash(&value));
    }

    #[test]
    fn partitions_and_first_parents_stay_as_they_are() {
        assert_eq!(partition_of("acme/D-7", 16), 2);
        assert_eq!(
            hex(&first_parent(&[1; 16], "acme/D-7")),
            "44fc6032bb96936a28c4fb30dbd20f83c12c2bd4d5a88a63cfd5f75ba40557a0"
        );
    }

    #[test]
    fn what_is_no_frame_is_said_to_be_malformed() {
        let good = encode(Kind::Commit, "acme", "D-7", 2, [7; 32], b"xy", &keys());
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let parse = |bytes: &[u8]| Frame::parse(bytes).map(|_| ());
        assert_eq!(parse(&good), Ok(()));
        assert_eq!(parse(&good[..good.len() - 1]), Err(Malformed::Short));
        assert_eq!(parse(&[&good[..], b"z"].concat()), Err(Malformed::Trailing));
        assert_eq!(parse(&with(0, b'X')), Err(Malformed::Magic));
        assert_eq!(parse(&with(4, 1)), Err(Malformed::Rule));
        assert_eq!(parse(&with(5, 9)), Err(Malformed::Kind));
        assert_eq!(parse(&with(7, b'/')), Err(Malformed::Id));
        assert_eq!(parse(&with(7, 0xff)), Err(Malformed::Id));
        assert_eq!(parse(&encode(Kind::Commit, "acme", "D-7", 0, [7; 32], b"", &keys())), Err(Malformed::Version));
        assert_eq!(parse(&encode(Kind::Commit, "", "D-7", 1, [7; 32], b"", &keys())), Err(Malformed::Id));
        assert_eq!(parse(&vec![0; MAX_COMMIT_BYTES + 1]), Err(Malformed::Large));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Frame::parse(&bytes);
            let _ = Frame::parse(&[&b"SALD\x02\x01"[..], &bytes].concat());
        }

        #[test]
        fn a_frame_reads_back_as_written(
            tenant in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
            account in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
            version in 1u64..,
            parent in any::<[u8; 32]>(),
            payload in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let value = encode(Kind::Commit, &tenant, &account, version, parent, &payload, &keys());
            let frame = Frame::parse(&value).expect("well-formed");
            prop_assert_eq!((frame.tenant, frame.account, frame.version), (tenant.as_str(), account.as_str(), version));
            prop_assert_eq!((frame.parent, frame.payload), (parent, payload.as_slice()));
            prop_assert_eq!([frame.before_authenticator().as_slice(), &frame.authenticator].concat(), value);
        }
    }
}
