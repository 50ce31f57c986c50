"""The share coordinator's machine: the states of share partitions that one partition of
__share_group_state keeps (KIP-932).

A state is a snapshot record and the updates after it. Every change is an update, until
share.coordinator.snapshot.update.records.per.snapshot of them were written; the next change then is
a snapshot of the whole. What came before the oldest snapshot that is still needed can be deleted
from the log (`redundant_below`); so that it moves on, partitions that are at rest get a snapshot
now and then (`rested`).

Two epochs fence writers: the leader epoch those of a former leader of the topic's partition, raised
by a read; the state epoch those who knew an earlier life of the state, raised when it is
initialized.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from broker.cluster.view import ClusterView
from broker.config import BrokerConfig
from broker.coordinator import NOTHING, Outcome, StoredRecord, Waiting
from broker.shares.common import (
    NO_OFFSET,
    UNKNOWN_COUNT,
    ShareKey,
    StateBatch,
    combined,
)
from protocol.errors import ErrorCode
from protocol.stored import share_group_state as records
from protocol.stored.versioned import encode_key, encode_value

REST_MS = 300_000
"""How long a share partition must have been without a snapshot to get one for being at rest; and
how often that, and the log's beginning, is looked after. Internal settings of Apache Kafka."""


class ShareState(NamedTuple):
    """What is durable of a share partition."""

    snapshot_epoch: int
    state_epoch: int
    leader_epoch: int
    start_offset: int
    """-1 until the partition's leader has chosen one."""
    complete_count: int
    """Records from the start offset on that are acknowledged or archived; -1 if nobody counted."""
    batches: tuple[StateBatch, ...] = ()
    created_ms: int = 0
    written_ms: int = 0


class Change(NamedTuple):
    """A leader's write. A start offset of -1 leaves it as it is."""

    state_epoch: int
    leader_epoch: int
    start_offset: int
    complete_count: int
    batches: tuple[StateBatch, ...]


class Answer(NamedTuple):
    """What the coordinator says to one partition's request; `state` where one was asked for."""

    code: ErrorCode = ErrorCode.NONE
    message: str | None = None
    state: ShareState | None = None


NO_STATE = ShareState(0, 0, 0, NO_OFFSET, UNKNOWN_COUNT)


class ShareStates:
    """See the module. A `broker.coordinator.Machine`."""

    def __init__(self, index: int, config: BrokerConfig, view: Callable[[], ClusterView]) -> None:
        self.index = index
        self._config = config
        self._view = view
        self.states: dict[ShareKey, ShareState] = {}
        self._leader_epochs: dict[ShareKey, int] = {}
        self._state_epochs: dict[ShareKey, int] = {}
        self._updates: dict[ShareKey, int] = {}
        """Updates since the last snapshot that was written for their number."""
        self._snapshots: dict[ShareKey, int] = {}
        """Offset of the last snapshot."""
        self._last_deletion = 0

    # --- requests

    def initialize(
        self, key: ShareKey, state_epoch: int, start_offset: int, who: Waiting, now_ms: int
    ) -> Outcome:
        """A state that begins at `start_offset`; what was there before is over."""
        if key.partition < 0:
            return _refused(who, ErrorCode.INVALID_REQUEST, NEGATIVE_PARTITION)
        if state_epoch < 0:
            return _refused(who, ErrorCode.INVALID_REQUEST, "The state epoch is negative.")
        if self._state_epochs.get(key, state_epoch) > state_epoch:
            return _refused(who, ErrorCode.FENCED_STATE_EPOCH)
        if not self._exists(key):
            return _refused(who, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        before = self.states.get(key)
        state = ShareState(
            snapshot_epoch=0 if before is None else before.snapshot_epoch + 1,
            state_epoch=state_epoch,
            leader_epoch=0,
            start_offset=start_offset,
            complete_count=UNKNOWN_COUNT if start_offset == NO_OFFSET else 0,
            created_ms=now_ms,
            written_ms=now_ms,
        )
        return Outcome([_snapshot(key, state)], [(who, Answer())])

    def write(self, key: ShareKey, change: Change, who: Waiting, now_ms: int) -> Outcome:
        """What happened to records."""
        code, message = self._check_write(key, change)
        if code:
            return _refused(who, code, message)
        return Outcome([self._record(key, change, None, now_ms)], [(who, Answer())])

    def _check_write(self, key: ShareKey, change: Change) -> tuple[ErrorCode, str | None]:
        if key.partition < 0:
            return ErrorCode.INVALID_REQUEST, NEGATIVE_PARTITION
        if change.leader_epoch < 0 or change.state_epoch < 0:
            return ErrorCode.INVALID_REQUEST, "An epoch is negative."
        if key not in self.states:
            return ErrorCode.INVALID_REQUEST, UNINITIALIZED
        if self._leader_epochs.get(key, -1) > change.leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH, None
        if self._state_epochs.get(key, -1) > change.state_epoch:
            return ErrorCode.FENCED_STATE_EPOCH, None
        if not self._exists(key):
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None
        return ErrorCode.NONE, None

    def read(self, key: ShareKey, leader_epoch: int, who: Waiting, now_ms: int) -> Outcome:
        """The state, for a leader of that epoch; leaders before it are fenced from now on."""
        if key.partition < 0:
            return _refused(who, ErrorCode.INVALID_REQUEST, NEGATIVE_PARTITION)
        if leader_epoch < 0:
            return _refused(who, ErrorCode.INVALID_REQUEST, "The leader epoch is negative.")
        state = self.states.get(key)
        if state is None:
            return _refused(who, ErrorCode.INVALID_REQUEST, UNINITIALIZED)
        known = self._leader_epochs.get(key, -1)
        if known > leader_epoch:
            return _refused(who, ErrorCode.FENCED_LEADER_EPOCH)
        if not self._exists(key):
            return _refused(who, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        answer = (who, Answer(state=state))
        if known == leader_epoch:
            return Outcome(replies=[answer])
        same = Change(state.state_epoch, leader_epoch, state.start_offset, state.complete_count, ())
        return Outcome([self._record(key, same, leader_epoch, now_ms)], [answer])

    def summary(self, key: ShareKey) -> Answer:
        """Where a share partition stands; epochs 0 and offset -1 where there is no state."""
        if key.partition < 0:
            return Answer(ErrorCode.INVALID_REQUEST, NEGATIVE_PARTITION)
        if not self._exists(key):
            return _answer(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return Answer(state=self.states.get(key, NO_STATE))

    def delete(self, key: ShareKey, who: Waiting, now_ms: int) -> Outcome:
        """Forget a state; one that is not there is forgotten already."""
        if key.partition < 0:
            return _refused(who, ErrorCode.INVALID_REQUEST, NEGATIVE_PARTITION)
        if not self._exists(key):
            return _refused(who, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        tombstones = [_tombstone(key)] if key in self.states else []
        return Outcome(tombstones, [(who, Answer())])

    def _exists(self, key: ShareKey) -> bool:
        view = self._view()
        name = view.names.get(key.topic_id)
        return name is not None and key.partition < len(view.topics[name].partitions)

    def _record(
        self, key: ShareKey, change: Change, leader_epoch: int | None, now_ms: int
    ) -> StoredRecord:
        """The update, or the snapshot that is due; a new leader epoch only if one is given."""
        present = self.states[key]
        start = max(change.start_offset, present.start_offset)
        count = change.complete_count
        if change.start_offset == present.start_offset:
            count = max(count, present.complete_count)
        elif change.start_offset < present.start_offset:
            count = present.complete_count
        state = present._replace(
            leader_epoch=present.leader_epoch if leader_epoch is None else leader_epoch,
            start_offset=start,
            complete_count=count,
        )
        limit = self._config.share_coordinator_snapshot_update_records_per_snapshot
        if self._updates.get(key, 0) < limit:
            return _update(key, state._replace(batches=combined(change.batches, start)))
        return _snapshot(
            key,
            state._replace(
                snapshot_epoch=present.snapshot_epoch + 1,
                batches=combined((*present.batches, *change.batches), start),
                created_ms=now_ms,
                written_ms=now_ms,
            ),
        )

    # --- inputs from inside the broker

    def topics_deleted(self, topic_ids: Collection[bytes]) -> Outcome:
        """States of topics that are gone go too."""
        return Outcome([_tombstone(key) for key in self.states if key.topic_id in topic_ids])

    def rested(self, now_ms: int) -> Outcome:
        """Snapshots of the partitions whose last one is old, unless all of them have such a
        snapshot and nothing happened since.
        """
        if all(state.created_ms != state.written_ms for state in self.states.values()):
            return NOTHING
        return Outcome(
            [
                _snapshot(
                    key, state._replace(snapshot_epoch=state.snapshot_epoch + 1, written_ms=now_ms)
                )
                for key, state in self.states.items()
                if now_ms - state.written_ms >= REST_MS
            ]
        )

    @property
    def redundant_below(self) -> int:
        """Records below this offset say nothing any more."""
        return min(self._snapshots.values(), default=self._last_deletion)

    # --- the shell's

    def replay(
        self, key: bytes, value: bytes | None, producer_id: int, producer_epoch: int, offset: int
    ) -> None:
        """One record, live or loading; kinds of a later release are left alone."""
        named = records.decode_key(key)
        if named is None:
            return
        share = ShareKey(named.group_id, bytes(named.topic_id), named.partition)
        content = records.decode_value(named.RECORD_TYPE, value)
        if named.RECORD_TYPE == records.ShareUpdateKey.RECORD_TYPE:
            if content is not None:
                self._replay_update(share, content)
        elif content is None:
            self._replay_tombstone(share, offset)
        else:
            self._replay_snapshot(share, content, offset)

    def _replay_snapshot(
        self, key: ShareKey, value: records.ShareSnapshotValue, offset: int
    ) -> None:
        self.states[key] = ShareState(
            value.snapshot_epoch,
            value.state_epoch,
            value.leader_epoch,
            value.start_offset,
            value.delivery_complete_count,
            _batches(value.state_batches),
            value.create_timestamp,
            value.write_timestamp,
        )
        self._fence(key, value.leader_epoch)
        self._state_epochs[key] = max(self._state_epochs.get(key, -1), value.state_epoch)
        limit = self._config.share_coordinator_snapshot_update_records_per_snapshot
        if self._updates.get(key, -1) >= limit:
            self._updates[key] = 0
        self._snapshots[key] = offset

    def _replay_update(self, key: ShareKey, value: records.ShareUpdateValue) -> None:
        self._fence(key, value.leader_epoch)
        self._updates[key] = self._updates.get(key, 0) + 1
        present = self.states.get(key)
        if present is None:  # its snapshot was deleted from the log, which nobody does
            present = NO_STATE._replace(snapshot_epoch=value.snapshot_epoch)
        start = value.start_offset
        if start == NO_OFFSET:
            start = present.start_offset
        self.states[key] = present._replace(
            leader_epoch=present.leader_epoch if value.leader_epoch == -1 else value.leader_epoch,
            start_offset=start,
            complete_count=value.delivery_complete_count,
            batches=combined((*present.batches, *_batches(value.state_batches)), start),
        )

    def _replay_tombstone(self, key: ShareKey, offset: int) -> None:
        for known in (
            self.states,
            self._leader_epochs,
            self._state_epochs,
            self._updates,
            self._snapshots,
        ):
            known.pop(key, None)
        self._last_deletion = offset

    def _fence(self, key: ShareKey, leader_epoch: int) -> None:
        self._leader_epochs[key] = max(self._leader_epochs.get(key, -1), leader_epoch)

    def replay_end(self, producer_id: int, producer_epoch: int, committed: bool) -> None:
        """There are no transactions in this topic."""

    def loaded(self, now_ms: int) -> Outcome:
        """Nothing was under way."""
        return NOTHING

    def expired(self, timer: Any, now_ms: int) -> Outcome:
        """There are no timers."""
        return NOTHING


NEGATIVE_PARTITION = "The partition is negative."
UNINITIALIZED = "The share partition was not initialized."


def _answer(code: ErrorCode, message: str | None = None) -> Answer:
    return Answer(code, message or code.message)


def _refused(who: Waiting, code: ErrorCode, message: str | None = None) -> Outcome:
    return Outcome(replies=[(who, _answer(code, message))])


def _batches(stored_batches: list[records.StateBatch]) -> tuple[StateBatch, ...]:
    return tuple(
        StateBatch(b.first_offset, b.last_offset, b.delivery_state, b.delivery_count)
        for b in stored_batches
    )


def _stored_batches(batches: tuple[StateBatch, ...]) -> list[records.StateBatch]:
    return [records.StateBatch(*batch) for batch in batches]


def _snapshot(key: ShareKey, state: ShareState) -> StoredRecord:
    value = records.ShareSnapshotValue(
        snapshot_epoch=state.snapshot_epoch,
        state_epoch=state.state_epoch,
        leader_epoch=state.leader_epoch,
        start_offset=state.start_offset,
        delivery_complete_count=state.complete_count,
        create_timestamp=state.created_ms,
        write_timestamp=state.written_ms,
        state_batches=_stored_batches(state.batches),
    )
    return StoredRecord(encode_key(records.ShareSnapshotKey(*key)), encode_value(value))


def _update(key: ShareKey, state: ShareState) -> StoredRecord:
    value = records.ShareUpdateValue(
        snapshot_epoch=state.snapshot_epoch,
        leader_epoch=state.leader_epoch,
        start_offset=state.start_offset,
        delivery_complete_count=state.complete_count,
        state_batches=_stored_batches(state.batches),
    )
    return StoredRecord(encode_key(records.ShareUpdateKey(*key)), encode_value(value))


def _tombstone(key: ShareKey) -> StoredRecord:
    return StoredRecord(encode_key(records.ShareSnapshotKey(*key)), None)
