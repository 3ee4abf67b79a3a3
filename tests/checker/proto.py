"""Protobuf, read with nothing but the .proto files: their text gives the fields, the bytes are taken apart here."""

import re
from pathlib import Path

SCALARS = {"string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "sint32"}


class Schema:
    """Messages and enums by name. A message is {number: (name, type, repeated)}."""

    def __init__(self, directory):
        self.messages = {}
        self.enums = set()
        for path in sorted(Path(directory).rglob("*.proto")):
            self._read(path.read_text())
        # Of Google's own, the one that is stored.
        self.messages["Timestamp"] = {1: ("seconds", "int64", False), 2: ("nanos", "int32", False)}

    def _read(self, text):
        text = re.sub(r"//[^\n]*", "", text)
        scope = []
        token = re.compile(
            r"(?P<open>message|enum|service|oneof)\s+(?P<name>\w+)\s*\{"
            r"|(?P<close>\})"
            r"|(?P<label>repeated|optional)?\s*\b(?P<type>[\w.]+)\s+(?P<field>\w+)\s*=\s*(?P<number>\d+)\s*;"
        )
        for found in token.finditer(text):
            if found["open"]:
                scope.append((found["open"], found["name"]))
                if found["open"] == "message":
                    self.messages.setdefault(found["name"], {})
                elif found["open"] == "enum":
                    self.enums.add(found["name"])
            elif found["close"]:
                if scope:
                    scope.pop()
            else:
                owner = next((name for kind, name in reversed(scope) if kind == "message"), None)
                if owner and scope[-1][0] != "enum":
                    kind = found["type"].rsplit(".", 1)[-1]
                    self.messages[owner][int(found["number"])] = (found["field"], kind, found["label"] == "repeated")

    def decode(self, message, data):
        """A message as a dict with every field that it has: absent scalars as proto3 reads them, absent messages as None."""
        fields = self.messages[message]
        value = {name: self._absent(kind, repeated) for name, kind, repeated in fields.values()}
        at = 0
        while at < len(data):
            key, at = varint(data, at)
            number, wire = key >> 3, key & 7
            if wire == 0:
                raw, at = varint(data, at)
            elif wire == 2:
                length, at = varint(data, at)
                raw, at = data[at : at + length], at + length
                if len(raw) != length:
                    raise ValueError(f"{message}: field {number} ends too early")
            else:
                raise ValueError(f"{message}: wire type {wire} is not used")
            if number not in fields:
                raise ValueError(f"{message}: there is no field {number}")
            name, kind, repeated = fields[number]
            if not repeated:
                value[name] = self._value(kind, raw)
            elif wire == 2 and kind in SCALARS - {"string", "bytes"}:
                inner = 0
                while inner < len(raw):
                    one, inner = varint(raw, inner)
                    value[name].append(self._value(kind, one))
            else:
                value[name].append(self._value(kind, raw))
        return value

    def _absent(self, kind, repeated):
        if repeated:
            return []
        if kind == "string":
            return ""
        if kind == "bytes":
            return b""
        return 0 if kind in SCALARS or kind in self.enums else None

    def _value(self, kind, raw):
        if kind == "string":
            return raw.decode("utf-8")
        if kind == "bytes":
            return bytes(raw)
        if kind == "sint32":
            return (raw >> 1) ^ -(raw & 1)
        if kind in ("int32", "int64"):
            return raw - (1 << 64) if raw >> 63 else raw
        if kind in SCALARS or kind in self.enums:
            return raw
        return self.decode(kind, raw)


def varint(data, at):
    """A base-128 number and the place behind it."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number that does not end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
