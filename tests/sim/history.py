"""What clients were told, and what must therefore be true.

The history is kept beside the cluster: what was acknowledged, what was read, who owned what. Some
of it is judged at once (two records at one offset), the rest at the end, against the logs.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from protocol.batch import batches
from protocol.record import records_of

Key = tuple[str, int]
"""Topic and partition."""
Blame = Callable[[str], None]

LIMIT = 1 << 20


class Sent(NamedTuple):
    """A record as its producer knows it."""

    producer: str
    number: int
    """Of this producer's records in this partition, counted from 0."""

    @property
    def value(self) -> bytes:
        return f"{self.producer} {self.number}".encode()

    @classmethod
    def of(cls, value: bytes) -> "Sent":
        producer, _, number = value.decode().rpartition(" ")
        return cls(producer, int(number))


class LogRecord(NamedTuple):
    """A record in a log."""

    offset: int
    value: bytes
    transactional: bool
    producer_id: int
    committed: bool | None = None
    """What a control record (without value) says of its producer's transaction."""
    leader_epoch: int = -1
    """Of the leader that took it."""


def records_in(data: bytes) -> list[LogRecord]:
    """The records of consecutive batches, control records among them; offsets of gaps are left
    out."""
    found: list[LogRecord] = []
    for at, header in batches(data):
        for record in records_of(data, at, header, LIMIT):
            value, committed = bytes(record.value or b""), None
            if header.control:
                assert record.key is not None
                value, committed = b"", record.key[3] == 1
            found.append(
                LogRecord(
                    record.offset,
                    value,
                    header.transactional,
                    header.producer_id,
                    committed,
                    header.leader_epoch,
                )
            )
    return found


class History:
    """Of one run. `blame(text)` takes what is wrong."""

    def __init__(self, blame: Blame) -> None:
        self._blame = blame
        self.acked: dict[Key, dict[Sent, int]] = {}
        """Acknowledged records and their offsets (-1 where the broker did not tell)."""
        self.anew: Counter[tuple[Key, Sent]] = Counter()
        """How often a record was sent in a new epoch, which makes it another record."""
        self.read: dict[tuple[Key, int], bytes] = {}
        """What some consumer has read at an offset."""
        self.leaders: dict[tuple[Key, int], int] = {}
        """Which node took records as the leader of an epoch."""
        self.owners: dict[tuple[str, int, Key], str] = {}
        """Which member of a group owned a partition in a generation."""
        self.commits: dict[tuple[str, Key], int] = {}
        """The highest offset whose commit was acknowledged, by group and partition."""
        self.output: dict[bytes, tuple[Key, int]] = {}
        """What a reader of committed transactions was given, and where it lay."""

    # --- told by clients

    def acknowledged(self, key: Key, record: Sent, offset: int) -> None:
        """A producer got its acknowledgement."""
        self.acked.setdefault(key, {})[record] = offset

    def sent_anew(self, key: Key, records: Iterable[Sent]) -> None:
        """A producer sends them in a new epoch: they may be in the log once more, behind others."""
        self.anew.update((key, record) for record in records)

    def was_read(self, who: str, key: Key, offset: int, value: bytes) -> None:
        """A consumer was given a record (b"" for a control record)."""
        before = self.read.setdefault((key, offset), value)
        if before != value:
            self._blame(f"{who} reads {value!r} at {key} {offset}, where {before!r} was read")

    def owns(self, group: str, generation: int, key: Key, member: str) -> None:
        """A member was assigned a partition."""
        before = self.owners.setdefault((group, generation, key), member)
        if before != member:
            self._blame(f"{key} belongs to {before} and {member} in generation {generation}")

    def committed(self, group: str, key: Key, offset: int) -> None:
        """A group's commit was acknowledged."""
        place = group, key
        self.commits[place] = max(self.commits.get(place, -1), offset)

    def resumes(self, group: str, key: Key, offset: int, known: int) -> None:
        """A new owner is told the group's offset; `known` is what was acknowledged before it
        asked."""
        if offset < known:
            self._blame(f"{group} goes on at {offset} of {key}, but {known} was committed")

    def put_out(self, key: Key, offset: int, value: bytes) -> None:
        """A reader of committed transactions was given a record."""
        before = self.output.setdefault(value, (key, offset))
        if before != (key, offset):
            self._blame(f"{value!r} is put out twice: at {before} and {(key, offset)}")

    # --- told by brokers

    def leads(self, key: Key, epoch: int, node: int) -> None:
        """A node appends as the leader of an epoch."""
        before = self.leaders.setdefault((key, epoch), node)
        if before != node:
            self._blame(f"{before} and {node} both append to {key} as leaders of epoch {epoch}")

    # --- at the end

    def judge(self, key: Key, data: bytes) -> None:
        """Hold the history against the log that all replicas agree on."""
        records = records_in(data)
        offsets: dict[Sent, list[int]] = {}
        last: dict[str, int] = {}
        for record in records:
            if not record.value or record.transactional:
                continue
            sent = Sent.of(record.value)
            places, anew = offsets.setdefault(sent, []), self.anew[key, sent]
            if len(places) > anew:
                self._blame(f"{sent} is twice in {key}: at {places[-1]} and {record.offset}")
            places.append(record.offset)
            if anew:
                continue
            if sent.number < last.get(sent.producer, -1):
                self._blame(f"{sent} comes after {last[sent.producer]} in {key}")
            last[sent.producer] = sent.number
        self._judge_told(key, offsets, {record.offset: record.value for record in records})

    def _judge_told(self, key: Key, offsets: dict[Sent, list[int]], at: dict[int, bytes]) -> None:
        """What was acknowledged and what was read is there; `at`: the log by offset."""
        for sent, offset in self.acked.get(key, {}).items():
            if sent not in offsets:
                self._blame(f"{sent} was acknowledged at {offset} of {key} and is lost")
            elif offset != -1 and offset not in offsets[sent]:
                self._blame(f"{sent} was acknowledged at {offset} of {key}, is at {offsets[sent]}")
        for (where, offset), value in self.read.items():
            if where == key and at.get(offset) != value:
                self._blame(f"{value!r} was read at {key} {offset}, where {at.get(offset)!r} is")

    def judge_output(self, sources: dict[Key, bytes], outputs: dict[Key, bytes]) -> None:
        """Every record of the sources was put out once by the transactions that committed."""
        due = {
            Sent(f"{key[0]}-{key[1]}", record.offset).value
            for key, data in sources.items()
            for record in records_in(data)
        }
        found: dict[bytes, Key] = {}
        for key, data in outputs.items():
            for record in committed_in(records_in(data)):
                if record.value in found:
                    self._blame(f"{record.value!r} is committed twice, in {key}")
                found[record.value] = key
        if missing := due - found.keys():
            self._blame(f"{len(missing)} records were not put out, {min(missing)!r} for one")
        if more := found.keys() - due:
            self._blame(f"{min(more)!r} was put out and never put in")
        if more := self.output.keys() - found.keys():
            self._blame(f"{min(more)!r} was read as committed and is not")


def committed_in(records: list[LogRecord]) -> list[LogRecord]:
    """The records of committed transactions."""
    open_ones: dict[int, list[LogRecord]] = {}
    committed: list[LogRecord] = []
    for record in records:
        if record.committed is None:
            open_ones.setdefault(record.producer_id, []).append(record)
        else:
            ended = open_ones.pop(record.producer_id, [])
            committed += ended if record.committed else ()
    return committed
