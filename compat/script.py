"""The language of the corpus: a case is a function that asks one broker a sequence of requests.

    @case("DeleteRecords", topics={"t": Topic(fill=[batch(b"a", b"b")])})
    def below_the_start(run: Run) -> None:
        "Deleting up to 1 and then up to 0 leaves the start at 1."
        partition = {"partition_index": 0, "offset": 1}
        run.call(topics=[{"name": run.name("t"), "partitions": [partition]}])
        ...

A case runs once per version of its API, on every side alike. What one answer gives (a topic id, a
session id) is an ordinary value for the next request, so the sides may differ in ids and still be
compared. Every step is written down; the comparer reads only that transcript.
"""

import dataclasses
import struct
import time
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compat.normal import Aliases, normalise
from compat.wire_client import ANSWERED, CLOSED, NOTHING_DUE, Link, Outcome
from protocol import apis
from protocol.compiler import decoder, encoder, specs_of
from protocol.errors import Malformed
from protocol.header import RequestHeader, encode_request_header, response_header_version

CLIENT_ID = "compat"
SETTLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that is there before a case begins. `fill` goes to partition 0, batch by batch."""

    partitions: int = 1
    configs: Mapping[str, str] = field(default_factory=dict)
    fill: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One function of the corpus. `alone`: no other case may run beside it. `judge`: which
    reference judges all of its versions; None: the one that judges the version (`offered`).
    `attempt`: how often it was played before, part of the names it uses."""

    api: str
    name: str
    act: Callable[["Run"], None]
    versions: tuple[int, int]
    topics: Mapping[str, Topic]
    alone: bool
    judge: str | None = None
    attempt: int = 0

    @property
    def text(self) -> str:
        return (self.act.__doc__ or "").strip()


CASES: list[Case] = []
SHARED: dict[str, Topic] = {}
"""Topics that all cases may read and none may change."""


def case(
    api: str,
    versions: tuple[int, int] | None = None,
    *,
    topics: Mapping[str, Topic] | None = None,
    alone: bool = False,
    judge: str | None = None,
) -> Callable[[Callable[["Run"], None]], Callable[["Run"], None]]:
    """Adds a function to the corpus, for these versions (both ends inclusive) or for all."""

    def add(act: Callable[["Run"], None]) -> Callable[["Run"], None]:
        declared = api_named(api)
        span = versions or (declared.min_version, declared.latest_stable)
        name = act.__name__.replace("_", "-")
        CASES.append(Case(api, name, act, span, dict(topics or {}), alone, judge=judge))
        return act

    return add


def api_named(name: str) -> apis.Api:
    """The API of that name (Kafka's spelling)."""
    return next(a for a in apis.API_BY_KEY.values() if a.name == name)


@dataclass(slots=True)
class Step:
    """One request and what came of it, in the form in which sides are compared."""

    label: str
    api: str
    version: int
    kind: str
    answer: Any = None
    texts: list[tuple[str, str | None]] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    request: bytes = b""


@dataclass(slots=True)
class Pending:
    """A request whose answer was not waited for yet."""

    api: str
    version: int
    correlation: int
    link: str
    frame: bytes
    step: str | None


class Stopped(Exception):
    """A case cannot go on at this side, because an answer it builds on did not come."""


class Run:
    """A case under way at one side. `version` is the one of the case's API that is being asked."""

    def __init__(self, side: "Any", case_: Case, version: int, names: Mapping[str, str]) -> None:
        self.side = side
        self.case = case_
        self.version = version
        self.steps: list[Step] = []
        self._names = {**{alias: f"shared-{alias}" for alias in SHARED}, **names}
        self._links: dict[str, Link] = {}
        self._correlation = 0
        self.aliases = Aliases(side.host, side.port)
        self.starts: dict[str, int] = {}
        """Internal topics that are watched -> the offset from which on (see `compat.stored`)."""
        for alias, name in self._names.items():
            if name in side.topic_ids:
                self.aliases.seed("topic id", side.topic_ids[name], f"<id of {alias}>")

    # Names

    def name(self, alias: str) -> str:
        """The name of a topic the case declared (or of a shared one)."""
        return self._names[alias]

    def fresh(self, alias: str) -> str:
        """A topic name that nobody used yet; the same at every side."""
        return str(self.side.topic_name(self.case, self.version, alias))

    def group(self, alias: str = "group") -> str:
        """A group id that only this case uses; the same at every side."""
        return self.fresh(alias)

    def transactional_id(self, alias: str = "tx") -> str:
        """A transactional id that only this case uses."""
        return self.fresh(alias)

    def topic_id(self, alias: str) -> bytes:
        return typing.cast(bytes, self.side.topic_ids[self._names[alias]])

    def other_id(self, number: int = 1) -> bytes:
        """A topic id that no broker gave."""
        return b"no such topic" + struct.pack(">BH", 0, number)

    # Requests

    def call(self, **fields: Any) -> Any:
        """Asks the case's own API at the version in hand; see `ask`."""
        return self.ask(self.case.api, self.version, **fields)

    def ask(
        self,
        api: str,
        version: int,
        *,
        link: str = "main",
        step: str | None = None,
        patience: float | None = None,
        answered: bool = True,
        client: str = CLIENT_ID,
        keep: Callable[[Any], None] | None = None,
        **fields: Any,
    ) -> Any:
        """Sends one request and writes down the outcome; gives the decoded answer, or None.

        `link` names one of the case's connections. `answered=False`: no answer is due (acks 0).
        `keep` takes out of the answer what is not this case's before it is written down.
        """
        frame = self.frame(api, version, fields, client)
        connection = self.link(link)
        if answered:
            outcome = connection.exchange(frame, patience)
        else:
            outcome = connection.expect_nothing(frame)
        return self.note(api, version, outcome, frame, step, keep=keep)

    def begin(
        self,
        api: str,
        version: int,
        *,
        link: str = "main",
        step: str | None = None,
        client: str = CLIENT_ID,
        **fields: Any,
    ) -> Pending:
        """Sends a request whose answer may have to wait for others; see `waits` and `finish`."""
        frame = self.frame(api, version, fields, client)
        self.link(link).send(frame)
        return Pending(api, version, self._correlation, link, frame, step)

    def waits(self, *pending: Pending, seconds: float = 0.15) -> None:
        """Writes down for each whether it is still without an answer, `seconds` from now."""
        time.sleep(seconds)
        for each in pending:
            kind = "answered already" if self.link(each.link).has_something() else "waits"
            label = f"{each.step or each.api} waits"
            self.steps.append(Step(label, each.api, each.version, kind))

    def finish(self, pending: Pending, patience: float | None = None) -> Any:
        """Takes the answer of a request that was begun; gives it decoded, or None."""
        outcome = self.link(pending.link).receive(patience)
        return self.note(
            pending.api,
            pending.version,
            outcome,
            pending.frame,
            pending.step,
            correlation=pending.correlation,
        )

    def ask_until(self, ready: Callable[[Any], bool], api: str, version: int, **fields: Any) -> Any:
        """Repeats a request until its answer satisfies `ready`; only the last is written down."""
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            known = self.aliases.copy()
            answer = self.ask(api, version, **fields)
            if answer is None or ready(answer) or time.monotonic() > end:
                return answer
            self.steps.pop()
            self.aliases = known
            time.sleep(0.02)

    def pause(self, seconds: float) -> None:
        """Lets time go by, where nothing that could be asked would show that it did."""
        time.sleep(seconds)

    def settle(self, *names: str) -> None:
        """Waits until these topics have leaders; a KRaft broker learns of them after its answer."""
        self.side.settle(names)

    def frame(
        self, api: str, version: int, fields: Mapping[str, Any], client: str = CLIENT_ID
    ) -> bytes:
        """The bytes of a request, without the length in front."""
        key = api_named(api).key
        out = bytearray()
        self._correlation += 1
        encode_request_header(RequestHeader(key, version, self._correlation, client), out)
        cls = apis.request_class(key)
        encoder(cls, version)(build(cls, fields), out)
        return bytes(out)

    def send_body(
        self, api: str, version: int, body: bytes, *, step: str | None = None, link: str = "main"
    ) -> Any:
        """Sends a right header and any bytes after it."""
        key = api_named(api).key
        out = bytearray()
        self._correlation += 1
        encode_request_header(RequestHeader(key, version, self._correlation, CLIENT_ID), out)
        frame = bytes(out) + body
        return self.note(api, version, self.link(link).exchange(frame), frame, step)

    def extra(self, tail: bytes, **fields: Any) -> Any:
        """Asks the case's API with bytes behind the body."""
        frame = self.frame(self.case.api, self.version, fields) + tail
        return self.note(self.case.api, self.version, self.link().exchange(frame), frame)

    def gone(self, alias: str) -> None:
        """Waits until a deleted topic is unknown."""
        self.side.gone(self._names[alias])

    def raw_bytes(self, data: bytes, *, step: str, link: str = "main") -> None:
        """Sends any bytes and writes down whether an answer, the end, or nothing follows."""
        connection = self.link(link)
        connection.send_raw(data)
        outcome = connection.receive(1.0)
        done = Step(step, self.case.api, self.version, outcome.kind, outcome.frame.hex() or None)
        done.request = data
        self.steps.append(done)

    def raw_answer(
        self, api: str, version: int, frame: bytes, correlation: int, *, step: str | None = None
    ) -> Any:
        """Sends a frame made by hand whose answer should be one of that API and version."""
        self._correlation = correlation
        return self.note(api, version, self.link().exchange(frame), frame, step)

    def expect(self, api: str, version: int, correlation: int) -> Any:
        """Takes an answer to something sent before by hand."""
        self._correlation = correlation
        return self.note(api, version, self.link().receive(), b"")

    def note_end(self, link: str) -> None:
        """Writes down what comes after the last byte."""
        kind = self.link(link).receive(1.0).kind
        self.steps.append(Step("end of the connection", self.case.api, self.version, kind))

    def link(self, name: str = "main") -> Link:
        found = self._links.get(name)
        if found is None:
            found = self._links[name] = Link(self.side.host, self.side.port)
        return found

    def note(
        self,
        api: str,
        version: int,
        outcome: Outcome,
        frame: bytes,
        step: str | None = None,
        *,
        correlation: int | None = None,
        keep: Callable[[Any], None] | None = None,
    ) -> Any:
        """Writes an outcome down; gives the decoded answer, if there is one."""
        done = Step(step or f"{len(self.steps) + 1} {api}", api, version, outcome.kind)
        done.request = frame
        self.steps.append(done)
        if outcome.kind != ANSWERED:
            return None
        try:
            answer = self._decode(api, version, outcome.frame, correlation)
        except (Malformed, struct.error) as error:
            done.kind = f"undecodable answer ({error}): {outcome.frame[:200].hex()}"
            return None
        if keep is not None:
            keep(answer)
        done.answer = normalise(api, version, answer, self.aliases, done.texts, done.errors)
        return answer

    def _decode(self, api: str, version: int, frame: bytes, wanted: int | None) -> Any:
        key = api_named(api).key
        correlation = struct.unpack_from(">i", frame)[0]
        wanted = self._correlation if wanted is None else wanted
        if correlation != wanted:
            raise Malformed(f"correlation id {correlation} instead of {wanted}")
        pos = 4
        if key == 18 and struct.unpack_from(">h", frame, 4)[0] == 35:
            version = 0
        if response_header_version(key, version) == 1:
            if frame[4] != 0:
                raise Malformed("a tagged field in the response header")
            pos = 5
        answer, end = decoder(apis.response_class(key), version)(frame, pos)
        if end != len(frame):
            raise Malformed(f"{len(frame) - end} bytes after the answer")
        return answer

    def close(self) -> None:
        for each in self._links.values():
            each.close()

    # What many cases do

    def produce(
        self,
        alias: str,
        records: bytes | None,
        *,
        partition: int = 0,
        acks: int = 1,
        version: int | None = None,
        **extra: Any,
    ) -> Any:
        """Produces to one partition, at the case's version if the case is about Produce."""
        own = self.version if self.case.api == "Produce" else 9
        data = {"index": partition, "records": records}
        topic = {
            "name": self.name(alias),
            "topic_id": self.topic_id(alias),
            "partition_data": [data],
        }
        return self.ask(
            "Produce",
            own if version is None else version,
            acks=acks,
            timeout_ms=5000,
            topic_data=[topic],
            answered=acks != 0,
            **extra,
        )

    def coordinator(self, kind: int) -> None:
        """Waits until a coordinator is known: the first question makes its internal topic."""
        self.side.coordinator(kind)

    def ask_produce(self, alias: str, records: bytes, partition: int = 0) -> Any:
        """Produces at version 9 in a case that is about another API."""
        return self.produce(alias, records, partition=partition, version=9)

    def everything(self, alias: str, partition: int = 0) -> Any:
        """Fetches a whole partition (version 11), to see what a case left behind."""
        wanted = {"partition": partition, "fetch_offset": 0, "partition_max_bytes": 1 << 24}
        return self.ask(
            "Fetch",
            11,
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=1 << 24,
            topics=[{"topic": self.name(alias), "partitions": [wanted]}],
        )


def build(cls: type[Any], fields: Mapping[str, Any]) -> Any:
    """A message or struct from plain mappings and lists; values that are such already pass."""
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = set(fields) - known
    if unknown:
        raise TypeError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")
    return cls(**{name: _value(hints[name], value) for name, value in fields.items()})


def fitted(api: str, version: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some fields, at every depth, that this version of the request carries."""
    return _fitted(apis.request_class(api_named(api).key), version, fields)


def _fitted(cls: type[Any], version: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    out = {}
    for spec in specs_of(cls):
        if spec.name in fields and spec.in_version(version):
            value = fields[spec.name]
            inner = spec.element.struct if spec.element is not None else None
            if inner is not None and value is not None:
                value = [_fitted(inner, version, item) for item in value]
            out[spec.name] = value
    return out


def _value(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
    if value is None:
        return None
    if typing.get_origin(hint) is list:
        return [_value(typing.get_args(hint)[0], item) for item in value]
    if isinstance(value, Mapping) and dataclasses.is_dataclass(hint):
        return build(typing.cast(type[Any], hint), value)
    return value


__all__ = [
    "CASES",
    "CLOSED",
    "NOTHING_DUE",
    "SHARED",
    "Case",
    "Pending",
    "Run",
    "Step",
    "Stopped",
    "Topic",
    "api_named",
    "build",
    "case",
    "fitted",
]
