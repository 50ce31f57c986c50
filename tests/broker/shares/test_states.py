"""The share coordinator's machine: states, fences, snapshots, what it leaves in its topic."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from broker.cluster.view import ClusterView, PartitionInfo, TopicInfo
from broker.config import BrokerConfig
from broker.coordinator import Outcome, StoredRecord, Waiting
from broker.shares.common import (
    ACKNOWLEDGED,
    ARCHIVED,
    AVAILABLE,
    NO_OFFSET,
    ShareKey,
    StateBatch,
)
from broker.shares.state import NO_STATE, REST_MS, Answer, Change, ShareState, ShareStates
from protocol.errors import ErrorCode
from protocol.stored.share_group_state import ShareSnapshotKey, decode_key, decode_value

CAPTURED = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "captured/share-records.json.gz").read_bytes())
)
TOPIC_ID = bytes.fromhex(CAPTURED["topic_id"])
KEY = ShareKey("g", TOPIC_ID, 0)
OTHER = ShareKey("g", TOPIC_ID, 1)
NOW = 1_700_000_000_000


class Machine:
    """The machine with its log."""

    def __init__(self, **settings: str) -> None:
        self.settings = {
            "share.coordinator.snapshot.update.records.per.snapshot": settings.get("updates", "500")
        }
        parts = tuple(PartitionInfo(index, 0, 0, (0,), (0,)) for index in range(2))
        self.view = ClusterView(
            0, "cluster", 0, {}, {"t": TopicInfo("t", TOPIC_ID, parts)}, {TOPIC_ID: "t"}
        )
        self.now_ms = NOW
        self.log: list[StoredRecord] = []
        self.states = ShareStates(0, BrokerConfig(self.settings), lambda: self.view)

    def carry_out(self, outcome: Outcome) -> Answer | None:
        for record in outcome.records:
            self.states.replay(*record, -1, -1, len(self.log))
            self.log.append(record)
        return outcome.replies[0][1] if outcome.replies else None

    def initialize(self, key: ShareKey = KEY, epoch: int = 1, start: int = 0) -> Answer:
        return self._asked(self.states.initialize(key, epoch, start, Waiting(str), self.now_ms))

    def write(
        self,
        *batches: StateBatch,
        key: ShareKey = KEY,
        state: int = 1,
        leader: int = 0,
        start: int = NO_OFFSET,
        done: int = 0,
    ) -> Answer:
        change = Change(state, leader, start, done, batches)
        return self._asked(self.states.write(key, change, Waiting(str), self.now_ms))

    def read(self, leader: int = 0, key: ShareKey = KEY) -> Answer:
        return self._asked(self.states.read(key, leader, Waiting(str), self.now_ms))

    def delete(self, key: ShareKey = KEY) -> Answer:
        return self._asked(self.states.delete(key, Waiting(str), self.now_ms))

    def _asked(self, outcome: Outcome) -> Answer:
        answer = self.carry_out(outcome)
        assert answer is not None
        return answer

    def again(self, since: int = 0) -> ShareStates:
        """Another broker that reads the log from there."""
        states = ShareStates(0, BrokerConfig(self.settings), lambda: self.view)
        for offset, record in enumerate(self.log):
            if offset >= since:
                states.replay(*record, -1, -1, offset)
        assert states.loaded(self.now_ms).records == ()
        return states


def test_as_apache_kafka_wrote_it() -> None:
    machine = Machine()
    wanted = [
        (StoredRecord(bytes.fromhex(key), None if value is None else bytes.fromhex(value)), at_ms)
        for key, value, at_ms in CAPTURED["states"]
    ]
    first, second = (ShareKey(CAPTURED["group"], TOPIC_ID, index) for index in range(2))
    machine.now_ms = wanted[0][1]
    machine.initialize(first, 2, NO_OFFSET)
    machine.now_ms = wanted[1][1]
    machine.initialize(second, 2, NO_OFFSET)
    assert machine.read(key=first).state == machine.states.states[first]
    for start, done, batch in (
        (0, 2, StateBatch(0, 1, ACKNOWLEDGED, 1)),
        (2, 0, StateBatch(2, 2, AVAILABLE, 1)),
        (2, 3, StateBatch(3, 5, ARCHIVED, 1)),
        (2, 4, StateBatch(2, 2, ARCHIVED, 2)),
    ):
        machine.write(batch, key=first, state=2, start=start, done=done)
    machine.now_ms = wanted[6][1]
    machine.initialize(second, 6, 5)
    machine.delete(first)
    machine.delete(second)
    assert machine.log == [record for record, _ in wanted]
    assert machine.states.states == {}


def test_a_state_is_what_was_written() -> None:
    machine = Machine()
    machine.initialize(start=NO_OFFSET)
    assert machine.states.summary(KEY).state == ShareState(0, 1, 0, -1, -1, (), NOW, NOW)
    machine.write(StateBatch(0, 9, ACKNOWLEDGED, 1), start=0, done=10)
    machine.write(StateBatch(10, 19, AVAILABLE, 2), StateBatch(20, 29, ARCHIVED, 5), done=20)
    machine.write(StateBatch(12, 14, ACKNOWLEDGED, 3), start=5, done=18)
    state = machine.read().state
    assert state is not None
    assert (state.start_offset, state.complete_count) == (5, 18)
    assert state.batches == (
        StateBatch(5, 9, ACKNOWLEDGED, 1),
        StateBatch(10, 11, AVAILABLE, 2),
        StateBatch(12, 14, ACKNOWLEDGED, 3),
        StateBatch(15, 19, AVAILABLE, 2),
        StateBatch(20, 29, ARCHIVED, 5),
    )
    assert machine.again().states == machine.states.states


def test_the_start_never_goes_back() -> None:
    machine = Machine()
    machine.initialize(start=10)
    machine.write(start=20, done=3)
    machine.write(start=15, done=8)
    assert machine.states.states[KEY][3:5] == (20, 3)
    machine.write(start=20, done=2)
    assert machine.states.states[KEY][3:5] == (20, 3)
    machine.write(start=21, done=1)
    assert machine.states.states[KEY][3:5] == (21, 1)


def test_older_leaders_and_states_are_fenced() -> None:
    machine = Machine()
    machine.initialize(epoch=3)
    assert machine.read(leader=5).code == ErrorCode.NONE
    records = len(machine.log)
    assert machine.read(leader=5).code == ErrorCode.NONE  # nothing new, nothing written
    assert machine.read(leader=4).code == ErrorCode.FENCED_LEADER_EPOCH
    assert machine.write(state=3, leader=4).code == ErrorCode.FENCED_LEADER_EPOCH
    assert machine.write(state=2, leader=5).code == ErrorCode.FENCED_STATE_EPOCH
    assert machine.initialize(epoch=2).code == ErrorCode.FENCED_STATE_EPOCH
    assert len(machine.log) == records
    assert machine.write(state=3, leader=5).code == ErrorCode.NONE
    assert machine.write(state=4, leader=6).code == ErrorCode.NONE
    machine.states = machine.again()
    assert machine.read(leader=4).code == ErrorCode.FENCED_LEADER_EPOCH
    assert machine.initialize(epoch=3).code == ErrorCode.NONE
    # A deletion ends all of that.
    machine.delete()
    assert machine.initialize(epoch=0).code == ErrorCode.NONE
    assert machine.read(leader=0).code == ErrorCode.NONE


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda m: m.initialize(ShareKey("g", TOPIC_ID, -1)), ErrorCode.INVALID_REQUEST),
        (lambda m: m.initialize(epoch=-1), ErrorCode.INVALID_REQUEST),
        (
            lambda m: m.initialize(ShareKey("g", TOPIC_ID, 2)),
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ),
        (
            lambda m: m.initialize(ShareKey("g", bytes(16), 0)),
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ),
        (lambda m: m.write(key=ShareKey("g", TOPIC_ID, -1)), ErrorCode.INVALID_REQUEST),
        (lambda m: m.write(key=OTHER), ErrorCode.INVALID_REQUEST),
        (lambda m: m.write(state=-1), ErrorCode.INVALID_REQUEST),
        (lambda m: m.write(leader=-1), ErrorCode.INVALID_REQUEST),
        (lambda m: m.read(key=ShareKey("g", TOPIC_ID, -1)), ErrorCode.INVALID_REQUEST),
        (lambda m: m.read(key=OTHER), ErrorCode.INVALID_REQUEST),
        (lambda m: m.read(leader=-1), ErrorCode.INVALID_REQUEST),
        (lambda m: m.delete(ShareKey("g", TOPIC_ID, -1)), ErrorCode.INVALID_REQUEST),
        (lambda m: m.delete(ShareKey("g", TOPIC_ID, 2)), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (lambda m: m.delete(OTHER), ErrorCode.NONE),
        (lambda m: m.states.summary(ShareKey("g", TOPIC_ID, -1)), ErrorCode.INVALID_REQUEST),
        (
            lambda m: m.states.summary(ShareKey("g", TOPIC_ID, 2)),
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ),
    ],
)
def test_refusals(ask: object, code: ErrorCode) -> None:
    machine = Machine()
    machine.initialize()
    answer: Answer = ask(machine)  # type: ignore[operator]
    assert answer.code == code
    assert bool(answer.message) == bool(code)
    assert len(machine.log) == 1


def test_no_state_stands_nowhere() -> None:
    assert Machine().states.summary(KEY) == Answer(state=NO_STATE)


def test_a_topic_that_goes() -> None:
    machine = Machine()
    machine.initialize()
    machine.initialize(OTHER)
    machine.view = ClusterView(1, "cluster", 0, {}, {}, {})
    assert machine.write().code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert machine.read().code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    machine.carry_out(machine.states.topics_deleted({TOPIC_ID}))
    assert machine.states.states == machine.again().states == {}


# --- snapshots


def kinds(records: Iterable[StoredRecord]) -> str:
    """S for a snapshot, U for an update, - for a tombstone."""
    letters = ""
    for record in records:
        key = decode_key(record.key)
        assert key is not None
        snapshot = isinstance(key, ShareSnapshotKey)
        letters += "-" if record.value is None else "S" if snapshot else "U"
    return letters


def test_every_so_many_updates_a_snapshot() -> None:
    machine = Machine(updates="3")
    machine.initialize()
    for offset in range(10):
        machine.now_ms += 1
        machine.write(StateBatch(offset, offset, ACKNOWLEDGED, 1), start=0, done=offset + 1)
    assert kinds(machine.log) == "SUUUSUUUSUU"
    state = machine.states.states[KEY]
    assert state.batches == (StateBatch(0, 9, ACKNOWLEDGED, 1),)
    assert (state.snapshot_epoch, state.complete_count, state.created_ms) == (2, 10, NOW + 8)
    key = decode_key(machine.log[8].key)
    assert key is not None
    value = decode_value(key.RECORD_TYPE, machine.log[8].value)
    assert [(b.first_offset, b.last_offset) for b in value.state_batches] == [(0, 7)]
    # What comes before the last snapshot can go.
    assert machine.states.redundant_below == 8
    assert machine.again(8).states == machine.states.states


def test_the_log_may_lose_what_no_state_needs() -> None:
    machine = Machine(updates="2")
    assert machine.states.redundant_below == 0
    machine.initialize()
    machine.initialize(OTHER)
    assert machine.states.redundant_below == 0
    for _ in range(6):
        machine.write()
    assert kinds(machine.log) == "SSUUSUUS"
    assert machine.states.redundant_below == 1  # the other one's snapshot
    machine.delete(OTHER)
    assert machine.states.redundant_below == 7
    machine.delete()
    assert machine.states.redundant_below == 9
    assert machine.again().redundant_below == 9


def test_states_at_rest_get_a_snapshot_once() -> None:
    machine = Machine()
    machine.initialize()
    machine.now_ms += REST_MS - 1
    machine.write(StateBatch(0, 4, ACKNOWLEDGED, 1), done=5)
    assert machine.states.rested(machine.now_ms).records == []
    machine.now_ms += 1
    machine.carry_out(machine.states.rested(machine.now_ms))
    state = machine.states.states[KEY]
    assert kinds(machine.log) == "SUS"
    assert (state.created_ms, state.written_ms) == (NOW, NOW + REST_MS)
    assert machine.again(2).states == machine.states.states
    machine.now_ms += REST_MS
    assert machine.states.rested(machine.now_ms).records == ()
    # Once one of them has a snapshot of its own, all are looked at again.
    machine.initialize(OTHER)
    machine.now_ms += REST_MS
    machine.carry_out(machine.states.rested(machine.now_ms))
    assert kinds(machine.log) == "SUSSSS"


def test_records_of_a_later_release_are_left_alone() -> None:
    machine = Machine()
    machine.states.replay(b"\x00\x09\x00", b"whatever", -1, -1, 0)
    assert machine.states.states == {}
