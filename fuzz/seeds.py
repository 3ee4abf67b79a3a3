"""Makes seeds/ out of what the repository has: the golden events, the example policy, and a few rows and tokens."""

import hmac
import pathlib
import re
import shutil
from hashlib import sha256

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE / "../crates/facts/tests/golden"
POLICY = HERE / "../docs/policy"
# In the order of the list of facts, and behind it the catalog's, as targets/payload.rs has them.
LIST = (HERE / "../crates/facts/src/lib.rs").read_text().split("declare::facts! {", 1)[1].split("\n}\n", 1)[0]
CAMELS = re.findall(r"[A-Z]\w+(?=[,\s}])(?!\s+\w+_facts)", LIST)
TYPES = [re.sub(r"(?<!^)([A-Z])", r".\1", camel).lower() for camel in CAMELS]
TYPES += ["policy.published", "template.published", "sending.set"]


def golden(name):
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text().strip())


def event(kind):
    body = golden(max(path.stem for path in GOLDEN.glob(f"{kind}.v?.hex")))
    return bytes([TYPES.index(kind)]) + len(body).to_bytes(2, "big") + body


def frame(payload):
    head = b"SALD\x02\x01\x04acme\x03D-7" + (2).to_bytes(8, "big") + bytes([7]) * 32
    before = head + len(payload).to_bytes(4, "big") + payload + (1).to_bytes(4, "big")
    return before + hmac.digest(bytes([3]) * 32, sha256(before).digest(), "sha256")


def part(text, name):
    """One key's text of a template, between its quotes."""
    value = text.split(f"{name} = ", 1)[1]
    quote = "'''" if value.startswith("'''") else "'"
    return value[len(quote):].split(quote, 1)[0]


def templates():
    for path in sorted(POLICY.glob("templates/*.toml")):
        yield path.stem, path.read_text()


policy = (POLICY / "policy.toml").read_text()
seeds = {
    "frame": [frame(golden("commit")), frame(b""), bytes(range(48))],
    "payload": [b"\x00" + golden("commit"), b"\x01" + b"".join(map(event, TYPES[:-3]))]
    + [b"\x01" + event(kind) for kind in TYPES],
    "csv": [
        b"\x00D-1,F-1,1234.50,2026-01-31,2026-02-28,EUR\nD-2,F-2,-7,2026-01-31,2026-02-28,EUR\n",
        '\x0bD-1;F-1;"1.234,5";2026-01-31;2026-02-28;EUR\n'.encode(),
        '\x04D-1,F-1,1\u00a0234.5,2026-01-31,2026-02-28,JPY\n'.encode(),
        b"\x66D-1,F-1,1'234.567,2026-01-31,2026-02-28,KWD\nx\n",
        b"\xff[format]\ndate = '%d.%m.%Y'\ncurrency = '{c}'\ngroup = ' '\n[account]\nid = 'D-{id}'\n[payment]\n"
        b"reference = '{r}'\namount = '{a}'\nvalue_date = '{d}'\n\0id,c,r,a,d\n1,EUR,P-1,12,31.12.2026\n",
    ],
    "template": ["\0".join([part(text, "subject"), part(text, "text"), "<p>{{ debtor.name }}</p>", "Ana & <b>"]).encode()
                 for _, text in templates()],
    "policy": [policy.encode(), "\0".join([policy] + [text for pair in templates() for text in pair]).encode(),
               "\0".join([policy[:policy.index("[[step]]", policy.index("[[step]]") + 1)].replace("es\"  ", "en\"  ")]
                         + ["courtesy.en", "subject = 'x'\ntext = '''y'''\n"]).encode()],
    "token": [b"v1.abababababababababababababababab.7.18446744073709551615", b"Bearer eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.AA",
              b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwidGVuYW50IjoiYSIsImV4cCI6OTk5OTk5OTk5OSwiYXVkIjoic2FsZG8ifQ."],
}
shutil.rmtree(HERE / "seeds", ignore_errors=True)
for target, inputs in seeds.items():
    (HERE / "seeds" / target).mkdir(parents=True)
    (HERE / "corpus" / target).mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs):
        (HERE / "seeds" / target / f"{number:02}").write_bytes(data)
