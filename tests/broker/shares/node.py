"""A hosted node that serves share groups: handlers, coordinators, real logs in memory."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from broker.cluster.view import OFFSETS_TOPIC, SHARE_STATE_TOPIC
from broker.context import Context
from broker.coordinator import Coordinator
from broker.groups.machine import GroupMachine
from broker.handlers import share_fetch
from broker.shares.state import ShareStates
from protocol.messages import share_acknowledge, share_group_heartbeat
from protocol.messages import share_fetch as fetching
from storage.filesystem import FileSystem
from storage.log import LogSlice
from tests.broker.groups.node import GroupNode
from tests.kit.wire import decode_answer

GROUP = "g"
Acks = Sequence[tuple[int, int, Sequence[int]]]
Place = tuple[str, int]
ACCEPT, RELEASE, REJECT, RENEW = 1, 2, 3, 4


def topic_id(name: str) -> bytes:
    """As `HostedNode.know` makes them."""
    return name.encode().rjust(16, b".")[-16:]


class ShareNode(GroupNode):
    """Topics t and u have two partitions. Groups begin at the earliest record."""

    def __init__(
        self, settings: Mapping[str, str] | None = None, *, fs: FileSystem | None = None
    ) -> None:
        self.connections: dict[str, Context] = {}
        super().__init__({"group.share.assignment.interval.ms": "0"} | dict(settings or {}), fs=fs)
        self.set()

    def coordinate(self) -> None:
        node = self.node
        node.share_manager = None
        node.groups = Coordinator(
            OFFSETS_TOPIC,
            self.replicas,
            self.metadata,
            self.clock,
            lambda index, timers: GroupMachine(
                index, timers, node.config, lambda: self.metadata.view, self._new_id
            ),
            work=lambda _, what: node.shares.groups.initialize(what),
        )
        node.share_states = Coordinator(
            SHARE_STATE_TOPIC,
            self.replicas,
            self.metadata,
            self.clock,
            lambda index, timers: ShareStates(index, node.config, lambda: self.metadata.view),
        )

    def set(self, group: str = GROUP, **settings: str) -> None:
        """The group's own settings, dots written as underscores."""
        named = {name.replace("_", "."): value for name, value in settings.items()}
        self.node.config.groups.adopt(group, {"share.auto.offset.reset": "earliest"} | named)

    async def start(self, **config: str) -> "ShareNode":
        await super().start(**config)
        self.host(SHARE_STATE_TOPIC, 2)
        return self

    async def stop(self) -> None:
        if self.node.share_manager is not None:
            self.node.share_manager.close()
        await self.node.share_states.close()
        await super().stop()

    def append(self, topic: str, timestamps: Iterable[int], index: int = 0, **header: Any) -> None:
        """As `HostedNode.append`; who waits for records is told."""
        super().append(topic, timestamps, index, **header)
        self.partition(topic, index).notify()

    def pass_time(self, ms: int) -> None:
        """What is due at share partitions happens."""
        self.clock.ms += ms
        self.node.shares._timers._wake()

    # --- members

    async def beat(self, member: str, epoch: int, *topics: str, group: str = GROUP) -> Any:
        request = share_group_heartbeat.ShareGroupHeartbeatRequest(
            group, member, epoch, None, list(topics) or None
        )
        return await self.ask(1, request)

    async def ready(self, *members: str, topics: Sequence[str] = ("t",)) -> None:
        """The members have joined, and every partition of their topics has its state."""
        for member in members:
            answer = await self.beat(member, 0, *topics)
            assert answer.error_code == 0
        machine = self.node.groups.find(GROUP)
        assert isinstance(machine, GroupMachine)
        group = machine.share.states.group(GROUP)
        assert group is not None
        while group.initializing:
            await asyncio.sleep(0)
        assert len(group.initialized) == len(topics)

    def connection(self, member: str) -> Context:
        """Each member has its own."""
        return self.connections.setdefault(member, Context(member, "PLAINTEXT", "127.0.0.1"))

    @staticmethod
    async def settle() -> None:
        """Let what is under way go on."""
        await asyncio.sleep(0)

    def hang_up(self, member: str) -> None:
        """The connection ends."""
        for act in (self.connections.pop(member).closing or {}).values():
            act()

    def fetch(
        self,
        member: str,
        epoch: int,
        places: Iterable[Place] = (),
        acks: Mapping[Place, Acks] | None = None,
        **fields: Any,
    ) -> "Fetched":
        """A ShareFetch, under way; `places` are added to the session."""
        acks = acks or {}
        topics: dict[bytes, list[fetching.FetchPartition]] = {}
        for name, index in dict.fromkeys([*places, *acks]):
            batches = [fetching.AcknowledgementBatch(*one) for one in acks.get((name, index), ())]
            row = fetching.FetchPartition(index, acknowledgement_batches=batches)
            topics.setdefault(topic_id(name), []).append(row)
        given: dict[str, Any] = {
            "group_id": GROUP,
            "member_id": member,
            "share_session_epoch": epoch,
            "max_wait_ms": 0,
            "min_bytes": 1,
            "max_records": 500,
            "batch_size": 500,
            "topics": [fetching.FetchTopic(known, rows) for known, rows in topics.items()],
        }
        request = fetching.ShareFetchRequest(**(given | fields))
        context = self.connection(member)
        context.api_key, context.version, context.correlation_id = 78, 2, 7
        return Fetched(share_fetch.handle(self.node, context, request))

    async def acknowledge(
        self, member: str, epoch: int, acks: Mapping[Place, Acks], **fields: Any
    ) -> Any:
        topics: dict[bytes, list[share_acknowledge.AcknowledgePartition]] = {}
        for (name, index), ranges in acks.items():
            row = share_acknowledge.AcknowledgePartition(
                index, [share_acknowledge.AcknowledgementBatch(*one) for one in ranges]
            )
            topics.setdefault(topic_id(name), []).append(row)
        given = {"group_id": GROUP, "member_id": member, "share_session_epoch": epoch}
        rows = [share_acknowledge.AcknowledgeTopic(known, rows) for known, rows in topics.items()]
        request = share_acknowledge.ShareAcknowledgeRequest(**(given | fields), topics=rows)
        return await self.ask(2, request)


class Fetched:
    """A ShareFetch's answer, or the wait for it."""

    def __init__(self, result: Any) -> None:
        self._pieces: list[bytes | LogSlice] | None = None
        self._there = asyncio.Event()
        self.waits = hasattr(result, "start")
        self.call = result
        if self.waits:
            result.start(self._answered)
        else:
            self._answered(result)

    def _answered(self, pieces: list[bytes | LogSlice]) -> None:
        assert self._pieces is None, "answered twice"
        self._pieces = pieces
        self._there.set()

    @property
    def answered(self) -> bool:
        return self._there.is_set()

    async def whole(self) -> Any:
        """The answer as the client sees it."""
        async with asyncio.timeout(10):
            await self._there.wait()
        assert self._pieces is not None
        data = b"".join(p if isinstance(p, bytes) else p.bytes() for p in self._pieces)
        correlation_id, answer = decode_answer(78, 2, data[4:])
        assert correlation_id == 7
        return answer

    async def acquired(self) -> dict[Place, list[tuple[int, int, int]]]:
        """What was acquired, where anything was; nothing else may be wrong."""
        answer = await self.whole()
        assert answer.error_code == 0
        found = {}
        for topic in answer.responses:
            for row in topic.partitions:
                assert (row.error_code, row.acknowledge_error_code) == (0, 0), row
                if row.acquired_records:
                    found[topic.topic_id.lstrip(b".").decode(), row.partition_index] = [
                        (a.first_offset, a.last_offset, a.delivery_count)
                        for a in row.acquired_records
                    ]
        return found
