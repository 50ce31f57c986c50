"""The share partitions that this broker leads, tied to logs, sessions, connections and the clock.

A share partition is made when a member first fetches from it: its state is read from the share
coordinator, and until that is there nothing can be acquired. It is dropped when the topic's
partition is led in another epoch or elsewhere, when its leader was fenced by a newer one, and when
no member of the group has a session here any more; its state outlives it.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from broker.partition import Partition, Waiter
from broker.settings.groups import duration_ms
from broker.shares.common import NO_OFFSET, Refused, ShareKey
from broker.shares.ends import EndOffsets
from broker.shares.groups import ShareGroupStates
from broker.shares.partition import (
    Acknowledgement,
    BadState,
    Limits,
    SharePartition,
    Update,
)
from broker.shares.persister import Persister, StatePersister
from broker.shares.sessions import Asked, Session, SessionKey, ShareSessions
from broker.shares.state import Answer, Change
from broker.timers import Timers
from protocol.errors import ErrorCode
from storage.errors import StorageError

if TYPE_CHECKING:
    from broker.context import Context, Node

log = logging.getLogger("odradek.shares")

LEADER_CODES = {
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.FENCED_LEADER_EPOCH: ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.FENCED_STATE_EPOCH: ErrorCode.NOT_LEADER_OR_FOLLOWER,
}
"""What the share coordinator answers a leader with -> what a member is told. Codes that are neither
here nor in TOLD are an unknown error to it."""
TOLD = (
    ErrorCode.NONE,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.GROUP_ID_NOT_FOUND,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
)
FENCED = (
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.GROUP_ID_NOT_FOUND,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
)
"""After these the share partition is not this broker's any more."""


class Said(NamedTuple):
    """What a member is told of one partition."""

    code: ErrorCode = ErrorCode.NONE
    message: str | None = None


FINE = Said()


class Led:
    """A share partition led here. `share` is None until its state is there."""

    __slots__ = ("failures", "key", "leader_epoch", "partition", "share", "waiters")

    def __init__(self, key: ShareKey, partition: Partition) -> None:
        self.key = key
        self.partition = partition
        self.leader_epoch = partition.leader_epoch
        self.share: SharePartition | None = None
        self.waiters: dict[Waiter, None] = {}
        self.failures: list[Callable[[Said], None]] = []
        """Told when the state cannot be had."""

    @property
    def current(self) -> bool:
        """Whether the topic's partition still is led here in the same epoch."""
        partition = self.partition
        return (
            partition.log is not None
            and partition.is_leader
            and partition.leader_epoch == self.leader_epoch
        )

    def wake(self) -> None:
        """Have whoever waits for records look again."""
        waiters, self.waiters = self.waiters, {}
        for waiter in waiters:
            waiter.wake()


class ShareManager:
    """See the module."""

    def __init__(self, node: "Node", persister: Persister | None = None) -> None:
        self._node = node
        self.persister = persister or StatePersister(node)
        self.groups = ShareGroupStates(node, self.persister)
        self.ends = EndOffsets(node)
        self.sessions = ShareSessions(node.config.group_share_max_share_sessions)
        self._led: dict[ShareKey, Led] = {}
        self._timers = Timers(node.clock, self._expire)

    def close(self) -> None:
        """End of the broker."""
        self._timers.clear()
        self.persister.close()
        self.ends.close()
        self._led.clear()

    # --- settings

    def limits(self, group_id: str) -> Limits:
        """What the group's settings allow."""
        get = self._node.config.groups.get
        return Limits(
            get(group_id, "share.record.lock.duration.ms"),
            get(group_id, "share.delivery.count.limit"),
            get(group_id, "share.partition.max.record.locks"),
            get(group_id, "share.renew.acknowledge.enable"),
        )

    # --- share partitions

    def lead(self, key: ShareKey, topic: str, failed: Callable[[Said], None]) -> Led | ErrorCode:
        """The share partition, made now if need be, or why it is not here. `failed` is called
        later if its state cannot be had."""
        led = self._led.get(key)
        if led is not None:
            if led.current:
                if led.share is None:
                    led.failures.append(failed)
                return led
            self.drop(led)
        partition = self._node.replicas.leader(topic, key.partition)
        if isinstance(partition, ErrorCode):
            return partition
        if partition.topic_id != key.topic_id:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        led = self._led[key] = Led(key, partition)
        led.failures.append(failed)
        self._initialize(led)
        return led

    def _initialize(self, led: Led) -> None:
        if not led.key.group_id:  # no coordinator has a name for it
            self._fail(led, Said(ErrorCode.UNKNOWN_SERVER_ERROR))
            return
        self.persister.read(
            led.key, led.leader_epoch, lambda answer: self._initialized(led, answer)
        )

    def _initialized(self, led: Led, answer: Answer) -> None:
        if self._led.get(led.key) is not led:
            return
        if answer.code:
            self._fail(led, _told(answer))
            return
        assert answer.state is not None
        try:
            start = answer.state.start_offset
            if start == NO_OFFSET:
                start = self._chosen_start(led)
            led.share = SharePartition(led.key, led.leader_epoch, answer.state, start)
        except Refused as refused:
            self._fail(led, Said(refused.code, refused.message))
            return
        except BadState as error:
            log.error("the state of a share partition cannot be used: %s", error)
            self._fail(led, Said(ErrorCode.UNKNOWN_SERVER_ERROR))
            return
        led.failures.clear()
        led.wake()

    def _chosen_start(self, led: Led) -> int:
        """Where the group's reset strategy begins. Raises Refused."""
        source = led.partition.log
        if source is None:
            raise Refused(ErrorCode.NOT_LEADER_OR_FOLLOWER, None)
        reset = self._node.config.groups.get(led.key.group_id, "share.auto.offset.reset")
        if reset == "earliest":
            return source.log_start_offset
        if reset == "latest":
            return source.high_watermark
        try:
            since = self._node.clock.now_ms() - (duration_ms(reset) or 0)
            found = source.offset_for_timestamp(since)
        except StorageError as error:
            raise Refused(ErrorCode.KAFKA_STORAGE_ERROR, str(error)) from error
        if found is None or found[1] >= source.high_watermark:
            raise Refused(ErrorCode.OFFSET_NOT_AVAILABLE, "There is no record of that time.")
        return found[1]

    def _fail(self, led: Led, said: Said) -> None:
        failures, led.failures = led.failures, []
        self.drop(led)
        for failed in failures:
            failed(said)

    def drop(self, led: Led) -> None:
        """This broker does not lead it any more; whoever waits for its records looks again."""
        if self._led.get(led.key) is led:
            del self._led[led.key]
            self._timers.cancel(led.key)
        led.share = None
        led.wake()

    # --- changes and their persistence

    def changed(self, led: Led) -> None:
        """Records were acquired, or locks renewed: the next deadline may be another one."""
        deadline = None if led.share is None else led.share.next_deadline
        if deadline is not None:
            self._timers.set(led.key, deadline)

    def _expire(self, key: Hashable) -> None:
        assert isinstance(key, ShareKey)
        led = self._led.get(key)
        if led is None or led.share is None:
            return
        if not led.current:
            self.drop(led)
            return
        limit = self.limits(key.group_id).max_deliveries
        update = led.share.expire(limit, self._node.clock.now_ms())
        self.changed(led)
        if update.batches:
            self._persist(led, update, lambda _: None)
            led.wake()

    def _persist(self, led: Led, update: Update, done: Callable[[Said], None]) -> None:
        """Write an update and end its transitions; `done` then."""
        share = led.share
        assert share is not None
        if not update.batches:
            done(FINE)
            return

        def persisted(answer: Answer) -> None:
            said = _told(answer)
            if led.share is share:
                self._end(led, share, update, persisted=not said.code)
                if said.code in FENCED:
                    log.info("%s is fenced: %s", led.key, answer.message)
                    self.drop(led)
            done(said)

        change = Change(
            share.state_epoch,
            share.leader_epoch,
            share.start_offset,
            share.complete_count,
            update.batches,
        )
        self.persister.write(led.key, change, persisted)

    def _end(self, led: Led, share: SharePartition, update: Update, *, persisted: bool) -> None:
        limit = self.limits(led.key.group_id).max_deliveries
        now_ms = self._node.clock.now_ms()
        found = share.complete(update.transitions, limit, now_ms, persisted=persisted)
        if not update.transitions:  # of locks that ended, which they have whatever was written
            found = share.advance()
        if found:
            led.wake()

    # --- what members ask

    def acknowledge(
        self,
        group_id: str,
        member_id: str,
        asked: "Iterable[tuple[Asked, Sequence[Acknowledgement]]]",
        done: Callable[[dict[Asked, Said]], None],
    ) -> None:
        """What a member says of its records, by partition; `done` when all of it is durable."""
        work = list(asked)
        gather = _Gather([one for one, _ in work], done)
        for one, acknowledgements in work:
            self._acknowledge(group_id, member_id, one, acknowledgements, gather.answer_for(one))

    def _acknowledge(
        self,
        group_id: str,
        member_id: str,
        asked: Asked,
        acknowledgements: Sequence[Acknowledgement],
        done: Callable[[Said], None],
    ) -> None:
        led = self._led.get(ShareKey(group_id, *asked))
        if led is not None and not led.current:
            self.drop(led)
            done(_said(ErrorCode.NOT_LEADER_OR_FOLLOWER))
            return
        if led is None or led.share is None:
            done(_said(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
            return
        now_ms = self._node.clock.now_ms()
        try:
            update = led.share.acknowledge(
                member_id, acknowledgements, self.limits(group_id), now_ms
            )
        except Refused as refused:
            self.changed(led)  # renewals before it are kept
            done(Said(refused.code, refused.message))
            return
        self.changed(led)
        self._persist(led, update, done)

    def open_session(self, key: SessionKey, partitions: list[Asked], context: "Context") -> Session:
        """A session that ends with the connection. Raises Refused."""
        session = self.sessions.open(key, partitions, context)
        if context.closing is None:
            context.closing = {}
        context.closing["share session", key] = lambda: self._connection_closed(session)
        return session

    def _connection_closed(self, session: Session) -> None:
        if self.sessions.get(session.key) is session:
            self.close_session(session.key)
        group_id = session.key[0]
        if not self.sessions.has_members(group_id):
            for led in [led for led in self._led.values() if led.key.group_id == group_id]:
                self.drop(led)

    def close_session(self, key: SessionKey) -> None:
        """A member goes: what it has can be acquired by others."""
        session = self.sessions.remove(key)
        if session is None:
            return
        group_id, member_id = key
        limit = self.limits(group_id).max_deliveries
        for asked in session.partitions:
            led = self._led.get(ShareKey(group_id, *asked))
            if led is not None and led.share is not None and led.current:
                update = led.share.release(member_id, limit)
                self._persist(led, update, lambda _: None)


class _Gather:
    """Collects an answer for each partition."""

    def __init__(self, asked: Iterable[Asked], done: Callable[[dict[Asked, Said]], None]) -> None:
        self._open = set(asked)
        self._said: dict[Asked, Said] = {}
        self._done = done
        if not self._open:
            done({})

    def answer_for(self, asked: Asked) -> Callable[[Said], None]:
        def answer(said: Said) -> None:
            self._said[asked] = said
            self._open.discard(asked)
            if not self._open:
                self._done(self._said)

        return answer


def _said(code: ErrorCode) -> Said:
    return Said(code, code.message)


def _told(answer: Answer) -> Said:
    code = LEADER_CODES.get(answer.code, answer.code)
    if code not in TOLD and code not in LEADER_CODES.values():
        code = ErrorCode.UNKNOWN_SERVER_ERROR
    return Said(code, answer.message) if code else FINE
