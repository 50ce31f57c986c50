"""The language in which messages are declared: wire types and the marks a field can carry.

A message is a slotted dataclass; each field is annotated with one of the aliases below. To a type
checker `Int32` is `int`; the compiler (`protocol.compiler`) reads the rest. What a field may say
beside its type:

    Annotated[Int64, since(5)]             exists from version 5
    Annotated[Int8, until(3)]              exists up to and including version 3
    Annotated[Int32, since(12), tag(0)]    a tagged field (KIP-482)
    Annotated[NullableString, nullable_since(10)]   null is allowed from version 10 only
    Annotated[NullableString, nullable_until(0)]     null is allowed up to version 0 only
    Annotated[Int64, since(2), ignorable]  an older version may drop a value instead of refusing it

`list[X]` is an array, `list[X] | None` a nullable one, a dataclass is a struct, `X | None` a
nullable struct.
"""

import dataclasses
import types
import typing
from typing import Annotated, Any, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""What decoders read from."""

ZERO_UUID = bytes(16)
"""The uuid that stands for "none" on the wire."""


class Wire:
    """A primitive wire type; `nullable` says whether null can be written at all."""

    __slots__ = ("kind", "nullable")

    def __init__(self, kind: str, nullable: bool = False) -> None:
        self.kind = kind
        self.nullable = nullable


class Since:
    __slots__ = ("version",)

    def __init__(self, version: int) -> None:
        self.version = version


class Until(Since):
    __slots__ = ()


class NullableSince(Since):
    __slots__ = ()


class NullableUntil(Since):
    __slots__ = ()


class Tag:
    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class Ignorable:
    __slots__ = ()


def since(version: int) -> Since:
    """The first version that has the field."""
    return Since(version)


def until(version: int) -> Until:
    """The last version that has the field."""
    return Until(version)


def nullable_since(version: int) -> NullableSince:
    """The first version in which the field may be null."""
    return NullableSince(version)


def nullable_until(version: int) -> NullableUntil:
    """The last version in which the field may be null."""
    return NullableUntil(version)


def tag(number: int) -> Tag:
    """The field travels in the tagged section under this number."""
    return Tag(number)


ignorable = Ignorable()

Int8 = Annotated[int, Wire("int8")]
Int16 = Annotated[int, Wire("int16")]
UInt16 = Annotated[int, Wire("uint16")]
Int32 = Annotated[int, Wire("int32")]
UInt32 = Annotated[int, Wire("uint32")]
Int64 = Annotated[int, Wire("int64")]
Float64 = Annotated[float, Wire("float64")]
Bool = Annotated[bool, Wire("bool")]
Uuid = Annotated[bytes, Wire("uuid")]
String = Annotated[str, Wire("string")]
NullableString = Annotated[str | None, Wire("string", nullable=True)]
Bytes = Annotated[Buffer, Wire("bytes")]
NullableBytes = Annotated[Buffer | None, Wire("bytes", nullable=True)]
Records = Annotated[Buffer, Wire("records")]
NullableRecords = Annotated[Buffer | None, Wire("records", nullable=True)]

LAST = 32767
"""The version bound of a field that has no end."""


class FieldSpec:
    """One declared field, as the compiler, the tests and the documentation read it.

    `kind` is a primitive's name, "array" or "struct"; `element` describes an array's items;
    `struct` is the dataclass. `nullable_since` is None where null is never allowed. Versions are
    inclusive on both ends.
    """

    __slots__ = (
        "default",
        "element",
        "ignorable",
        "kind",
        "name",
        "nullable_since",
        "nullable_until",
        "since",
        "struct",
        "tag",
        "until",
    )

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.element: FieldSpec | None = None
        self.struct: type[Any] | None = None
        self.since = 0
        self.until = LAST
        self.tag: int | None = None
        self.nullable_since: int | None = None
        self.nullable_until = LAST
        self.ignorable = False
        self.default: Any = None

    def in_version(self, version: int) -> bool:
        """Whether the field is on the wire in that version."""
        return self.since <= version <= self.until

    def nullable(self, version: int) -> bool:
        """Whether null may be written in that version."""
        since = self.nullable_since
        return since is not None and since <= version <= self.nullable_until


def _describe(name: str, annotation: Any) -> FieldSpec:
    marks: tuple[Any, ...] = ()
    if typing.get_origin(annotation) is Annotated:
        annotation, *rest = typing.get_args(annotation)
        marks = tuple(rest)
    wire = next((m for m in marks if isinstance(m, Wire)), None)
    if wire is not None:
        spec = FieldSpec(name, wire.kind)
        spec.nullable_since = 0 if wire.nullable else None
    else:
        spec = _describe_compound(name, annotation)
    for mark in marks:
        if isinstance(mark, Until):
            spec.until = mark.version
        elif isinstance(mark, NullableSince):
            spec.nullable_since = mark.version
        elif isinstance(mark, NullableUntil):
            spec.nullable_until = mark.version
        elif isinstance(mark, Since):
            spec.since = mark.version
        elif isinstance(mark, Tag):
            spec.tag = mark.number
        elif isinstance(mark, Ignorable):
            spec.ignorable = True
    return spec


def _describe_compound(name: str, annotation: Any) -> FieldSpec:
    optional = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    if optional:
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
        if typing.get_origin(annotation) is Annotated:
            annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) is list:
        spec = FieldSpec(name, "array")
        spec.element = _describe(name, typing.get_args(annotation)[0])
    elif dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        spec = FieldSpec(name, "struct")
        spec.struct = annotation
    else:
        raise TypeError(f"{name}: {annotation!r} is not a wire type")
    spec.nullable_since = 0 if optional else None
    return spec


def fields_of(cls: type[Any]) -> list[FieldSpec]:
    """The declared fields of a message or struct, in wire order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    specs = []
    for declared in dataclasses.fields(cls):
        spec = _describe(declared.name, hints[declared.name])
        if declared.default_factory is not dataclasses.MISSING:
            spec.default = declared.default_factory()
        elif declared.default is not dataclasses.MISSING:
            spec.default = declared.default
        else:
            raise TypeError(f"{cls.__name__}.{declared.name} has no default")
        specs.append(spec)
    return specs
