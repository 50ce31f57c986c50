"""Runs cases on two sides and gathers what differed."""

import dataclasses
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from compat.compare import Difference, compare
from compat.script import SHARED, Case, Run, Step, Topic
from compat.sides import Side

CHUNK = 120
WORKERS = 6
SLOW_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Item:
    """A case at one version, and who judges it."""

    case: Case
    version: int
    judge: str

    @property
    def key(self) -> str:
        return f"{self.case.api}.{self.case.name}.v{self.version}"

    def again(self) -> "Item":
        """The same under other names."""
        case = dataclasses.replace(self.case, attempt=self.case.attempt + 1)
        return dataclasses.replace(self, case=case)

    def topics(self) -> dict[str, Topic]:
        return {
            Side.topic_name(self.case, self.version, alias): topic
            for alias, topic in self.case.topics.items()
        }

    def names(self) -> dict[str, str]:
        return {a: Side.topic_name(self.case, self.version, a) for a in self.case.topics}


class Judge(Protocol):
    """Where right transcripts come from: a running reference, or a recording."""

    name: str

    def prepare(self, topics: Mapping[str, Topic]) -> None: ...

    def transcript(self, item: Item) -> list[Step]: ...


class Live:
    """A running broker, as judge or as the one that is judged."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.name = side.name

    def prepare(self, topics: Mapping[str, Topic]) -> None:
        self.side.prepare(topics)

    def transcript(self, item: Item) -> list[Step]:
        run = Run(self.side, item.case, item.version, item.names())
        try:
            item.case.act(run)
        except Exception as error:  # noqa: BLE001 - whatever a case trips over is its outcome
            kind = f"stopped by {type(error).__name__}: {error}"
            run.steps.append(Step("end", item.case.api, item.version, kind))
        finally:
            run.close()
        return run.steps


@dataclass(slots=True)
class Report:
    """What a run found."""

    cases: int = 0
    requests: int = 0
    differences: list[Difference] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    accepted: Counter[tuple[str, int]] = field(default_factory=Counter)
    refused: Counter[tuple[str, int]] = field(default_factory=Counter)
    texts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    transcripts: dict[str, list[Step]] = field(default_factory=dict)

    def add(self, item: Item, theirs: Sequence[Step], ours: Sequence[Step]) -> None:
        """Takes in one case played on both sides."""
        self.cases += 1
        self.requests += len(theirs)
        self.transcripts[f"{item.judge} {item.key}"] = list(theirs)
        if theirs and theirs[-1].kind.startswith("stopped"):
            self.faults.append(f"{item.key} against {item.judge}: {theirs[-1].kind}")
        for step in theirs:
            where = (step.api, step.version)
            refused = step.kind == "closed" or any(step.errors)
            (self.refused if refused else self.accepted)[where] += 1
        for left, right in zip(theirs, ours, strict=False):
            for (_, a), (_, b) in zip(left.texts, right.texts, strict=False):
                if a != b:
                    self.texts[left.api, str(a), str(b)] += 1
        case, api, version = item.case.name, item.case.api, item.version
        self.differences += compare(case, api, version, item.judge, theirs, ours)


class Player:
    """Plays items on a judge and a subject, several at a time."""

    def __init__(
        self, judges: Mapping[str, Judge], subjects: Mapping[str, Live], workers: int = WORKERS
    ) -> None:
        """`subjects`: who is judged, by the judge's name. Without, judges are only listened to."""
        self.judges = judges
        self.subjects = subjects
        self.report = Report()
        self._workers = workers
        self._lock = threading.Lock()
        self.chatty = sys.stderr.isatty()

    def play(self, items: Sequence[Item]) -> Report:
        """Plays all: first the ones that must be alone, then the rest in chunks."""
        shared = {f"shared-{alias}": topic for alias, topic in SHARED.items()}
        everywhere: list[Judge] = [*self.judges.values(), *set(self.subjects.values())]
        self._each(everywhere, lambda side: side.prepare(shared))
        alone = [i for i in items if i.case.alone]
        mine = {name: topic for i in alone for name, topic in i.topics().items()}
        self._each(everywhere, lambda side: side.prepare(mine))
        for item in alone:
            self._one(item)
        rest = [i for i in items if not i.case.alone]
        chunks = [rest[start : start + CHUNK] for start in range(0, len(rest), CHUNK)]
        with ThreadPoolExecutor(1) as pool:
            ready: Future[None] | None = None
            for index, chunk in enumerate(chunks):
                began = time.monotonic()
                (ready or pool.submit(self._prepare, chunk)).result()
                if index + 1 < len(chunks):
                    ready = pool.submit(self._prepare, chunks[index + 1])
                self._chunk(chunk, began)
        return self.report

    def play_again(self, items: Sequence[Item]) -> Report:
        """Plays items anew, one after the other; a report of their own."""
        self.report = Report()
        self._prepare(items)
        for item in items:
            self._one(item)
        return self.report

    def _prepare(self, items: Sequence[Item]) -> None:
        """Makes the topics of a chunk, while the one before it is played."""
        topics: dict[str, dict[str, Topic]] = {}
        for item in items:
            for who in (item.judge, self.subjects[item.judge].name if self.subjects else ""):
                topics.setdefault(who, {}).update(item.topics())
        sides: set[Judge] = {*self.judges.values(), *self.subjects.values()}
        everyone = [side for side in sides if side.name in topics]
        self._each(everyone, lambda side: side.prepare(topics[side.name]))

    def _chunk(self, items: Sequence[Item], began: float) -> None:
        ready = time.monotonic()
        with ThreadPoolExecutor(self._workers) as pool:
            list(pool.map(self._one, items))
        if self.chatty:
            spent = time.monotonic() - ready
            print(f"{items[-1].key}: {ready - began:.1f} + {spent:.1f} s", file=sys.stderr)

    def _one(self, item: Item) -> None:
        began = time.monotonic()
        theirs = self.judges[item.judge].transcript(item)
        between = time.monotonic()
        ours = self.subjects[item.judge].transcript(item) if self.subjects else theirs
        ended = time.monotonic()
        if self.chatty and ended - began > SLOW_SECONDS:
            spent = f"{between - began:.1f} s, then {ended - between:.1f} s"
            print(f"  slow: {item.key} {spent}", file=sys.stderr)
        with self._lock:
            self.report.add(item, theirs, ours)

    @staticmethod
    def _each(sides: Iterable[Any], act: Callable[[Any], None]) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(act, sides))
