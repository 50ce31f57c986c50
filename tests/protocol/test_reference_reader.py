"""Compiled code equals the plain reference reader and writer, on any value and on any bytes."""

import random
import tracemalloc
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.compiler import decoder, encoder
from protocol.errors import Malformed, UnsupportedField
from protocol.wire import (
    Bool,
    Bytes,
    FieldSpec,
    Float64,
    Int8,
    Int16,
    Int64,
    NullableBytes,
    NullableRecords,
    NullableString,
    Records,
    String,
    UInt16,
    UInt32,
    Uuid,
    ignorable,
    nullable_since,
    nullable_until,
    since,
    tag,
    until,
)
from tests.kit.reference_codec import (
    Writer,
    initial,
    is_flexible,
    read_message,
    specs,
    write_message,
)
from tests.kit.strategies import message_classes, profile, stored_classes, values, versions


@dataclass(slots=True)
class Nothing:
    later: Annotated[Int8, since(9)] = 0


@dataclass(slots=True)
class Corner:
    number: Int16 = 4
    gone: Annotated[String, until(0)] = "x"
    nothing: Annotated[Nothing | None, nullable_since(2)] = field(default_factory=Nothing)


@dataclass(slots=True)
class Language:
    """Everything the language can say, also what no message of Kafka's says today."""

    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    uuids: list[Uuid] = field(default_factory=list)
    bools: list[Bool] = field(default_factory=list)
    floats: list[Float64] = field(default_factory=list)
    blobs: list[Bytes] = field(default_factory=list)
    texts: list[NullableString] = field(default_factory=list)
    lists: list[list[UInt16]] = field(default_factory=list)
    nothings: list[Nothing] = field(default_factory=list)
    unsigned: UInt32 = 0
    corner: Annotated[Corner | None, since(1)] = None
    corners: Annotated[list[Corner] | None, since(1), nullable_until(2)] = None
    records: Annotated[NullableRecords, until(2)] = None
    needed: Records = b""
    text: Annotated[NullableString, nullable_since(1), nullable_until(2)] = "t"
    blob: Annotated[NullableBytes, since(2), tag(3)] = b"d"
    more: Annotated[list[Corner] | None, since(2), tag(200)] = None
    inner: Annotated[Corner | None, since(3), tag(1), ignorable] = None
    last: Annotated[Int64, since(2), tag(0)] = -1


CLASSES = [*message_classes(), *stored_classes(), Language]
all_classes = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
HUGE = 0x7FFFFFFE


def compiled(value: Any, version: int) -> bytes:
    out = bytearray()
    encoder(type(value), version)(value, out)
    return bytes(out)


def outcome(read: Any, cls: type[Any], version: int, data: bytes) -> tuple[bytes, int] | None:
    """What came out, as bytes (NaN is not equal to itself); None where it was refused."""
    try:
        value, end = read(cls, version, data)
    except Malformed:
        return None
    return write_message(value, version), end


def read_compiled(cls: type[Any], version: int, data: bytes) -> tuple[Any, int]:
    found: tuple[Any, int] = decoder(cls, version)(data, 0)
    return found


def mutations(data: bytes, seed: int) -> list[bytes]:
    """Some damaged copies: bits flipped, cut, lengths blown up, bytes put in."""
    chance = random.Random(seed)
    found = [data[: chance.randrange(len(data))]] if data else []
    for _ in range(6):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(len(damaged) + 1)
            put = chance.choice((b"\xff", b"\0", b"\x80", b"\xff\xff\xff\xff", b"\x7f", b"\x01"))
            width = chance.choice((0, 1, len(put)))
            damaged[at : at + width] = put
        found.append(bytes(damaged))
    return found


def compare(cls: type[Any], version: int) -> None:
    decode = decoder(cls, version)

    @profile(4)
    @given(values(cls, version), st.integers(0, 1 << 32))
    def check(value: Any, seed: int) -> None:
        data = compiled(value, version)
        assert data == write_message(value, version)
        assert read_message(cls, version, data) == (value, len(data))
        # What comes after the message is the caller's business.
        assert decode(b"ab" + data + b"\x01\x80\xff", 2) == (value, 2 + len(data))
        for damaged in mutations(data, seed):
            mine = outcome(read_compiled, cls, version, damaged)
            assert mine == outcome(read_message, cls, version, damaged)

    check()


@all_classes
def test_compiled_code_equals_the_plain_reader(cls: type[Any]) -> None:
    for version in versions(cls):
        compare(cls, version)


@all_classes
def test_every_shorter_prefix_is_malformed(cls: type[Any]) -> None:
    for version in versions(cls):
        data = write_message(full(cls, version), version)
        for size in range(len(data)):
            with pytest.raises(Malformed):
                decoder(cls, version)(data[:size], 0)


def full(cls: type[Any], version: int) -> Any:
    """A message with one item in each list and something in each nullable field."""
    value = cls()
    for spec in specs(cls):
        if spec.in_version(version):
            setattr(value, spec.name, _full_field(spec, version))
    return value


def _full_field(spec: FieldSpec, version: int) -> Any:
    if spec.kind == "array":
        assert spec.element is not None
        return [_full_field(spec.element, version)]
    if spec.kind == "struct":
        assert spec.struct is not None
        return full(spec.struct, version)
    if spec.kind == "string":
        return "s"
    if spec.kind in ("bytes", "records"):
        return b"b"
    if spec.kind == "uuid":
        return bytes(range(16))
    if spec.kind == "bool":
        return not initial(spec)
    return 1 if initial(spec) != 1 else 2


class Liar(Writer):
    """Tells a wrong length in the n-th field that has one, and writes nothing after it."""

    def __init__(self, version: int, flexible: bool, which: int, length: int) -> None:
        super().__init__(version, flexible)
        self.which = which
        self.lie = length
        self.victim: FieldSpec | None = None

    def struct(self, value: Any) -> bytes:
        return b"" if self.victim is not None else super().struct(value)

    def field(self, spec: FieldSpec, value: Any) -> bytes:
        if self.victim is not None:
            return b""
        if spec.kind in ("array", "string", "bytes", "records"):
            self.which -= 1
            if self.which < 0:
                self.victim = spec
                wide = self.flexible or spec.kind != "string"
                return self.told("int32" if wide else "int16")
        return super().field(spec, value)

    def told(self, kind: str) -> bytes:
        return self.length(kind, self.lie if kind == "int32" else max(self.lie, -1) % 32768)


def lies(cls: type[Any], version: int, length: int) -> list[tuple[FieldSpec, bytes]]:
    """The message with a wrong length in each of its variable fields in turn."""
    value = full(cls, version)
    found: list[tuple[FieldSpec, bytes]] = []
    while True:
        liar = Liar(version, is_flexible(cls, version), len(found), length)
        data = liar.struct(value)
        if liar.victim is None:
            return found
        found.append((liar.victim, data))


@all_classes
def test_absurd_lengths_allocate_nothing(cls: type[Any]) -> None:
    for version in versions(cls):
        decode = decoder(cls, version)
        decode(write_message(full(cls, version), version), 0)
        for spec, data in lies(cls, version, HUGE):
            tracemalloc.start()
            with pytest.raises(Malformed):
                decode(data, 0)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 64 * 1024, spec.name


class Nuller(Liar):
    """Says null in the n-th field that has a length, and goes on as if nothing had happened."""

    def field(self, spec: FieldSpec, value: Any) -> bytes:
        if spec.kind in ("array", "string", "bytes", "records"):
            self.which -= 1
            if self.which == -1:
                self.victim = spec
                return self.length("int16" if spec.kind == "string" else "int32", -1)
        return Writer.field(self, spec, value)

    def struct(self, value: Any) -> bytes:
        return Writer.struct(self, value)


@all_classes
def test_null_is_refused_where_it_is_not_allowed(cls: type[Any]) -> None:
    for version in versions(cls):
        value = full(cls, version)
        which = 0
        while True:
            nuller = Nuller(version, is_flexible(cls, version), which, 0)
            data = nuller.struct(value)
            if nuller.victim is None:
                break
            which += 1
            if nuller.victim.nullable(version):
                found = decoder(cls, version)(data, 0)
                assert found == read_message(cls, version, data)
                assert found[1] == len(data)
            else:
                with pytest.raises(Malformed):
                    decoder(cls, version)(data, 0)


class FromTheFuture(Writer):
    """Adds tagged fields that no declaration knows to every struct."""

    def extra_tags(self) -> dict[int, bytes]:
        return {99: b"", 16384: b"later" * 30}


@all_classes
def test_unknown_tags_are_skipped(cls: type[Any]) -> None:
    for version in versions(cls):
        if is_flexible(cls, version):
            value = full(cls, version)
            data = FromTheFuture(version, True).struct(value)
            assert decoder(cls, version)(data, 0) == (value, len(data))
            assert len(data) > len(write_message(value, version)) + 150


@all_classes
def test_what_a_version_lacks_is_refused_unless_ignorable(cls: type[Any]) -> None:
    for version in versions(cls):
        for spec in specs(cls):
            if spec.in_version(version):
                continue
            value = cls()
            setattr(value, spec.name, _full_field(spec, spec.since))
            if spec.ignorable:
                assert compiled(value, version) == compiled(cls(), version)
            else:
                with pytest.raises(UnsupportedField):
                    encoder(cls, version)(value, bytearray())


@all_classes
def test_null_is_not_written_where_it_is_not_allowed(cls: type[Any]) -> None:
    for version in versions(cls):
        for spec in specs(cls):
            if not spec.in_version(version) or spec.nullable(version) or spec.tag is not None:
                continue
            if spec.kind in ("array", "string", "bytes", "records", "struct"):
                value = cls()
                setattr(value, spec.name, None)
                with pytest.raises(UnsupportedField):
                    encoder(cls, version)(value, bytearray())


def test_strings_above_32767_bytes_are_refused() -> None:
    from protocol.messages.metadata import MetadataRequest, MetadataRequestTopic

    for version in (0, 9):
        longest = MetadataRequest(topics=[MetadataRequestTopic(name="ä" * 16383)])
        data = compiled(longest, version)
        assert decoder(MetadataRequest, version)(data, 0) == (longest, len(data))
        too_long = MetadataRequest(topics=[MetadataRequestTopic(name="ä" * 16384)])
        with pytest.raises(UnsupportedField):
            encoder(MetadataRequest, version)(too_long, bytearray())
    # A varint could say more than an int16: a client id of a million bytes is no client id.
    name = b"x" * 40000
    data = b"\x02" + b"\xc1\xb8\x02" + name + b"\0\0\0\0\0"
    with pytest.raises(Malformed, match="too long"):
        decoder(MetadataRequest, 9)(data, 0)
