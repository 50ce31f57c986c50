"""Byte equality, both ways, with kio: an independent codec generated from Kafka's own specs.

A value of ours is turned into kio's entity field by field, so that fields of one type that changed
places would show; then both encode, and each decodes what the other one wrote.
"""

import dataclasses
import datetime
import io
import types
import typing
import uuid
from typing import Any

import pytest
from hypothesis import given
from kio.index import load_entity_schema
from kio.schema.errors import ErrorCode as KioErrorCode
from kio.schema.index import schema_name_map
from kio.serial import entity_reader, entity_writer
from kio.static.constants import EntityType

from protocol.compiler import decoder, encoder
from protocol.wire import ZERO_UUID, FieldSpec
from tests.kit.reference_codec import specs
from tests.kit.strategies import message_classes, profile, stored_classes, values, versions

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
CODES = [code.value for code in KioErrorCode]

# kio's stems, where they are not ours.
STEMS = {
    "ConsumerProtocolSubscription": "consumer_protocol_subscription",
    "ConsumerProtocolAssignment": "consumer_protocol_assignment",
}
# kio has the names of an earlier release.
RENAMED = {
    "generation_id_or_member_epoch": "generation_id",
    "acceptable_recovery_lag_legacy": "acceptable_recovery_lag",
}


def known_to_kio() -> list[tuple[type[Any], int, type[Any]]]:
    """(our class, version, kio's class) of everything that both sides have."""
    found: list[tuple[type[Any], int, type[Any]]] = []
    for cls in message_classes() + stored_classes():
        if hasattr(cls, "API_KEY"):
            stem = cls.__module__.rsplit(".", 1)[1]
            request = cls.__name__.endswith("Request")
            kind = EntityType.request if request else EntityType.response
        elif cls.__name__ in STEMS:
            stem, kind = STEMS[cls.__name__], EntityType.data
        else:
            continue
        found += [
            (cls, version, load_entity_schema(stem, version, kind))
            for version in versions(cls)
            if kind in schema_name_map.get(stem, {}).get(version, {})
        ]
    return found


KNOWN = known_to_kio()


class Bridge:
    """Turns one of our values into kio's, and trims it first to what kio can hold."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.pairs: dict[type[Any], list[tuple[FieldSpec, Any, Any]]] = {}

    def entity(self, value: Any, theirs: type[Any]) -> Any:
        if theirs not in self.pairs:
            self.pairs[theirs] = self.matched(type(value), theirs)
        made = {}
        for spec, field, hint in self.pairs[theirs]:
            item = self.trim(spec, field, getattr(value, spec.name))
            setattr(value, spec.name, item)
            made[field.name] = self.convert(spec, field, hint, item)
        return theirs(**made)

    def matched(self, ours: type[Any], theirs: type[Any]) -> list[tuple[FieldSpec, Any, Any]]:
        """The fields of this version beside kio's, which come in the same order."""
        mine = [s for s in specs(ours) if s.in_version(self.version)]
        hints = typing.get_type_hints(theirs)
        pairs = list(zip(mine, dataclasses.fields(theirs), strict=True))
        for spec, field in pairs:
            names = [
                name.replace("_", "") for name in (spec.name, RENAMED.get(spec.name, spec.name))
            ]
            their_name = field.name.replace("_", "")
            assert their_name in names or their_name + "ms" in names
        return [(spec, field, hints[field.name]) for spec, field in pairs]

    def trim(self, spec: FieldSpec, field: Any, item: Any) -> Any:
        """kio has enums of error codes, and datetimes instead of ms since the epoch."""
        kind = field.metadata.get("kafka_type")
        if kind == "error_code":
            if spec.kind == "array":
                return item and [CODES[code % len(CODES)] for code in item]
            return CODES[item % len(CODES)]
        if kind == "datetime_i64":
            return item % (1 << 41)
        if kind == "timedelta_i64":
            return item % (1 << 44)
        return item

    def convert(self, spec: FieldSpec, field: Any, hint: Any, item: Any) -> Any:
        if item is None:
            return None
        if spec.kind == "array":
            element = spec.element
            assert element is not None
            inner = self.inner(hint)
            return tuple(self.convert(element, field, inner, each) for each in item)
        if spec.kind == "struct":
            return self.entity(item, self.inner(hint))
        if spec.kind == "uuid":
            return None if item == ZERO_UUID else uuid.UUID(bytes=item)
        if spec.kind in ("bytes", "records"):
            return bytes(item)
        return self.number(field.metadata["kafka_type"], item)

    @staticmethod
    def number(kind: str, item: Any) -> Any:
        if kind == "error_code":
            return KioErrorCode(item)
        if kind in ("timedelta_i32", "timedelta_i64"):
            return datetime.timedelta(milliseconds=item)
        if kind == "datetime_i64":
            return EPOCH + datetime.timedelta(milliseconds=item)
        return item

    @staticmethod
    def inner(hint: Any) -> Any:
        """The class inside of X | None and tuple[X, ...]."""
        if typing.get_origin(hint) in (types.UnionType, typing.Union):
            hint = next(a for a in typing.get_args(hint) if a is not type(None))
        if typing.get_origin(hint) is tuple:
            hint = typing.get_args(hint)[0]
        return hint


def compare(cls: type[Any], version: int, theirs: type[Any]) -> None:
    encode, decode = encoder(cls, version), decoder(cls, version)
    kio_write, kio_read = entity_writer(theirs), entity_reader(theirs)
    bridge = Bridge(version)

    @profile(5)
    @given(values(cls, version))
    def check(value: Any) -> None:
        entity = bridge.entity(value, theirs)
        mine = bytearray()
        encode(value, mine)
        with io.BytesIO() as buffer:
            kio_write(buffer, entity)
            written = buffer.getvalue()
        assert bytes(mine) == written
        found, size = kio_read(bytes(mine), 0)
        assert (found, size) == (entity, len(mine))
        assert decode(written, 0) == (value, len(written))

    check()


def test_kio_knows_most_of_it() -> None:
    assert len(KNOWN) > 480
    assert len({cls for cls, _, _ in KNOWN}) >= 140


@pytest.mark.parametrize(
    ("cls", "version", "theirs"), KNOWN, ids=lambda part: getattr(part, "__name__", str(part))
)
def test_bytes_equal_both_ways(cls: type[Any], version: int, theirs: type[Any]) -> None:
    compare(cls, version, theirs)
