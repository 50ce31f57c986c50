"""Offsets of OffsetCommit and OffsetFetch version 0, which Apache Kafka 3.9 keeps in ZooKeeper.

Clients from before Kafka 0.8.2 commit so: without members, generations, metadata or expiry. A node
for each partition, /consumers/GROUP/offsets/TOPIC/PARTITION, holds the offset as text. Nothing else
in a broker reads or deletes it.
"""

from broker.cluster.store import NodeExists, NoNode, Store, StoreError, ensure_path
from protocol.errors import ErrorCode


class OldOffsets:
    """Committed offsets in the metadata store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def fetch(self, group: str, topic: str, partition: int) -> int | ErrorCode:
        """The offset; UNKNOWN_TOPIC_OR_PARTITION where none was committed."""
        if not _is_path(group):
            return ErrorCode.UNKNOWN_SERVER_ERROR
        try:
            data, _ = await self._store.get(_path(group, topic, partition))
        except NoNode:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        except StoreError:
            return ErrorCode.UNKNOWN_SERVER_ERROR
        try:
            return int(data or b"")
        except ValueError:
            return ErrorCode.UNKNOWN_SERVER_ERROR

    async def commit(self, group: str, topic: str, partition: int, offset: int) -> ErrorCode:
        """Keep an offset; UNKNOWN_SERVER_ERROR where the store cannot."""
        if not _is_path(group):
            return ErrorCode.UNKNOWN_SERVER_ERROR
        path, data = _path(group, topic, partition), str(offset).encode()
        try:
            try:
                await self._store.set(path, data)
            except NoNode:
                await ensure_path(self._store, path.rpartition("/")[0])
                await self._create(path, data)
        except StoreError:
            return ErrorCode.UNKNOWN_SERVER_ERROR
        return ErrorCode.NONE

    async def _create(self, path: str, data: bytes) -> None:
        try:
            await self._store.create(path, data)
        except NodeExists:  # somebody else was faster
            await self._store.set(path, data)


def _path(group: str, topic: str, partition: int) -> str:
    return f"/consumers/{group}/offsets/{topic}/{partition}"


def _is_path(group: str) -> bool:
    """Whether ZooKeeper takes the group as (part of) a path; slashes in it make more nodes."""
    return "\0" not in group and all(part not in ("", ".", "..") for part in group.split("/"))
