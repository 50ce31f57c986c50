"""A transaction machine without a shell: what it is told and what it answers, line by line.

    > what it is told
    = an answer: code, producer id/epoch
    t: a record's content: state, id/epoch, and what else is set
    ! markers that are to be written
    @ a timer that was set, ms from the beginning

Appends succeed unless `refusing`; time stands still unless `now` is set.
"""

from collections.abc import Hashable, Iterable
from textwrap import dedent
from typing import Any

from broker.coordinator import Outcome, StoredRecord, Waiting
from broker.transactions.machine import LAST_EPOCH, Answer, TransactionMachine
from broker.transactions.state import PREPARING, EndMarkers, Transaction, decode, decode_id
from protocol.errors import ErrorCode

START_MS = 1_700_000_000_000
DAY_MS = 86_400_000


class Script:
    """A machine under test, and its transcript."""

    def __init__(self, level: int = 2, first_id: int = 1) -> None:
        self.level = level
        self.now = 0
        self.ids: int | None = first_id
        self.refusing = False
        self.log: list[StoredRecord] = []
        self.lines: list[str] = []
        self.machine = self._empty()
        self.machine.loaded(START_MS)

    def _empty(self) -> TransactionMachine:
        return TransactionMachine(0, self, DAY_MS, lambda: self.level, self._new_id)

    def _new_id(self) -> int | None:
        if self.ids is None:
            return None
        self.ids += 1
        return self.ids - 1

    def text(self) -> str:
        """What happened since the last look."""
        lines, self.lines = self.lines, []
        return "\n".join(lines)

    # --- as the shell's timers

    def set(self, key: Hashable, at_ms: int) -> None:
        purpose, transactional_id = key  # type: ignore[misc]
        self.lines.append(f"@ {purpose} {transactional_id} at {at_ms - START_MS}")

    def cancel(self, key: Hashable) -> None:
        purpose, transactional_id = key  # type: ignore[misc]
        self.lines.append(f"@ {purpose} {transactional_id} off")

    # --- what it is told

    def init(
        self, tid: str = "t", timeout: int = 60_000, expected: tuple[int, int] | None = None
    ) -> None:
        known = "" if expected is None else f" as {expected[0]}/{expected[1]}"
        self._tell(
            f"init {tid}{known}",
            lambda m, who, now: m.init_producer_id(who, now, tid, timeout, expected),
        )

    def add(self, producer: tuple[int, int], *names: str, tid: str = "t", client: int = 0) -> None:
        keys = [_key(name) for name in names]
        self._tell(
            f"add {tid} {producer[0]}/{producer[1]} {' '.join(names)}{_v(client)}",
            lambda m, who, now: m.add_partitions(who, now, tid, producer, keys, client),
        )

    def end(
        self, producer: tuple[int, int], commit: bool = True, *, tid: str = "t", client: int = 0
    ) -> None:
        what = "commit" if commit else "abort"
        self._tell(
            f"{what} {tid} {producer[0]}/{producer[1]}{_v(client)}",
            lambda m, who, now: m.end(who, now, tid, producer, commit, client),
        )

    def verify(self, producer: tuple[int, int], *names: str, tid: str = "t") -> None:
        self.lines.append(f"> verify {tid} {producer[0]}/{producer[1]} {' '.join(names)}")
        codes = self.machine.verify(tid, producer, [_key(name) for name in names])
        self.lines.append("= " + " ".join(code.name for code in codes))

    def written(self, producer: tuple[int, int], *names: str, tid: str = "t") -> None:
        self.lines.append(f"> written {tid} {producer[0]}/{producer[1]} {' '.join(names)}")
        keys = [_key(name) for name in names]
        self._come_of(self.machine.markers_written(tid, producer, keys, START_MS + self.now))

    def fire(self, purpose: str, tid: str = "t") -> None:
        self.lines.append(f"> {purpose} {tid} at {self.now}")
        self._come_of(self.machine.expired((purpose, tid), START_MS + self.now))

    def restart(self) -> None:
        """A new machine from what was written."""
        before, self.machine = self.machine, self._empty()
        for offset, record in enumerate(self.log):
            self.machine.replay(record.key, record.value, -1, -1, offset)
        assert _durable(before, self.level) == _durable(self.machine, self.level)
        self.lines.append("> restart")
        self._come_of(self.machine.loaded(START_MS + self.now))

    # --- what comes of it

    def _tell(self, what: str, decide: Any) -> None:
        self.lines.append(f"> {what}")
        who = Waiting(lambda code: Answer(code))
        self._come_of(decide(self.machine, who, START_MS + self.now))

    def _come_of(self, outcome: Outcome) -> None:
        if outcome.records and self.refusing:
            self.lines.append("= refused")
            return
        for record in outcome.records:
            self.lines.append(_told(record))
            self.log.append(record)
            self.machine.replay(record.key, record.value, -1, -1, len(self.log) - 1)
        for _, answer in outcome.replies:
            self.lines.append(_answer(answer) + (" later" if outcome.behind else ""))
        for work in outcome.work:
            self.lines.append(_markers(work))


def _durable(machine: TransactionMachine, level: int) -> dict[str, Any]:
    """The states without what is not in the records; markers written meanwhile are not either."""
    states = {}
    for tid, one in machine.transactions.items():
        fields = {name: getattr(one, name) for name in Transaction.__slots__}
        del fields["last_producer_epoch"]
        if not level:
            del fields["previous_producer_id"]
        if one.state in PREPARING:
            del fields["partitions"]
        states[tid] = fields
    return states


def _key(name: str) -> tuple[str, int]:
    topic, _, index = name.rpartition("-")
    return topic, int(index)


def _v(client: int) -> str:
    return f" v{client}" if client else ""


def _names(partitions: Iterable[tuple[str, int]]) -> str:
    return ",".join(f"{topic}-{index}" for topic, index in sorted(partitions))


def _answer(answer: Any) -> str:
    if isinstance(answer, ErrorCode):
        return f"= {answer.name}"
    if answer.error:
        assert (answer.producer_id, answer.producer_epoch) == (-1, -1)
        return f"= {answer.error.name}"
    return f"= {answer.producer_id}/{answer.producer_epoch}"


def _markers(work: EndMarkers) -> str:
    what = "commit" if work.committed else "abort"
    names = _names(work.partitions) or "nowhere"
    version = _v(work.transaction_version)
    resumed = " resumed" if work.resumed else ""
    return (
        f"! {what} {work.transactional_id} {work.producer_id}/{work.producer_epoch} "
        f"{names}{version}{resumed}"
    )


def _told(record: StoredRecord) -> str:
    tid = decode_id(record.key)
    assert tid is not None
    if record.value is None:
        return f"{tid}: forgotten"
    one = decode(tid, record.value)
    parts = [f"{tid}: {one.state.title} {one.producer_id}/{one.producer_epoch}"]
    if one.partitions:
        parts.append(_names(one.partitions))
    if one.start_ms >= 0:
        parts.append(f"since {one.start_ms - START_MS}")
    parts.append(f"at {one.last_update_ms - START_MS}")
    if one.previous_producer_id not in (-1, one.producer_id):
        parts.append(f"before {one.previous_producer_id}")
    if one.next_producer_id != -1:
        parts.append(f"then {one.next_producer_id}")
    return " ".join(parts) + _v(one.client_version)


def told(script: Script, expected: str) -> None:
    assert script.text() == dedent(expected).strip("\n")


def begun(level: int = 2, *, timeout: int = 60_000, client: int = 0) -> Script:
    """t has begun a transaction at a-0, with producer 1 in epoch 0."""
    script = Script(level)
    script.init(timeout=timeout)
    script.add((1, 0), "a-0", client=client)
    script.text()
    return script


def at_last_epoch(level: int) -> Script:
    """The producer of t has its id's last epoch."""
    script = Script(level)
    script.init()
    script.machine.transactions["t"].producer_epoch = LAST_EPOCH - 1
    script.init(expected=(1, LAST_EPOCH - 1))
    assert script.text().endswith(f"= 1/{LAST_EPOCH}")
    return script
