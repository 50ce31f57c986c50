"""Hypothesis strategies made from declarations, and how many examples to run.

`ODRADEK_HYPOTHESIS=long` runs many more, from a fresh seed; otherwise runs are the same every time.
"""

import importlib
import os
import pkgutil
from collections.abc import Iterator
from functools import cache
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import protocol.messages
from protocol.apis import API_BY_KEY, request_class, response_class
from protocol.wire import ZERO_UUID, FieldSpec
from tests.kit.reference_codec import initial, specs

LONG = os.environ.get("ODRADEK_HYPOTHESIS") == "long"

_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
_TEXTS = ["", "a", "topic-0", "grün", "日本", "\U0001f980", "x" * 126, "y" * 127, "z" * 300]
_BLOBS = [b"", b"\0", b"\xff" * 5, b"r" * 126, b"s" * 127, bytes(range(256))]
_UUIDS = [ZERO_UUID, bytes(range(16)), b"\xff" * 16, bytes(15) + b"\1"]


def profile(examples: int) -> settings:
    """Settings of a test that is worth so many examples (a hundred times as many in a long run)."""
    return settings(
        max_examples=examples * 100 if LONG else examples,
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def message_classes() -> list[type[Any]]:
    """All requests and responses, by key."""
    return [make(key) for key in sorted(API_BY_KEY) for make in (request_class, response_class)]


def stored_classes() -> list[type[Any]]:
    """All keys and values of the coordinators' topics, and the consumers' blobs."""
    found = set()
    path = importlib.import_module("protocol.stored").__path__
    for module in pkgutil.iter_modules(path, "protocol.stored."):
        loaded = importlib.import_module(module.name)
        for value in vars(loaded).values():
            if isinstance(value, type) and hasattr(value, "VERSIONS"):
                found.add(value)
    return sorted(found, key=lambda cls: cls.__name__)


def message_modules() -> list[str]:
    """The stems of all message modules that exist."""
    return [module.name for module in pkgutil.iter_modules(protocol.messages.__path__)]


def versions(cls: type[Any]) -> Iterator[int]:
    """All versions that a message declares."""
    low, high = cls.VERSIONS
    return iter(range(low, high + 1))


_values: dict[tuple[type[Any], int, int], SearchStrategy[Any]] = {}


def values(cls: type[Any], version: int, depth: int = 0) -> SearchStrategy[Any]:
    """Messages or structs with any value in each field that this version has."""
    found = _values.get((cls, version, depth))
    if found is None:
        present = {s.name: _field(s, version, depth) for s in specs(cls) if s.in_version(version)}
        found = _values[cls, version, depth] = st.builds(cls, **present)
    return found


@cache
def _number(kind: str) -> SearchStrategy[int]:
    if kind in ("uint16", "uint32"):
        high = (1 << int(kind[4:])) - 1
        return st.sampled_from([0, 1, high]) | st.integers(0, high)
    half = 1 << (_BITS[kind] - 1)
    return st.sampled_from([0, 1, -1, half - 1, -half]) | st.integers(-half, half - 1)


@cache
def _plain(kind: str) -> SearchStrategy[Any]:
    if kind == "bool":
        return st.booleans()
    if kind == "float64":
        return st.floats(allow_nan=False)
    if kind == "uuid":
        return st.sampled_from(_UUIDS)
    if kind == "string":
        return st.sampled_from(_TEXTS) | st.text(st.characters(codec="utf-8"), max_size=6)
    if kind in ("bytes", "records"):
        return st.sampled_from(_BLOBS) | st.binary(max_size=6)
    return _number(kind)


def _field(spec: FieldSpec, version: int, depth: int) -> SearchStrategy[Any]:
    if spec.kind == "array":
        assert spec.element is not None
        item = _field(spec.element, version, depth + 1)
        made: SearchStrategy[Any] = st.lists(item, max_size=3 if depth == 0 else 2)
    elif spec.kind == "struct":
        assert spec.struct is not None
        made = values(spec.struct, version, depth + 1)
    else:
        made = _plain(spec.kind)
    if spec.nullable(version):
        made = st.none() | made
    if spec.tag is not None:
        made = st.builds(initial, st.just(spec)) | made
    return made
