"""The comparer finds what is planted and nothing else."""

import copy
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from compat.batches import GZIP, LZ4, SNAPPY, ZSTD, Batch, Rec, batch, message, wrapped
from compat.compare import Difference, Explained, compare, differing, in_span
from compat.normal import Aliases, normalise
from compat.offered import OFFERED
from compat.read_batches import read_records
from compat.rules import rule_for
from compat.script import Step, api_named, build
from protocol import apis
from protocol.compiler import specs_of
from protocol.wire import FieldSpec

HOST, PORT = "127.0.0.1", 9092


def sample(spec: FieldSpec, count: Iterator[int]) -> Any:
    """A value for a field, different from all others."""
    number = next(count)
    if spec.kind == "array":
        assert spec.element is not None
        return [sample(spec.element, count)]
    if spec.kind == "struct":
        assert spec.struct is not None
        return spec.struct(**{s.name: sample(s, count) for s in specs_of(spec.struct)})
    plain = {"string": f"text{number}", "bool": True, "uuid": number.to_bytes(16, "big")}
    plain["records"] = batch(b"%d" % number)
    return plain.get(spec.kind, number)


def answer_of(api: str) -> Any:
    cls = apis.response_class(api_named(api).key)
    count = itertools.count(5)
    return cls(**{s.name: sample(s, count) for s in specs_of(cls)})


def plain(api: str, answer: Any) -> Any:
    return normalise(api, OFFERED[api][1], answer, Aliases(HOST, PORT), [], [])


def leaves(value: Any, version: int, path: str = "") -> Iterator[tuple[Any, str, str]]:
    """(object, attribute, path) of every field of that version that holds no other."""
    for spec in specs_of(type(value)):
        if not spec.in_version(version):
            continue
        held = getattr(value, spec.name)
        below = f"{path}.{spec.name}" if path else spec.name
        inner = held[0] if isinstance(held, list) else held
        if dataclasses.is_dataclass(inner):
            yield from leaves(inner, version, below)
        else:
            yield value, spec.name, below


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        return [changed(v) for v in value]
    return batch(b"other") if len(value) > 16 else bytes(16)


@pytest.mark.parametrize("api", OFFERED)
def test_every_changed_field_is_found(api: str) -> None:
    first = answer_of(api)
    assert list(differing(plain(api, first), plain(api, copy.deepcopy(first)), "")) == []
    version = OFFERED[api][1]
    for number, (_, name, path) in enumerate(leaves(first, version)):
        second = copy.deepcopy(first)
        owner, _, _ = list(leaves(second, version))[number]
        setattr(owner, name, changed(getattr(owner, name)))
        found = list(differing(plain(api, first), plain(api, second), ""))
        spec = next(s for s in specs_of(type(owner)) if s.name == name)
        rule = rule_for(api, OFFERED[api][1], path)
        forgiven = rule is not None and rule.how in ("text", "sign", "alias")
        if spec.kind == "uuid":
            continue
        assert bool(found) != forgiven, f"{path}: {found}"


def test_entries_with_names_are_matched_by_name() -> None:
    a = [{"name": "x", "v": 1}, {"name": "y", "v": 2}]
    b = [{"name": "y", "v": 2}]
    assert list(differing(a, b, "l")) == [("l[name=x]", a[0], "<not there>")]
    assert list(differing(b, a, "l")) == [("l[name=x]", "<not there>", a[0])]
    assert [path for path, _, _ in differing(a, a[::-1], "l")] == ["l[order]"]


def test_type_counts() -> None:
    assert list(differing(0, False, "p")) == [("p", 0, False)]
    assert list(differing(None, [], "p")) == [("p", None, [])]


def test_aliases_follow_first_appearance() -> None:
    one, two = Aliases(HOST, PORT), Aliases(HOST, PORT)
    assert [one.symbol("producer id", v) for v in (7, 9, 7, -1)] == [
        two.symbol("producer id", v) for v in (70, 80, 70, -1)
    ]
    assert one.symbol("producer id", 9) != two.symbol("producer id", 70)
    one.seed("topic id", b"i" * 16, "<id of t>")
    assert one.symbol("topic id", b"i" * 16) == "<id of t>"
    assert one.symbol("topic id", bytes(16)) == "00" * 16


def test_own_address_is_a_symbol_and_another_is_not() -> None:
    aliases = Aliases(HOST, PORT)
    assert [aliases.address(v) for v in (HOST, PORT, "elsewhere", 1)] == [
        "<host>",
        "<port>",
        "elsewhere",
        1,
    ]


def step(label: str = "1", kind: str = "answered", **answer: Any) -> Step:
    return Step(label, "Metadata", 4, kind, answer)


def found(theirs: list[Step], ours: list[Step]) -> list[Difference]:
    return list(compare("c", "Metadata", 4, "3.9.2", theirs, ours))


def test_outcomes_are_compared_before_answers() -> None:
    assert found([step(a=1)], [step(a=1)]) == []
    assert [d.path for d in found([step(a=1)], [step(a=2)])] == ["a"]
    assert [d.path for d in found([step(a=1)], [step(kind="closed")])] == ["outcome"]
    assert [d.path for d in found([step(), step("2")], [step()])] == ["outcome"]


TABLE = """
| id | api | versions | judge | case | field | theirs | ours | who | reason |
|---|---|---|---|---|---|---|---|---|---|
| one | Metadata | 3-5 | 3.9.2 | c | `a` | `1` | `*` | odradek | because |
| two | Fetch | * | * | * | `*` | `*` | `*` | kafka | x \\| y |
"""


def test_a_listed_difference_is_explained_and_only_that() -> None:
    explained = Explained(TABLE)
    known, unknown = explained.split(found([step(a=1, b=1)], [step(a=2, b=2)]))
    assert [d.path for d in known] == ["a"]
    assert [d.path for d in unknown] == ["b"]
    _, unknown = explained.split(found([step(a=3)], [step(a=2)]))
    assert [d.path for d in unknown] == ["a"]
    assert [e.id for e in explained.stale()] == ["two"]
    assert explained.entries[1].reason == "x | y"


@pytest.mark.parametrize(
    ("cases", "idle"), [("seed*", False), ("seed*-3 seed9*", False), ("named seed*", True)]
)
def test_entries_about_generated_requests_only_may_be_idle(cases: str, idle: bool) -> None:
    row = f"| one | Fetch | * | * | {cases} | a | * | * | both | why |\n"
    assert [e.id for e in Explained(row).stale()] == (["one"] if idle else [])


def test_a_broken_table_is_refused() -> None:
    with pytest.raises(ValueError, match="columns"):
        Explained("| a | b |\n")
    with pytest.raises(ValueError, match="twice"):
        Explained(TABLE + TABLE)


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [("*", [0, 9], []), ("3", [3], [2, 4]), ("3-5", [3, 5], [2, 6]), ("1 7+", [1, 7, 9], [0, 6])],
)
def test_spans(span: str, inside: list[int], outside: list[int]) -> None:
    assert all(in_span(v, span) for v in inside)
    assert not any(in_span(v, span) for v in outside)


def same(pid: int) -> int:
    return pid


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
def test_compressed_records_are_compared_by_content(codec: int) -> None:
    wide = read_records(batch(b"a" * 50, b"b", codec=codec), 0, same)
    plain_ = read_records(batch(b"a" * 50, b"b"), 0, same)
    assert wide[0]["records"] == plain_[0]["records"]  # type: ignore[index]
    other = read_records(batch(b"a" * 50, b"c", codec=codec), 0, same)
    assert wide[0]["records"] != other[0]["records"]  # type: ignore[index]


def test_every_field_of_a_batch_is_seen() -> None:
    right = Batch([Rec(b"a"), Rec(b"b")])
    base = read_records(right.encode(), 0, same)
    changes: dict[str, Any] = {
        "base_offset": 5,
        "leader_epoch": 3,
        "attributes": 8,
        "last_offset_delta": 9,
        "base_timestamp": 77,
        "max_timestamp": 78,
        "producer_id": 4,
        "producer_epoch": 4,
        "base_sequence": 4,
        "count": 4,
        "crc": 5,
        "records": [Rec(b"a"), Rec(b"b", headers=[(b"h", b"1")])],
    }
    for name, value in changes.items():
        other = dataclasses.replace(right, **{name: value}).encode()
        assert read_records(other, 0, same) != base, name


def test_old_messages_and_parts_of_batches() -> None:
    two = message(b"a", magic=0) + message(b"b", magic=1, offset=1)
    told = read_records(two + batch(b"c")[:40], 0, same)
    assert [isinstance(t, dict) and t["magic"] for t in told[:2]] == [0, 1]
    assert told[2] == "40 bytes of a part of a batch"
    inner = read_records(wrapped(message(b"a"), message(b"b")), 0, same)[0]
    assert isinstance(inner, dict) and len(inner["messages"]) == 2
    wrong = read_records(message(b"a", crc=1), 0, same)[0]
    assert isinstance(wrong, dict) and wrong["crc"] == "wrong"


def test_messages_are_built_from_plain_mappings() -> None:
    cls = apis.request_class(api_named("Fetch").key)
    made = build(cls, {"topics": [{"topic": "t", "partitions": [{"partition": 3}]}]})
    assert made.topics[0].partitions[0].partition == 3
    with pytest.raises(TypeError, match="no field nonsense"):
        build(cls, {"nonsense": 1})
