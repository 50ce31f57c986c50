"""Two transcripts of one case, held against each other; and the list of differences that are known.

`compare` yields every place where they differ. `Explained` reads DIFFERENCES.md, says which of them
are listed there, and in the end which entries of the list never occurred.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import Any

from compat.script import Step
from compat.wire_client import ANSWERED

LIST = pathlib.Path(__file__).with_name("DIFFERENCES.md")
NOT_THERE = "<not there>"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field (or the outcome of one step) in which Odradek and the judge differ."""

    case: str
    case_api: str
    case_version: int
    step: str
    api: str
    version: int
    path: str
    judge: str
    theirs: Any = field(compare=False)
    ours: Any = field(compare=False)

    @property
    def plain_path(self) -> str:
        """The path without what stands in brackets."""
        return re.sub(r"\[[^\]]*\]", "", self.path)


def compare(
    case: str, api: str, version: int, judge: str, theirs: Sequence[Step], ours: Sequence[Step]
) -> Iterator[Difference]:
    """All differences between the judge's transcript and ours."""
    base: dict[str, Any] = {"case": case, "case_api": api, "case_version": version, "judge": judge}
    for left, right in zip(theirs, ours, strict=False):
        here = {**base, "step": left.label, "api": left.api, "version": left.version}
        if left.kind != right.kind or left.label != right.label:
            yield Difference(**here, path="outcome", theirs=_told(left), ours=_told(right))
            return
        for path, a, b in differing(left.answer, right.answer, ""):
            yield Difference(**here, path=path, theirs=a, ours=b)
    if len(theirs) != len(ours):
        more = max(theirs, ours, key=len)[min(len(theirs), len(ours))]
        here = {**base, "step": more.label, "api": more.api, "version": more.version}
        a, b = (_told(more), NOT_THERE) if len(theirs) > len(ours) else (NOT_THERE, _told(more))
        yield Difference(**here, path="outcome", theirs=a, ours=b)


def _told(step: Step) -> str:
    if step.kind != ANSWERED:
        return step.kind
    return f"{step.label}: {step.kind} with errors {sorted(set(step.errors))}"


def differing(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Paths at which two plain values differ, with both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            below = f"{path}.{key}" if path else key
            yield from differing(a.get(key, NOT_THERE), b.get(key, NOT_THERE), below)
    elif isinstance(a, list) and isinstance(b, list):
        yield from _differing_lists(a, b, path)
    elif a != b or type(a) is not type(b):
        yield path, a, b


def _differing_records(a: list[Any], b: list[Any], path: str) -> Iterator[tuple[str, Any, Any]]:
    """Stored records have an order and no names: equal ones are found first, then what stands
    between them is paired by kind and key."""
    for tag, a1, a2, b1, b2 in _aligned([str(v) for v in a], [str(v) for v in b]):
        if tag == "equal":
            continue
        names_a, names_b = ([_record_label(v) for v in part] for part in (a[a1:a2], b[b1:b2]))
        for inner, c1, c2, d1, d2 in _aligned(names_a, names_b):
            if inner == "equal":
                for i, j in zip(range(a1 + c1, a1 + c2), range(b1 + d1, b1 + d2), strict=True):
                    yield from differing(a[i], b[j], f"{path}[{i}]")
                continue
            for i in range(a1 + c1, a1 + c2):
                yield f"{path}[{i}]", a[i], NOT_THERE
            for j in range(b1 + d1, b1 + d2):
                yield f"{path}[{j}]", NOT_THERE, b[j]


def _aligned(a: list[str], b: list[str]) -> list[tuple[str, int, int, int, int]]:
    return SequenceMatcher(None, a, b, autojunk=False).get_opcodes()


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and ("kind" in value or "marker" in value)


def _record_label(value: dict[str, Any]) -> str:
    return f"{value.get('kind', value.get('marker'))} {value.get('key')}"


def _differing_lists(a: list[Any], b: list[Any], path: str) -> Iterator[tuple[str, Any, Any]]:
    if a and b and all(map(_is_record, (*a, *b))):
        yield from _differing_records(a, b, path)
        return
    names_a, names_b = [_label(v) for v in a], [_label(v) for v in b]
    if names_a != names_b and None not in names_a + names_b and _unique(names_a, names_b):
        # Entries with names of their own: say which are missing instead of comparing shifted ones.
        common = [n for n in names_a if n in names_b]
        if common != [n for n in names_b if n in names_a]:
            yield f"{path}[order]", names_a, names_b
        for name, value in zip(names_a, a, strict=True):
            other = b[names_b.index(name)] if name in names_b else NOT_THERE
            yield from differing(value, other, f"{path}[{name}]")
        for name, value in zip(names_b, b, strict=True):
            if name not in names_a:
                yield f"{path}[{name}]", NOT_THERE, value
        return
    for index in range(max(len(a), len(b))):
        left = a[index] if index < len(a) else NOT_THERE
        right = b[index] if index < len(b) else NOT_THERE
        name = (names_a if index < len(a) else names_b)[index]
        yield from differing(left, right, f"{path}[{index if name is None else name}]")


_NAMES = (
    "name",
    "topic",
    "resource_name",
    "partition_index",
    "index",
    "partition",
    "api_key",
    "node_id",
    "topic_id",
    "base_offset",
)


def _label(value: Any) -> str | None:
    if isinstance(value, dict):
        for key in _NAMES:
            if value.get(key) is not None:
                return f"{key}={value[key]}"
    return None


def _unique(*lists: Sequence[Any]) -> bool:
    return all(len(set(each)) == len(each) for each in lists)


@dataclass(slots=True)
class Entry:
    """One row of DIFFERENCES.md. Patterns are shell patterns; versions those of the step's API."""

    id: str
    api: str
    versions: str
    judge: str
    case: str
    path: str
    theirs: str
    ours: str
    who: str
    reason: str
    hits: int = 0

    @property
    def only_generated(self) -> bool:
        """Whether no case of the corpus is meant."""
        return all(one.startswith("seed") for one in self.case.split())

    def fits(self, found: Difference) -> bool:
        return (
            fnmatchcase(found.api, self.api)
            and in_span(found.version, self.versions)
            and fnmatchcase(found.judge, self.judge)
            and any(fnmatchcase(found.case, one) for one in self.case.split())
            and any(fnmatchcase(found.plain_path, one) for one in self.path.split())
            and fnmatchcase(str(found.theirs), self.theirs)
            and fnmatchcase(str(found.ours), self.ours)
        )


def in_span(version: int, span: str) -> bool:
    """Whether a version lies in `3`, `3-7`, `3+` or `*`; several may be joined by blanks."""
    for part in span.split():
        low, _, high = part.partition("-")
        if part == "*" or (part.endswith("+") and version >= int(part[:-1])):
            return True
        if not part.endswith("+") and part != "*" and int(low) <= version <= int(high or low):
            return True
    return False


class Explained:
    """The entries of a list of differences, and how often each was met."""

    def __init__(self, text: str) -> None:
        self.entries = list(_entries(text))
        names = [e.id for e in self.entries]
        twice = {n for n in names if names.count(n) > 1}
        if twice:
            raise ValueError(f"ids used twice: {', '.join(sorted(twice))}")

    @classmethod
    def load(cls) -> "Explained":
        return cls(LIST.read_text() if LIST.exists() else "")

    def split(self, found: Iterable[Difference]) -> tuple[list[Difference], list[Difference]]:
        """(explained, unexplained)."""
        known: list[Difference] = []
        unknown: list[Difference] = []
        for each in found:
            fitting = [e for e in self.entries if e.fits(each)]
            for entry in fitting:
                entry.hits += 1
            (known if fitting else unknown).append(each)
        return known, unknown

    def stale(self) -> list[Entry]:
        """Entries that explained nothing, but for those that are about generated requests only:
        whether they occur depends on the seed."""
        return [e for e in self.entries if not e.hits and not e.only_generated]


def _entries(text: str) -> Iterator[Entry]:
    wanted = [f.name for f in dataclasses.fields(Entry)][:-1]
    for line in text.splitlines():
        if not line.startswith("|"):
            continue
        cells = [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[0] in ("id", "") or set(cells[0]) <= set("-: "):
            continue
        if len(cells) != len(wanted):
            raise ValueError(f"{len(cells)} columns instead of {len(wanted)}: {line}")
        named: dict[str, Any] = dict(zip(wanted, (c.strip("`") for c in cells), strict=True))
        yield Entry(**named)
