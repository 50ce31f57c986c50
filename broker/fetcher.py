"""A follower's fetcher: copies what one leader has, for all partitions that follow it from here.

One request at a time, in a fetch session. What comes is appended as it is; high watermark and log
start follow the leader's. Where the leader's log went another way, its answer names the epoch and
offset at which it did, and the log here is cut back (KIP-595) before it goes on. A partition that
the leader refuses is asked for again after a pause that grows to replica.fetch.backoff.ms; one
whose leader epoch is over waits for the controller's next word.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from broker.clock import Clock
from broker.fetch_session import Ask, Key, SessionClient, Turn
from broker.ibp import LAST_WITHOUT_TOPIC_IDS, REPLICA_STATE_IN_FETCH, TOPIC_IDS_IN_FETCH, Versions
from broker.partition import Partition
from broker.peer import Peer, PeerGone
from broker.throttles import Throttle
from protocol.errors import CorruptRecord, ErrorCode, Malformed
from protocol.messages.fetch import (
    EpochEndOffset,
    FetchPartition,
    FetchRequest,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
    ReplicaState,
)
from protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from storage.errors import LogDirOffline, StorageError
from storage.log import Log

log = logging.getLogger("odradek.fetcher")

FIRST_DELAY_S = 0.05
THROTTLE_CHECK_S = 0.1
BYTES_A_SLICE = 1 << 20
"""Appended before connections get their turn."""
NAMES_TOLD = 5
"""Names of partitions in a line of the log."""
NAMES_KEPT = 100
"""Names of topics that are fetched no more are forgotten when there are so many."""
LATEST, EARLIEST = -1, -2


class FetchConfig(NamedTuple):
    """replica.fetch.* of this broker. Bytes, ms, seconds."""

    wait_max_ms: int = 500
    min_bytes: int = 1
    partition_bytes: int = 1 << 20
    response_bytes: int = 10 << 20
    backoff_s: float = 1.0


class Fetched:
    """A partition that is being fetched under one leader epoch."""

    __slots__ = ("asked", "delay_s", "lags", "partition", "timer", "trouble")

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.asked: int | None = None
        """The offset that the leader was last asked for, None before the first request."""
        self.delay_s = 0.0
        self.lags = True
        """Whether the leader's high watermark is beyond this log's end."""
        self.timer: asyncio.TimerHandle | None = None
        self.trouble: int | None = None
        """The refusal that was logged last."""

    @property
    def key(self) -> Key:
        return self.partition.topic, self.partition.index


class _Refused(Exception):
    """The leader does not tell an offset."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Fetcher:
    """One connection to one leader; see the module's docstring.

    `visible(partition)` is told when a high watermark has moved; `broker_epoch()` is this broker's.
    """

    def __init__(
        self,
        broker_id: int,
        peer: Peer,
        versions: Versions,
        config: FetchConfig,
        clock: Clock,
        visible: Callable[[Partition], None],
        broker_epoch: Callable[[], int],
        throttle: Throttle | None = None,
    ) -> None:
        self._broker_id = broker_id
        self._peer = peer
        self._versions = versions
        self._config = config
        self._clock = clock
        self._visible = visible
        self._broker_epoch = broker_epoch
        self._throttle = throttle
        self._held: set[Key] = set()
        """Left out until the rate of throttled replicas has come down."""
        self._session = SessionClient()
        self._fetched: dict[Key, Fetched] = {}
        self._names: dict[bytes, str] = {}
        self._out_of_range: list[Fetched] = []
        self._refused: dict[int, list[Fetched]] = {}
        """By error: what was refused anew in this round."""
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def __len__(self) -> int:
        return len(self._fetched)

    # --- what is fetched

    def add(self, partition: Partition) -> None:
        """Fetch it from now on, under its present leader epoch."""
        source = partition.log
        if source is None:
            return
        one = Fetched(partition)
        self.remove((partition.topic, partition.index))
        self._fetched[one.key] = one
        # Without epochs nobody can tell where the logs part; up to here they are the same.
        blind = source.latest_epoch < 0 and source.end_offset > source.high_watermark
        if not blind or self._carried_out(one, source.truncate_to, source.high_watermark):
            self._ask(one)

    def remove(self, key: Key) -> None:
        """Fetch it no more; what is under way for it will be ignored."""
        one = self._fetched.pop(key, None)
        if one is not None:
            self._held.discard(key)
            self._session.drop(key)
            if one.timer is not None:
                one.timer.cancel()

    def _ask(self, one: Fetched) -> None:
        """Put what the next request shall say of it."""
        partition = one.partition
        source = partition.log
        if source is None or self._fetched.get(one.key) is not one or one.key in self._held:
            return
        self._names[partition.topic_id] = partition.topic
        if len(self._names) > NAMES_KEPT + 2 * len(self._fetched):
            fetched = [one.partition for one in self._fetched.values()]
            self._names = {p.topic_id: p.topic for p in fetched}
        self._session.put(
            one.key,
            Ask(
                partition.topic_id,
                source.end_offset,
                partition.leader_epoch,
                source.latest_epoch,
                source.log_start_offset,
            ),
        )
        self._wake.set()

    def _delay(self, one: Fetched) -> None:
        """Leave it out for a while."""
        self._session.drop(one.key)
        one.delay_s = min(max(2 * one.delay_s, FIRST_DELAY_S), self._config.backoff_s)
        loop = asyncio.get_running_loop()
        one.timer = loop.call_later(one.delay_s, self._ask, one)

    # --- throttling

    def _hold(self) -> None:
        """Leave throttled replicas out that lag, while the rate is exceeded."""
        throttle = self._throttle
        if throttle is None or (throttle.off and not self._held):
            return
        for key, one in self._fetched.items():
            held = one.lags and throttle.holds(one.partition)
            if held and key not in self._held:
                self._held.add(key)
                self._session.drop(key)
            elif not held and key in self._held:
                self._held.discard(key)
                self._ask(one)

    # --- the loop

    async def _run(self) -> None:
        while True:
            try:
                self._hold()
                if not len(self._session):
                    await self._rest()
                    continue
                await self._round()
                await self._find_places()
                if self._refused:
                    self._tell_refused()
            except PeerGone as error:
                self._session.failed()
                log.debug("%s: %s", self._peer.client_id, error)
            except Exception:
                self._session.failed()
                log.exception("%s: an unforeseen error", self._peer.client_id)
                await asyncio.sleep(self._config.backoff_s)

    async def _rest(self) -> None:
        """Wait for something to fetch, or for the rate to come down."""
        self._wake.clear()
        try:
            async with asyncio.timeout(THROTTLE_CHECK_S if self._held else None):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def close(self) -> None:
        """Fetch nothing more."""
        for key in list(self._fetched):
            self.remove(key)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._peer.close()

    async def _round(self) -> None:
        turn = self._session.turn()
        for key, ask in turn.asks:
            one = self._fetched.get(key)
            if one is not None:
                one.asked = ask.offset
        version = self._versions.fetch
        if not turn.by_id:
            version = min(version, LAST_WITHOUT_TOPIC_IDS)
        response = await self._peer.call(self._request(turn, version), version)
        if not self._session.answered(response.error_code, response.session_id):
            log.debug("%s: session error %d", self._peer.client_id, response.error_code)
            return
        size = 0
        for topic in response.responses:
            name = topic.topic if version < TOPIC_IDS_IN_FETCH else self._name(topic.topic_id)
            for data in topic.partitions:
                self._take(name, data)
                size += len(data.records or b"")
                if size >= BYTES_A_SLICE:
                    size = 0
                    await asyncio.sleep(0)

    def _name(self, topic_id: bytes) -> str:
        return self._names.get(topic_id, "")

    def _request(self, turn: Turn, version: int) -> FetchRequest:
        config = self._config
        request = FetchRequest(
            max_wait_ms=config.wait_max_ms,
            min_bytes=config.min_bytes,
            max_bytes=config.response_bytes,
            session_id=turn.session_id,
            session_epoch=turn.epoch,
        )
        if version >= REPLICA_STATE_IN_FETCH:
            request.replica_state = ReplicaState(self._broker_id, self._broker_epoch())
        else:
            request.replica_id = self._broker_id
        topics: dict[tuple[str, bytes], FetchTopic] = {}
        for (name, index), ask in turn.asks:
            topic = topics.get((name, ask.topic_id))
            if topic is None:
                topic = topics[name, ask.topic_id] = FetchTopic(name, ask.topic_id)
            topic.partitions.append(
                FetchPartition(
                    index,
                    ask.leader_epoch,
                    ask.offset,
                    ask.last_epoch,
                    ask.log_start,
                    config.partition_bytes,
                )
            )
        request.topics = list(topics.values())
        gone: dict[tuple[str, bytes], ForgottenTopic] = {}
        for (name, index), topic_id in turn.forgotten:
            gone.setdefault((name, topic_id), ForgottenTopic(name, topic_id)).partitions.append(
                index
            )
        request.forgotten_topics_data = list(gone.values())
        return request

    # --- one partition's answer

    def _take(self, name: str, data: PartitionData) -> None:
        one = self._fetched.get((name, data.partition_index))
        if one is None:
            return
        source = one.partition.log
        if source is None:
            return
        if one.asked != source.end_offset:
            self._ask(one)  # it was added again, or moved, since it was asked for
            return
        code = data.error_code
        if code == ErrorCode.NONE:
            if data.diverging_epoch.end_offset >= 0:
                done = self._carried_out(one, self._cut, source, data.diverging_epoch)
            else:
                done = self._carried_out(one, self._append, one.partition, source, data)
            one.lags = data.high_watermark > source.end_offset
            if done:
                one.delay_s, one.trouble = 0.0, None
                self._ask(one)
        elif code == ErrorCode.OFFSET_OUT_OF_RANGE:
            self._session.drop(one.key)
            self._out_of_range.append(one)
        elif code == ErrorCode.FENCED_LEADER_EPOCH:
            # The controller is about to tell of a newer epoch.
            self._complain(one, code)
            self.remove(one.key)
        else:
            self._complain(one, code)
            self._delay(one)

    def _complain(self, one: Fetched, code: int) -> None:
        if code != one.trouble:
            one.trouble = code
            self._refused.setdefault(code, []).append(one)

    def _tell_refused(self) -> None:
        """One line for all that a leader refuses: a failover refuses thousands at a time."""
        refused, self._refused = self._refused, {}
        for code, those in refused.items():
            names = ", ".join("{}-{}".format(*one.key) for one in those[:NAMES_TOLD])
            log.info(
                "broker %d refuses fetches of %d partitions with error %d: %s%s",
                those[0].partition.leader,
                len(those),
                code,
                names,
                ", ..." if len(those) > NAMES_TOLD else "",
            )

    def _carried_out(self, one: Fetched, work: Callable[..., None], *arguments: Any) -> bool:
        """Do something to the log; whether that went well. A partition whose log cannot take what
        the leader sends is tried again later."""
        try:
            work(*arguments)
        except LogDirOffline as error:
            log.error("%s-%d: %s", *one.key, error)
            self.remove(one.key)
            return False
        except (CorruptRecord, Malformed, StorageError) as error:
            log.error("%s-%d does not take what its leader sent: %s", *one.key, error)
            self._delay(one)
            return False
        return True

    def _append(self, partition: Partition, source: Log, data: PartitionData) -> None:
        if data.records:
            source.append_as_follower(memoryview(data.records), self._clock.now_ms())
            if self._throttle is not None and not self._throttle.off:
                self._throttle.record(partition, len(data.records))
        before = source.high_watermark
        source.advance_high_watermark(data.high_watermark)
        if source.high_watermark > before:
            self._visible(partition)
        start = min(data.log_start_offset, source.high_watermark)
        if start > source.log_start_offset:
            source.advance_log_start_offset(start)

    @staticmethod
    def _cut(source: Log, leader: EpochEndOffset) -> None:
        """The leader knows no later epoch than `leader.epoch`, which ends there: cut back to where
        both logs may be the same. It may take several rounds."""
        epoch, end_offset = source.end_offset_for_epoch(leader.epoch)
        if epoch < 0 or end_offset < 0:
            target = leader.end_offset
        elif epoch != leader.epoch:
            # This log has nothing of that epoch: the next round is about the one before.
            target = end_offset
        else:
            target = min(end_offset, leader.end_offset)
        if target < source.high_watermark:
            log.warning("%r is cut to %d, below its high watermark", source, target)
        source.truncate_to(min(target, source.end_offset))

    # --- out of range

    async def _find_places(self) -> None:
        """Partitions whose end is not in the leader's log: shorter than the leader's start, or
        longer than its end (after an unclean election)."""
        waiting, self._out_of_range = self._out_of_range, []
        for one in waiting:
            try:
                latest = await self._offset_of(one, LATEST)
                earliest = await self._offset_of(one, EARLIEST)
            except PeerGone:
                self._delay_if_there(one)
                raise
            except _Refused as refused:
                self._complain(one, refused.code)
                self._delay_if_there(one)
                continue
            source = one.partition.log
            if self._fetched.get(one.key) is not one or source is None:
                continue
            if self._carried_out(one, self._move, source, earliest, latest):
                self._ask(one)

    def _delay_if_there(self, one: Fetched) -> None:
        if self._fetched.get(one.key) is one:
            self._delay(one)

    def _move(self, source: Log, earliest: int, latest: int) -> None:
        end = source.end_offset
        if latest < end:
            source.truncate_to(latest)
        elif earliest > end:
            source.truncate_fully_and_start_at(earliest, self._clock.now_ms())

    async def _offset_of(self, one: Fetched, timestamp: int) -> int:
        name, index = one.key
        asked = ListOffsetsPartition(
            partition_index=index,
            current_leader_epoch=one.partition.leader_epoch,
            timestamp=timestamp,
        )
        request = ListOffsetsRequest(
            replica_id=self._broker_id, topics=[ListOffsetsTopic(name, [asked])]
        )
        response = await self._peer.call(request, self._versions.list_offsets)
        answer = response.topics[0].partitions[0]
        if answer.error_code != ErrorCode.NONE:
            raise _Refused(answer.error_code)
        offset: int = answer.offset
        return offset
