"""Keys and values with their leading int16, for the topics of the coordinators."""

import importlib
from struct import Struct
from struct import error as struct_error
from typing import Any, TypeAlias, TypeVar

from protocol.compiler import decoder, encoder
from protocol.errors import Malformed
from protocol.wire import Buffer

T = TypeVar("T")
RecordTypes: TypeAlias = dict[int, tuple[str, str]]
"""Kind of record -> module of `protocol.stored`, and what the names of key and value share."""

_INT16 = Struct(">h")


def leading_int16(data: Buffer) -> int:
    """The kind of record (keys) or the version (values)."""
    try:
        (number,) = _INT16.unpack_from(data, 0)
    except struct_error as error:
        raise Malformed(f"a stored record is cut off: {error}") from None
    return int(number)


def encode_key(key: Any) -> bytes:
    """A record's key: its kind, then its fields."""
    out = bytearray(_INT16.pack(key.RECORD_TYPE))
    encoder(type(key), 0)(key, out)
    return bytes(out)


def encode_value(value: Any, version: int | None = None) -> bytes:
    """A record's value (or a blob): its version, then its fields; the highest version by default.

    Raises UnsupportedField for what the version cannot carry.
    """
    number = value.VERSIONS[1] if version is None else version
    out = bytearray(_INT16.pack(number))
    encoder(type(value), number)(value, out)
    return bytes(out)


def decode_versioned(cls: type[T], data: Buffer) -> T:
    """A value of this class. Malformed if its version is not one that was ever written."""
    version = leading_int16(data)
    low, high = cls.VERSIONS  # type: ignore[attr-defined]
    if not low <= version <= high:
        raise Malformed(f"{cls.__name__} has no version {version}")
    return decoder(cls, version)(data, 2)[0]


def decode_key(types: RecordTypes, data: Buffer) -> Any | None:
    """A key of a topic whose kinds are given; None for a kind of some later release."""
    row = types.get(leading_int16(data))
    if row is None:
        return None
    return decoder(_declared(*row, "Key"), 0)(data, 2)[0]


def decode_value(types: RecordTypes, kind: int, data: Buffer | None) -> Any | None:
    """The value that belongs to a key of this kind; None is a tombstone and stays None."""
    if data is None:
        return None
    return decode_versioned(_declared(*types[kind], "Value"), data)


def _declared(module: str, name: str, suffix: str) -> type[Any]:
    found: type[Any] = getattr(importlib.import_module(f"protocol.stored.{module}"), name + suffix)
    return found
