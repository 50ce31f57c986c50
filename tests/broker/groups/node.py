"""A hosted node with a group coordinator: handlers, real logs in memory, a metadata store."""

from collections.abc import Mapping
from uuid import UUID

from broker.cluster.local import LocalStore
from broker.cluster.old_offsets import OldOffsets
from broker.cluster.view import OFFSETS_TOPIC
from broker.coordinator import Coordinator
from broker.groups.machine import GroupMachine
from storage.filesystem import FileSystem
from tests.kit.hosted import HostedNode


class GroupNode(HostedNode):
    """Topics t and u have two partitions. Member ids are counted, unless `ids` has others."""

    def __init__(
        self, settings: Mapping[str, str] | None = None, *, fs: FileSystem | None = None
    ) -> None:
        super().__init__({"group.initial.rebalance.delay.ms": "0"} | dict(settings or {}), fs=fs)
        self.ids: list[str] = []
        self.count = 0
        self.store = LocalStore(None)
        self.node.old_offsets = OldOffsets(self.store)
        self.coordinate()

    def coordinate(self) -> None:
        """A coordinator that knows nothing yet."""
        node = self.node
        node.groups = Coordinator(
            OFFSETS_TOPIC,
            self.replicas,
            self.metadata,
            self.clock,
            lambda index, timers: GroupMachine(
                index, timers, node.config, lambda: self.metadata.view, self._new_id
            ),
        )

    def _new_id(self) -> str:
        if self.ids:
            return self.ids.pop(0)
        self.count += 1
        return str(UUID(int=self.count))

    async def start(self, **config: str) -> "GroupNode":
        """Everything is there; `config` is the offsets topic's (see `host`)."""
        await self.store.start()
        for topic in ("t", "u"):
            self.host(topic, 2)
        self.host(OFFSETS_TOPIC, **config)
        return self

    async def stop(self) -> None:
        await self.node.groups.close()
        await self.store.close()
