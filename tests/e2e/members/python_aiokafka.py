"""aiokafka in a group: its loop runs in the member's thread while the member polls."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from tests.e2e.members.base import DEADLINE, POLL_SECONDS, Member, Place

REBALANCE = (
    CommitFailedError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)


class AioKafkaMember(Member):
    client: AIOKafkaConsumer

    def _open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._run(self._start())

    async def _start(self) -> None:
        # a rebalance runs in a task of the client beside the poll: it waits for a commit to end
        self.busy = asyncio.Lock()
        self.refused: dict[Place, int] = {}
        self.client = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=self.group,
            client_id=self.name,
            group_instance_id=self.instance,
            auto_offset_reset="earliest",
            enable_auto_commit=self.commits == "auto",
            auto_commit_interval_ms=100,
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=self.session_ms,
            heartbeat_interval_ms=100,
            fetch_max_wait_ms=50,
            metadata_max_age_ms=500,
        )
        listener = _Listener(self)
        if isinstance(self.topics, str):
            self.client.subscribe(pattern=self.topics, listener=listener)
        else:
            self.client.subscribe(list(self.topics), listener=listener)
        await self.client.start()

    def _run(self, what: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(what, DEADLINE))

    def _poll(self) -> None:
        self._run(self._poll_once())

    async def _poll_once(self) -> None:
        several = await self.client.getmany(timeout_ms=int(POLL_SECONDS * 1000), max_records=500)
        async with self.busy:
            mine = self.watch.share_of(self)
            offsets = {place: offset for place, offset in self.refused.items() if place in mine}
            for place, records in several.items():
                where = (place.topic, place.partition)
                # taken away while this waited for the lock: not delivered, as far as anyone cares
                for record in records if where in mine else ():
                    self.watch.read(self.name, where, record.offset, record.value)
                    offsets[where] = record.offset + 1
            self.refused = {}
            if self.commits == "each" and offsets:
                try:
                    await self._commit_now(offsets)
                except REBALANCE:
                    self.refused = offsets

    async def _commit_now(self, offsets: Mapping[Place, int]) -> None:
        await self.client.commit({TopicPartition(*place): o for place, o in offsets.items()})
        self.watch.was_committed(offsets)

    def _close(self) -> None:
        try:
            self._run(self.client.stop())
        finally:
            self.loop.close()

    def _commit(self, offsets: Mapping[Place, int] | None) -> None:
        if offsets is None:
            # what a poll gave is committed already
            return
        self._run(self._commit_now(offsets))

    def _commit_async(self, offsets: Mapping[Place, int]) -> None:
        async def go() -> None:
            task = self.loop.create_task(self._commit_now(offsets))
            await task

        self._run(go())

    def _committed(self, places: list[Place]) -> dict[Place, int | None]:
        async def go() -> dict[Place, int | None]:
            return {place: await self.client.committed(TopicPartition(*place)) for place in places}

        return dict(self._run(go()))

    def _seek(self, place: Place, offset: int) -> None:
        self.client.seek(TopicPartition(*place), offset)

    def _position(self, place: Place) -> int:
        return int(self._run(self.client.position(TopicPartition(*place))))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, member: AioKafkaMember) -> None:
        self.member = member

    async def on_partitions_revoked(self, revoked: Any) -> None:
        async with self.member.busy:
            self.member.watch.gave_up(self.member.name, _places(revoked))

    async def on_partitions_assigned(self, assigned: Any) -> None:
        # while it is closed it still ends the rebalance it is in
        if not self.member.closing:
            self.member.watch.gained(self.member.name, _places(assigned))


def _places(places: Any) -> list[Place]:
    return [(place.topic, place.partition) for place in places]
