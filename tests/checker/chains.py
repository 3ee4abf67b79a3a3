"""The log's rule: frames, Genesis, chains. The first in log order that extends its account's head counts, no other does."""

import hmac
import re
import struct
from dataclasses import dataclass, field
from hashlib import sha256

MAX_COMMIT_BYTES = 900_000
IDENTIFIER = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
GENESIS, COMMIT = 0, 1


class Malformed(Exception):
    """Not a frame."""


@dataclass
class Frame:
    kind: int
    tenant: str
    account: str
    version: int
    parent: bytes
    payload: bytes
    key: int
    authenticator: bytes


@dataclass
class Accepted:
    """A commit that counts, and where it stands."""

    tenant: str
    account: str
    version: int
    partition: int
    offset: int
    payload: dict
    # Records that are the same, byte for byte: instances decided one request on one head in one microsecond.
    copies: int = 1


@dataclass
class Log:
    """What the topic says."""

    log_id: bytes = b""
    partitions: int = 0
    records: int = 0
    accepted: list = field(default_factory=list)
    # By the hash of the record's value.
    commits: dict = field(default_factory=dict)
    void: dict = field(default_factory=dict)
    # tenant/account: (hash, version)
    heads: dict = field(default_factory=dict)
    ends: dict = field(default_factory=dict)
    faults: list = field(default_factory=list)

    @property
    def void_count(self):
        return sum(self.void.values())


def parse(value):
    """"SALD" rule kind, tenant and account with their lengths, version, parent, payload with its length, number of the log key,
    authenticator; nothing after."""
    if len(value) > MAX_COMMIT_BYTES:
        raise Malformed("too large")
    if value[:5] != b"SALD\x02":
        raise Malformed("not ours, or another rule")
    try:
        kind, at, ids = value[5], 6, []
        for _ in range(2):
            length = value[at]
            ids.append(value[at + 1 : at + 1 + length])
            if len(ids[-1]) != length:
                raise Malformed("short")
            at += 1 + length
        version, parent, length = struct.unpack_from(">Q32sI", value, at)
    except (IndexError, struct.error) as error:
        raise Malformed("short") from error
    payload, end = value[at + 44 : at + 44 + length], value[at + 44 + length :]
    if len(payload) != length or len(end) != 36:
        raise Malformed("another length than it says")
    if kind not in (GENESIS, COMMIT):
        raise Malformed("unknown kind")
    if kind == GENESIS and (version != 0 or any(ids)):
        raise Malformed("a Genesis of something")
    if kind == COMMIT and (version == 0 or not all(IDENTIFIER.fullmatch(one) for one in ids)):
        raise Malformed("ids or version")
    return Frame(kind, ids[0].decode(), ids[1].decode(), version, parent, payload, int.from_bytes(end[:4], "big"), end[4:])


def read_keys(path):
    """The keys of records, by number, as `log.keys` holds them."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return {int(line[0]): bytes.fromhex(line[1]) for line in lines if line[0].isdigit()}


def is_ours(frame, value, keys):
    key = keys.get(frame.key)
    return key is not None and hmac.digest(key, sha256(value[:-32]).digest(), "sha256") == frame.authenticator


def partition_of(key, count):
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big") % count


def first_parent(log_id, key):
    return sha256(b"saldo/first/1" + log_id + key.encode()).digest()


def judge(records, schema, keys):
    """Reads (partition, offset, key, value) in log order by partition, partition 0 first."""
    log = Log()
    for partition, offset, key, value in records:
        log.records += 1
        if offset != log.ends.get(partition, 0):
            log.faults.append(f"{partition}/{offset}: offset {log.ends.get(partition, 0)} was to come")
        log.ends[partition] = offset + 1
        if offset == 0:
            genesis(log, schema, keys, partition, key, value)
            continue
        why = void(log, schema, keys, partition, offset, key, value)
        if why:
            log.void[why] = log.void.get(why, 0) + 1
    for partition in range(log.partitions):
        if partition not in log.ends:
            log.faults.append(f"partition {partition} has no Genesis")
    return log


def genesis(log, schema, keys, partition, key, value):
    try:
        frame = parse(value)
        payload = schema.decode("GenesisPayload", frame.payload)
    except (Malformed, ValueError) as error:
        log.faults.append(f"{partition}/0 is no Genesis: {error}")
        return
    if partition == 0:
        log.log_id, log.partitions = payload["log_id"], payload["partition_count"]
    expected = {"log_id": log.log_id, "partition": partition, "partition_count": log.partitions, "format": 1}
    right = frame.kind == GENESIS and key == b"genesis" and frame.parent == bytes(32) and len(log.log_id) == 16
    if not right or payload != expected or not is_ours(frame, value, keys):
        log.faults.append(f"{partition}/0 is another log's Genesis, or none: {payload}")


def void(log, schema, keys, partition, offset, key, value):
    """Why a record does not count; None where it does, and is taken in."""
    try:
        frame = parse(value)
    except Malformed as error:
        return f"malformed: {error}"
    if frame.kind == GENESIS:
        return "a late Genesis"
    name = f"{frame.tenant}/{frame.account}"
    if key != name.encode():
        return "another key"
    if partition_of(name, log.partitions) != partition:
        return "another partition"
    if not is_ours(frame, value, keys):
        return "forged"
    head, version = log.heads.get(name, (first_parent(log.log_id, name), 0))
    hash = sha256(value).digest()
    if frame.parent != head or frame.version != version + 1:
        if hash in log.commits:
            log.commits[hash].copies += 1
        return "not on the head"
    log.heads[name] = (hash, frame.version)
    payload = schema.decode("CommitPayload", frame.payload)
    commit = Accepted(frame.tenant, frame.account, frame.version, partition, offset, payload)
    log.accepted.append(commit)
    log.commits[hash] = commit
    return None
