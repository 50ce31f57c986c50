"""Every declaration equals the message specs inside Apache Kafka's published jars, field by field.

They come from the jars of 3.9.2 (which still knows ZooKeeper mode) and 4.4.0.
"""

import functools
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from protocol.apis import API_BY_KEY, request_class, response_class
from protocol.wire import ZERO_UUID, FieldSpec
from tests.kit.kafka_jars import jar
from tests.kit.reference_codec import specs
from tests.kit.strategies import message_classes, stored_classes

pytestmark = pytest.mark.java

RELEASES = ("3.9.2", "4.4.0")
JARS = {
    "3.9.2": ("kafka-clients", "kafka-group-coordinator", "kafka-transaction-coordinator"),
    "4.4.0": (
        "kafka-clients",
        "kafka-group-coordinator",
        "kafka-transaction-coordinator",
        "kafka-share-coordinator",
    ),
}
Spec = dict[str, Any]

# 3.9 had other names for the same bytes; the declarations use 4.4's.
MESSAGES_OF_39 = {
    "ListClientMetricsResourcesRequest": "ListConfigResourcesRequest",
    "ListClientMetricsResourcesResponse": "ListConfigResourcesResponse",
}
FIELDS_OF_39 = {
    ("ListClientMetricsResourcesResponse", "client_metrics_resources"): "config_resources",
    ("ListClientMetricsResourcesResponse", "name"): "resource_name",
    ("TxnOffsetCommitRequest", "generation_id"): "generation_id_or_member_epoch",
}
STRUCTS_OF_39 = {"ClientMetricsResource": "ConfigResource"}
# The old kind of offset record: 4.4 declares its values apart, as what OffsetCommitValue 0 is.
SAME_AS = {"LegacyOffsetCommitValue": "OffsetCommitValue"}
# The early access of share groups in 3.9 only; no later release reads it.
GIVEN_UP = {
    ("ShareGroupMetadataValue", "3.9.2"),
    ("ReadShareGroupStateSummaryResponse", "3.9.2"),
}
# Served by KRaft controllers, or between the brokers of a KRaft cluster only.
KRAFT_ONLY = {52, 53, 54, 55, 59, 62, 63, 64, 70, 73, 80, 81, 82, 94}


class Line(NamedTuple):
    """One field of one version, with all that a reader of the bytes and a writer must know."""

    path: str
    kind: str
    nullable: bool
    tag: int | None
    default: Any


@functools.cache
def published(release: str) -> dict[str, Spec]:
    """All message specs of a release, by name."""
    found: dict[str, Spec] = {}
    for artifact in JARS[release]:
        with zipfile.ZipFile(jar(release, artifact)) as archive:
            for entry in archive.namelist():
                if re.fullmatch(r"common/message/\w+\.json", entry):
                    spec = json.loads(without_comments(archive.read(entry).decode()))
                    found[spec["name"]] = spec
    return found


def without_comments(text: str) -> str:
    """JSON with // comments, less the comments (none of them is inside a string)."""
    return re.sub(r'("(?:[^"\\]|\\.)*")|//[^\n]*', lambda match: match[1] or "", text)


def bounds(text: str | None) -> range:
    """The versions that a spec's "3+", "0-7", "4" or "none" means."""
    if text is None or text == "none":
        return range(0)
    low, _, high = text.partition("-")
    if text.endswith("+"):
        return range(int(text[:-1]), 1 << 15)
    return range(int(low), int(high or low) + 1)


def snake(name: str) -> str:
    name = name.replace("KRaft", "Kraft").replace("2Pc", "_2pc")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def default_of(field: Spec, kind: str, nullable_ever: bool) -> Any:
    """A spec's default as a Python value."""
    # A bare JSON null is no default at all to Kafka's generator, which wants the word "null".
    given = field.get("default")
    given = "" if given is None else given
    if kind == "records" or (given == "null" and nullable_ever):
        return None if nullable_ever else b""
    if kind.startswith("[]"):
        return []
    if kind == "string":
        return given
    if kind == "bool":
        return str(given).lower() == "true"
    if kind == "float64":
        return float(given or 0)
    if kind in ("bytes", "uuid"):
        return b"" if kind == "bytes" else ZERO_UUID
    if re.fullmatch(r"u?int\d+", kind):
        return int(str(given or 0), 0)
    return "a new struct"


def published_lines(spec: Spec, version: int) -> list[Line]:
    shared = {struct["name"]: struct["fields"] for struct in spec.get("commonStructs", [])}
    message = spec["name"]

    def walk(fields: list[Spec], prefix: str) -> Iterator[Line]:
        for field in fields:
            tagged = version in bounds(field.get("taggedVersions"))
            if version not in bounds(field.get("versions", field.get("taggedVersions"))):
                continue
            name = snake(field["name"])
            path = prefix + FIELDS_OF_39.get((message, name), name)
            bare = field["type"].removeprefix("[]")
            inner = field.get("fields") or shared.get(bare)
            kind = field["type"].replace(bare, STRUCTS_OF_39.get(bare, bare))
            nullable = bounds(field.get("nullableVersions"))
            default = default_of(field, kind, bool(nullable))
            tag = field["tag"] if tagged else None
            yield Line(path, kind, version in nullable, tag, default)
            if inner:
                yield from walk(inner, path + ".")

    return list(walk(spec["fields"], ""))


def declared_kind(spec: FieldSpec, published_kind: str) -> str:
    """A declared type as a spec would name it; a struct may have got a prefix in its file."""
    if spec.kind == "array":
        assert spec.element is not None
        return "[]" + declared_kind(spec.element, published_kind.removeprefix("[]"))
    if spec.kind == "struct":
        assert spec.struct is not None
        name = spec.struct.__name__
        return published_kind if name.endswith(published_kind) else name
    return spec.kind


def declared_lines(cls: type[Any], version: int, like: list[Line]) -> list[Line]:
    kinds = {line.path: line.kind for line in like}

    def walk(struct: type[Any], prefix: str) -> Iterator[Line]:
        for spec in specs(struct):
            if not spec.in_version(version):
                continue
            path = prefix + spec.name
            kind = declared_kind(spec, kinds.get(path, ""))
            default = spec.default
            if spec.kind == "struct" and default is not None:
                assert default == spec.struct() if spec.struct else False
                default = "a new struct"
            yield Line(path, kind, spec.nullable(version), spec.tag, default)
            inner = spec.element.struct if spec.element is not None else spec.struct
            if inner is not None:
                yield from walk(inner, path + ".")

    return list(walk(cls, ""))


def version_of_39_key(name: str, spec: Spec) -> Spec:
    """3.9 kept the kind of record in the key's version; its fields are those of version 0."""
    if not name.endswith("Key") or spec["type"] != "data":
        return spec
    text = json.dumps(spec)
    return dict(json.loads(re.sub(r'("(?:validV|v)ersions"): "[\d+-]+"', r'\1: "0"', text)))


CLASSES = {cls.__name__: cls for cls in message_classes() + stored_classes()}


def counterpart(name: str, release: str) -> Iterator[Spec]:
    """The specs of a release that a declaration stands for."""
    aliases = {**MESSAGES_OF_39, **SAME_AS}
    for published_name, spec in published(release).items():
        if (published_name, release) in GIVEN_UP:
            continue
        if aliases.get(published_name, published_name) == name and spec["validVersions"] != "none":
            yield version_of_39_key(published_name, spec) if release == "3.9.2" else spec


def added_as_tag(line: Line, lines: list[Line]) -> bool:
    """Whether a field is tagged, or inside of a tagged one."""
    tagged = {other.path for other in lines if other.tag is not None}
    parts = line.path.split(".")
    return any(".".join(parts[:count]) in tagged for count in range(1, len(parts) + 1))


@pytest.mark.parametrize("name", CLASSES)
def test_declaration_equals_the_published_specs(name: str) -> None:
    cls = CLASSES[name]
    found = [spec for release in RELEASES for spec in counterpart(name, release)]
    assert found
    for spec in found:
        flexible = bounds(spec["flexibleVersions"])
        for version in bounds(spec["validVersions"]):
            expected = published_lines(spec, version)
            mine = declared_lines(cls, version, expected)
            # Stored records get new tagged fields without a new version; old releases skip them.
            if not hasattr(cls, "API_KEY") and spec["type"] == "data":
                known = {line.path for line in expected}
                mine = [line for line in mine if line.path in known or not added_as_tag(line, mine)]
            assert mine == expected, f"{spec['name']} {version}"
            since = cls.FLEXIBLE_SINCE
            assert (since is not None and version >= since) == (version in flexible)
    ranges = [bounds(spec["validVersions"]) for spec in found]
    assert (min(r[0] for r in ranges), max(r[-1] for r in ranges)) == cls.VERSIONS
    if hasattr(cls, "API_KEY"):
        assert {spec["apiKey"] for spec in found} == {cls.API_KEY}


def ignorable_fields(cls: type[Any]) -> dict[str, bool]:
    found: dict[str, bool] = {}

    def walk(struct: type[Any], prefix: str) -> None:
        for spec in specs(struct):
            found[prefix + spec.name] = spec.ignorable
            inner = spec.element.struct if spec.element is not None else spec.struct
            if inner is not None:
                walk(inner, prefix + spec.name + ".")

    walk(cls, "")
    return found


@pytest.mark.parametrize("name", CLASSES)
def test_ignorable_is_what_the_newest_spec_says(name: str) -> None:
    """Only a writer sees it; where the releases differ, the newer one decides."""
    mine = ignorable_fields(CLASSES[name])
    expected: dict[str, bool] = {}
    for release in RELEASES:
        for spec in counterpart(name, release):
            if spec["name"] in SAME_AS:
                continue
            shared = {struct["name"]: struct["fields"] for struct in spec.get("commonStructs", [])}
            message = spec["name"]

            def walk(
                fields: list[Spec], prefix: str, shared: Any = shared, m: str = message
            ) -> None:
                for field in fields:
                    short = snake(field["name"])
                    path = prefix + FIELDS_OF_39.get((m, short), short)
                    expected[path] = str(field.get("ignorable", False)).lower() == "true"
                    inner = field.get("fields") or shared.get(field["type"].removeprefix("[]"))
                    walk(inner or [], path + ".")

            walk(spec["fields"], "")
    assert mine == {path: expected[path] for path in mine}


def test_every_api_that_a_broker_serves_is_declared() -> None:
    served = set()
    zookeeper = set()
    for release in RELEASES:
        for spec in published(release).values():
            if spec["type"] == "request" and spec["validVersions"] != "none":
                if "zkBroker" in spec["listeners"]:
                    zookeeper.add(spec["apiKey"])
                if "broker" in spec["listeners"]:
                    served.add(spec["apiKey"])
    assert len(zookeeper) == 62
    assert set(API_BY_KEY) == zookeeper | (served - KRAFT_ONLY)


def test_table_of_apis_says_what_the_releases_serve() -> None:
    for key, api in API_BY_KEY.items():
        found = list(counterpart(api.name + "Request", "3.9.2"))
        found += counterpart(api.name + "Request", "4.4.0")
        low, high = request_class(key).VERSIONS
        assert (low, high) == response_class(key).VERSIONS
        # Share groups of 3.9 were never more than an early access.
        assert api.min_version == (low if key not in range(76, 80) else 1)
        assert api.max_version == high
        assert api.latest_stable == high - found[-1].get("latestVersionUnstable", False)


def test_every_stored_record_is_declared() -> None:
    kinds = ("coordinator-key", "coordinator-value")
    for release in RELEASES:
        for name, spec in published(release).items():
            of_39 = spec["type"] == "data" and name.endswith(("Key", "Value"))
            if of_39 or spec["type"] in kinds:
                assert SAME_AS.get(name, name) in CLASSES
                kind = spec["apiKey"] if spec["type"] in kinds else None
                cls = CLASSES[SAME_AS.get(name, name)]
                if kind is not None and name not in SAME_AS:
                    assert kind == cls.RECORD_TYPE
                elif of_39 and name.endswith("Key"):
                    assert cls.RECORD_TYPE in bounds(spec["validVersions"])
