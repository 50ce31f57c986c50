"""Committed offsets of groups of all kinds: commits, also of transactions, reads, deletions and
their retention (KIP-211).

A group that only keeps offsets here (its consumers assign partitions themselves) has no object: it
is there as long as it has offsets, and is what Apache Kafka calls an empty group without a
protocol type.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from broker.coordinator import NOTHING, Outcome, StoredRecord, Waiting
from broker.groups.common import CLASSIC, FROM_COMMIT, OFFSETS, Group, TopicChanges
from broker.groups.offset_table import (
    Committed,
    OffsetTable,
    Place,
    offset_key,
    offset_value,
    times_of,
)
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.groups.machine import GroupMachine

log = logging.getLogger("odradek.groups")

RETENTION = (OFFSETS, "retention")
SWEEP_OFFSETS = 5000
"""Offsets that the retention looks at in one turn of the loop: some milliseconds."""
SWEEP_RECORDS = 500
"""Tombstones that it writes at a time: far below a batch's largest size."""

TOPIC_ID_SINCE, TXN_TOPIC_ID_SINCE = 10, 6
"""Versions of OffsetCommit and TxnOffsetCommit from which a group that is not there is told apart
(KIP-848)."""
NEW_TXN_SINCE = 5
"""TxnOffsetCommit version from which it is as with OffsetCommit; before, it is brought about."""


class Committer(NamedTuple):
    """Who commits: a member of a group by its generation or epoch, or nobody in particular."""

    member_id: str
    instance_id: str | None
    epoch: int
    version: int
    producer: tuple[int, int] | None = None
    """(id, epoch) of a transaction's producer."""


class Write(NamedTuple):
    """An offset to be committed, and the part of the response that has its error code."""

    topic: str
    partition: int
    committed: Committed
    answer: Any


class Offsets:
    """The committed offsets of one machine (`broker.groups.machine.Part`)."""

    def __init__(self, machine: "GroupMachine") -> None:
        self._machine = machine
        self._shared = machine.shared
        self._groups: dict[str, Group] = machine.shared.groups
        self.table = OffsetTable()
        self._sweep: list[str] = []

    # --- records

    def replay(
        self, kind: int, key: bytes, value: bytes | None, producer_id: int, offset: int
    ) -> None:
        """A committed offset."""
        self.table.replay(key, value, producer_id, offset)

    def replay_end(self, producer_id: int, committed: bool) -> None:
        """A transaction's marker: its offsets count, or are forgotten."""
        self.table.replay_end(producer_id, committed)

    def loaded(self, now_ms: int) -> Outcome:
        """The retention begins to look."""
        self._rest(now_ms)
        return NOTHING

    def topics_changed(self, changes: TopicChanges, now_ms: int) -> Outcome:
        """Nothing; see `topics_deleted`."""
        return NOTHING

    def exists(self, group_id: str) -> bool:
        """Whether there is a group of any kind, or offsets of one."""
        return group_id in self._groups or self.table.has(group_id)

    # --- commits

    def commit(
        self,
        group_id: str,
        committer: Committer,
        writes: Sequence[Write],
        response: Any,
        who: Waiting,
        now_ms: int,
    ) -> Outcome:
        """Write offsets, those of a transaction to count when it is committed. `response` holds the
        parts that `writes` name; their codes are set here.
        """
        code = self._check(group_id, committer, writes, now_ms)
        if code != ErrorCode.NONE:
            fill(writes, code)
            return Outcome(replies=((who, response),))
        records, written = [], []
        longest = self._shared.config.offset_metadata_max_bytes
        for write in writes:
            if too_long(write.committed.metadata, longest):
                write.answer.error_code = ErrorCode.OFFSET_METADATA_TOO_LARGE
                continue
            key = offset_key(group_id, write.topic, write.partition)
            records.append(StoredRecord(key, offset_value(write.committed)))
            written.append(write)

        def refused(code: ErrorCode) -> Sequence[tuple[Waiting, Any]]:
            too_large = code == ErrorCode.UNKNOWN_SERVER_ERROR
            fill(written, ErrorCode.INVALID_COMMIT_OFFSET_SIZE if too_large else code)
            return ((who, response),)

        return Outcome(records, ((who, response),), refused, committer.producer)

    def _check(
        self, group_id: str, committer: Committer, writes: Sequence[Write], now_ms: int
    ) -> ErrorCode:
        member_id, instance_id, epoch, version, producer = committer
        group = self._groups.get(group_id)
        if group is not None:
            code = group.check_commit(
                member_id,
                instance_id,
                epoch,
                transactional=producer is not None,
                version=version,
                now_ms=now_ms,
            )
            if code == ErrorCode.STALE_MEMBER_EPOCH:
                # A consumer group can tell for each partition since when the member has had it.
                places = [(write.topic, write.partition) for write in writes]
                return group.check_commit_partitions(member_id, epoch, places)
            return code
        if epoch < 0:
            return ErrorCode.NONE
        adds, by_id = (NEW_TXN_SINCE, TXN_TOPIC_ID_SINCE) if producer else (0, TOPIC_ID_SINCE)
        if version < adds or self.table.has(group_id):
            return ErrorCode.UNKNOWN_MEMBER_ID
        newer = version >= by_id
        return ErrorCode.GROUP_ID_NOT_FOUND if newer else ErrorCode.ILLEGAL_GENERATION

    # --- reads

    def check_fetch(self, group_id: str, member_id: str | None, epoch: int) -> ErrorCode:
        """Whether a member may read (OffsetFetch 9); anybody may who does not say to be one."""
        group = self._groups.get(group_id)
        if group is None or (member_id is None and epoch < 0):
            return ErrorCode.NONE
        return group.check_fetch(member_id or "", epoch)

    # --- deletions

    def delete_group(self, group_id: str) -> tuple[ErrorCode, list[StoredRecord]]:
        """What DeleteGroups answers for a group, and the tombstones of all that it has."""
        group = self._groups.get(group_id)
        if not self.exists(group_id):
            return ErrorCode.GROUP_ID_NOT_FOUND, []
        if group is not None:
            code = group.check_delete()
            if code != ErrorCode.NONE:
                return code, []
        return ErrorCode.NONE, self._removal(group_id, self.table.places(group_id), delete=True)

    def delete_groups(self, results: Iterable[Any], who: Waiting) -> Outcome:
        """DeleteGroups for groups of this machine: `results` (parts of the response) have a group
        id each and get a code."""
        records: list[StoredRecord] = []
        deleted = []
        for result in results:
            result.error_code, tombstones = self.delete_group(result.group_id)
            records += tombstones
            if result.error_code == ErrorCode.NONE:
                deleted.append(result)

        def refused(code: ErrorCode) -> Sequence[tuple[Waiting, Any]]:
            for result in deleted:
                result.error_code = code
            return ((who, results),)

        return Outcome(records, ((who, results),), refused, divisible=True)

    def delete_offsets(
        self,
        group_id: str,
        places: Mapping[Place, Any],
        response: Any,
        who: Waiting,
    ) -> Outcome:
        """OffsetDelete (KIP-496): `places` (topic, partition) -> the part of the response that gets
        a code. A classic group without anything left is deleted; a consumer group stays until the
        retention looks at it, as in Apache Kafka."""
        group = self._groups.get(group_id)
        code = ErrorCode.NONE if self.exists(group_id) else ErrorCode.GROUP_ID_NOT_FOUND
        if group is not None:
            code = group.check_offset_delete()
        if code != ErrorCode.NONE:
            return Outcome(replies=((who, who.refuse(code)),))
        free = []
        for place, answer in places.items():
            if group is not None and group.is_subscribed(place[0]):
                answer.error_code = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
            else:
                free.append(place)
        records = self._removal(group_id, free) if free else []
        return Outcome(records, ((who, response),), divisible=True)

    def topics_deleted(self, names: frozenset[str], now_ms: int) -> Outcome:
        """Offsets of topics that are gone are forgotten, and groups that have nothing else."""
        records: list[StoredRecord] = []
        for group_id in list(self.table.groups()):
            places = [place for place in self.table.places(group_id) if place[0] in names]
            if places:
                records += self._removal(group_id, places)
        return Outcome(records, divisible=True)

    def _removal(
        self, group_id: str, places: Iterable[Place], *, delete: bool = False
    ) -> list[StoredRecord]:
        """Tombstones for these offsets, and for the group where nothing is left of it and
        `delete` is told, or it is a classic one."""
        table = self.table
        gone = dict.fromkeys(places)
        had = table.places(group_id)
        records = [StoredRecord(offset_key(group_id, *p), None) for p in had if p in gone]
        group = self._groups.get(group_id)
        if group is None or not (delete or self._vanishes(group)):
            return records
        if all(place in gone for place in had):
            tombstones = group.tombstones()
            records += tombstones
            if not tombstones:
                # It never had a generation: nothing is stored of it.
                self._machine.classic.forget(group_id)
        return records

    @staticmethod
    def _vanishes(group: Group) -> bool:
        return group.kind == CLASSIC and group.is_empty and group.expires

    # --- retention

    def _rest(self, now_ms: int) -> None:
        interval = self._shared.config.offsets_retention_check_interval_ms
        self._shared.timers.set(RETENTION, now_ms + interval)

    def expired(self, timer: Any, now_ms: int) -> Outcome:
        """Look through all groups, some in a turn: expired offsets go, and groups that are empty
        and have none left."""
        if not self._sweep:
            self._sweep = list(dict.fromkeys((*self._groups, *self.table.groups())))
            self._sweep.reverse()
        records: list[StoredRecord] = []
        looked = 0
        while self._sweep and looked < SWEEP_OFFSETS and len(records) < SWEEP_RECORDS:
            group_id = self._sweep.pop()
            group = self._groups.get(group_id)
            places = self._expired_places(group_id, group, now_ms)
            looked += 1 + len(self.table.of(group_id))
            if len(places) > SWEEP_RECORDS:
                places = places[:SWEEP_RECORDS]
                self._sweep.append(group_id)  # the rest of them in the next turn
            if places or group is not None:
                over = group is not None and group.is_empty and group.expires
                records += self._removal(group_id, places, delete=over)
        if self._sweep:
            self._shared.timers.set(RETENTION, now_ms + 1)
        else:
            self._rest(now_ms)
        if records:
            log.info("%d records of offsets or groups have expired", len(records))
        return Outcome(records)

    def _expired_places(self, group_id: str, group: Group | None, now_ms: int) -> list[Place]:
        """Where the group's offsets have outlived the retention."""
        since = FROM_COMMIT if group is None else group.offsets_expire_from()
        if since is None:
            return []
        oldest = now_ms - self._shared.config.offsets_retention_minutes * 60_000
        return [
            place
            for place, value in self.table.of(group_id).items()
            if _is_expired(value, since, oldest, now_ms)
            and not self.table.is_pending(group_id, place)
            and (group is None or not group.is_subscribed(place[0]))
        ]


def _is_expired(value: bytes, since: int, oldest: int, now_ms: int) -> bool:
    """Whether an offset was committed (or its group is empty, where `since` says so) before
    `oldest`; an expiry of its own, of clients before KIP-211, comes first."""
    committed, expires = times_of(value)
    if expires >= 0:
        return now_ms >= expires
    return (committed if since == FROM_COMMIT else since) <= oldest


def fill(writes: Iterable[Write], code: ErrorCode) -> None:
    """Give all of them this code."""
    for write in writes:
        write.answer.error_code = code


def too_long(metadata: str, most: int) -> bool:
    """Whether metadata has more characters than that, as Java counts them."""
    length = len(metadata)
    if not metadata.isascii():
        length += sum(char > "\uffff" for char in metadata)
    return length > most
