"""A slow, plain reader and writer of declared messages: the oracle for the compiled functions.

It walks the same declarations one field at a time, and shares no code with `protocol.compiler`. It
follows the protocol guide: lengths as int16/int32 or as unsigned varints plus one where flexible,
null as -1 or 0, tagged fields at the end of each flexible struct, a nullable struct after one byte.
"""

import struct
from typing import Any

from protocol.errors import Malformed, UnsupportedField
from protocol.wire import FieldSpec, fields_of

FORMATS = {
    "int8": ">b",
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "float64": ">d",
}

_specs: dict[type[Any], list[FieldSpec]] = {}


def specs(cls: type[Any]) -> list[FieldSpec]:
    """The fields of a declaration, remembered."""
    if cls not in _specs:
        _specs[cls] = fields_of(cls)
    return _specs[cls]


def is_flexible(cls: type[Any], version: int) -> bool:
    """Whether this version of a top-level message is flexible (KIP-482)."""
    since: int | None = cls.FLEXIBLE_SINCE
    return since is not None and version >= since


def initial(spec: FieldSpec) -> Any:
    """A field's default; lists and structs are made anew."""
    if isinstance(spec.default, list):
        return []
    if spec.kind == "struct" and spec.default is not None:
        assert spec.struct is not None
        return spec.struct()
    return spec.default


def read_message(cls: type[Any], version: int, data: bytes, pos: int = 0) -> tuple[Any, int]:
    """(value, end of the message); Malformed where the bytes are no such message."""
    reader = Reader(data, pos, version, is_flexible(cls, version))
    return reader.struct(cls), reader.pos


def write_message(value: Any, version: int) -> bytes:
    """The message's bytes; UnsupportedField for what this version cannot carry."""
    return Writer(version, is_flexible(type(value), version)).struct(value)


class Reader:
    """Reads fields of one version from bytes, front to back."""

    def __init__(self, data: bytes, pos: int, version: int, flexible: bool) -> None:
        self.data = data
        self.pos = pos
        self.version = version
        self.flexible = flexible

    def take(self, count: int) -> bytes:
        if count < 0 or self.pos + count > len(self.data):
            raise Malformed("bytes end early")
        self.pos += count
        return self.data[self.pos - count : self.pos]

    def number(self, kind: str) -> Any:
        return struct.unpack(FORMATS[kind], self.take(struct.calcsize(FORMATS[kind])))[0]

    def uvarint(self) -> int:
        value = 0
        for index in range(5):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value
        raise Malformed("varint too long")

    def length(self, kind: str) -> int:
        return self.uvarint() - 1 if self.flexible else int(self.number(kind))

    def struct(self, cls: type[Any]) -> Any:
        value = cls()
        present = [s for s in specs(cls) if s.in_version(self.version)]
        for spec in present:
            if spec.tag is None:
                setattr(value, spec.name, self.field(spec))
        if self.flexible:
            tagged = {s.tag: s for s in present if s.tag is not None}
            for _ in range(self.uvarint()):
                number, size = self.uvarint(), self.uvarint()
                end = self.pos + size
                if end > len(self.data):
                    raise Malformed("tagged field cut off")
                spec = tagged.get(number)  # type: ignore[assignment]
                if spec is None:
                    self.pos = end
                    continue
                setattr(value, spec.name, self.field(spec))
                if self.pos != end:
                    raise Malformed("tagged field of another size")
        return value

    def field(self, spec: FieldSpec) -> Any:
        kind = spec.kind
        if kind in FORMATS:
            return self.number(kind)
        if kind == "bool":
            return self.take(1) != b"\0"
        if kind == "uuid":
            return self.take(16)
        if kind == "struct":
            return self.nested(spec)
        length = self.length("int16" if kind == "string" else "int32")
        if length < 0:
            if length != -1 or not spec.nullable(self.version):
                raise Malformed(f"{spec.name} is null")
            return None
        if kind == "array":
            return self.array(spec, length)
        if kind == "string" and length > 32767:
            raise Malformed("string too long")
        raw = self.take(length)
        return raw.decode("utf-8", "replace") if kind == "string" else raw

    def nested(self, spec: FieldSpec) -> Any:
        if spec.nullable(self.version):
            # A tagged one has a varint instead of a signed byte before it.
            lead = self.uvarint() - 1 if spec.tag is not None else self.number("int8")
            if lead < 0:
                return None
        assert spec.struct is not None
        return self.struct(spec.struct)

    def array(self, spec: FieldSpec, count: int) -> list[Any]:
        # No item is smaller than a byte: this bounds what a bare count can make us do.
        if count > len(self.data) - self.pos:
            raise Malformed("more items than bytes")
        assert spec.element is not None
        return [self.field(spec.element) for _ in range(count)]


class Writer:
    """Writes fields of one version. Tests override parts of it to tell lies."""

    def __init__(self, version: int, flexible: bool) -> None:
        self.version = version
        self.flexible = flexible

    @staticmethod
    def uvarint(value: int) -> bytes:
        out = bytearray()
        while value >= 0x80:
            out.append(value % 0x80 + 0x80)
            value //= 0x80
        return bytes(out) + bytes([value])

    def length(self, kind: str, length: int) -> bytes:
        return self.uvarint(length + 1) if self.flexible else struct.pack(FORMATS[kind], length)

    def struct(self, value: Any) -> bytes:
        out = b""
        tagged = self.extra_tags()
        for spec in specs(type(value)):
            item = getattr(value, spec.name)
            if not spec.in_version(self.version):
                if not spec.ignorable and item != initial(spec):
                    raise UnsupportedField(spec.name)
            elif spec.tag is None:
                out += self.field(spec, item)
            elif item != initial(spec):
                tagged[spec.tag] = self.field(spec, item)
        if self.flexible:
            out += self.uvarint(len(tagged))
            for number in sorted(tagged):
                out += self.uvarint(number) + self.uvarint(len(tagged[number])) + tagged[number]
        return out

    def extra_tags(self) -> dict[int, bytes]:
        """Tagged fields that no declaration knows, by number; none here."""
        return {}

    def field(self, spec: FieldSpec, value: Any) -> bytes:
        kind = spec.kind
        if value is None:
            return self.null(spec)
        if kind in FORMATS:
            return struct.pack(FORMATS[kind], value)
        if kind == "bool":
            return b"\1" if value else b"\0"
        if kind == "uuid":
            return bytes(value)
        if kind == "struct":
            return b"\1" * spec.nullable(self.version) + self.struct(value)
        if kind == "array":
            assert spec.element is not None
            items = b"".join(self.field(spec.element, item) for item in value)
            return self.length("int32", len(value)) + items
        raw = value.encode() if kind == "string" else bytes(value)
        if kind == "string" and len(raw) > 32767:
            raise UnsupportedField(f"{spec.name} is too long")
        return self.length("int16" if kind == "string" else "int32", len(raw)) + raw

    def null(self, spec: FieldSpec) -> bytes:
        if not spec.nullable(self.version):
            raise UnsupportedField(f"{spec.name} cannot be null")
        if spec.kind == "struct":
            return b"\xff" if spec.tag is None else b"\0"
        return self.length("int16" if spec.kind == "string" else "int32", -1)
