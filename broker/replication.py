"""This broker among others: its fetchers, its ISR changes, its way to the controller.

What needs other brokers is imported when there are some: a broker on its own starts without it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from broker.ibp import leaders_write_isr, versions
from broker.partition import Partition
from broker.throttles import Throttle
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.cluster.store import Store
    from broker.cluster.view import ClusterView
    from broker.context import Node
    from broker.controller.channel import BrokerChannel
    from broker.controller.state import Broker
    from broker.controller_link import ControllerLink
    from broker.fetcher import Fetcher
    from broker.isr import IsrChanges
    from broker.isr_writes import IsrWrites

log = logging.getLogger("odradek.replication")

CONTROLLED_SHUTDOWN = 7
ALLOCATE_PRODUCER_IDS = 67


class Refused(Exception):
    """The controller refuses; the code is in the sentence."""


class Replication:
    """Built by the server before the broker learns of its partitions.

    `broker_epoch()` is this broker's own, `store` its session. Belongs to the event loop.
    """

    def __init__(self, node: "Node", broker_epoch: Callable[[], int], store: "Store") -> None:
        config = node.config
        self._node = node
        self._broker_epoch = broker_epoch
        self._store = store
        self._listener: str = config.inter_broker_listener_name
        self._control_listener: str = config.control_plane_listener_name or self._listener
        self._versions = versions(config.inter_broker_protocol_version)
        self._throttle = Throttle(config, node.clock, leader=False)
        node.replicas.throttle = Throttle(config, node.clock, leader=True)
        self._fetchers: dict[tuple[int, int], Fetcher] = {}
        self._fetched_by: dict[tuple[str, int], tuple[int, int]] = {}
        self._closing: dict[asyncio.Task[None], None] = {}
        self._isr: IsrChanges | IsrWrites | None = None
        self._link: ControllerLink | None = None
        self._sweep: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look after the ISRs of the partitions that this broker leads."""
        half_s = self._node.config.replica_lag_time_max_ms / 2000
        self._sweep = asyncio.get_running_loop().call_later(half_s, self._look_over)

    # --- ISR

    def _look_over(self) -> None:
        """Shrink ISRs by followers that lag; tell followers of log starts that moved."""
        now_ms = self._node.clock.now_ms()
        for partition in self._node.replicas.partitions():
            if partition.followers and partition.log is not None:
                isr = partition.without_laggards(now_ms)
                if isr is not None:
                    self.alter_isr(partition, isr)
                partition.tell_start()
        self.start()

    def alter_isr(self, partition: Partition, isr: tuple[int, ...]) -> None:
        """See `broker.replicas.Replication`."""
        if self._isr is None:
            self._isr = self._isr_changes()
        self._isr.submit(partition, isr)

    def _isr_changes(self) -> "IsrChanges | IsrWrites":
        node = self._node
        settle, clock = node.replicas.settle, node.clock
        if leaders_write_isr(node.config.inter_broker_protocol_version):
            from broker.isr_writes import IsrWrites

            return IsrWrites(self._store, settle, clock)
        from broker.isr import IsrChanges

        return IsrChanges(node.broker_id, self._broker_epoch, self.ask, settle, clock)

    # --- fetchers

    def follow(self, partition: Partition) -> None:
        """See `broker.replicas.Replication`."""
        self.stop(partition)
        leader = partition.leader
        if leader < 0 or leader == self._node.broker_id:
            return
        place = leader, self._number(partition)
        fetcher = self._fetchers.get(place)
        if fetcher is None:
            fetcher = self._fetchers[place] = self._new_fetcher(*place)
        self._fetched_by[partition.topic, partition.index] = place
        fetcher.add(partition)

    def stop(self, partition: Partition) -> None:
        """See `broker.replicas.Replication`."""
        key = partition.topic, partition.index
        place = self._fetched_by.pop(key, None)
        if place is not None and (fetcher := self._fetchers.get(place)) is not None:
            fetcher.remove(key)
            asyncio.get_running_loop().call_soon(self._retire, place)

    def _retire(self, place: tuple[int, int]) -> None:
        """A fetcher that is still without partitions after this turn of the loop ends."""
        fetcher = self._fetchers.get(place)
        if fetcher is None or len(fetcher):
            return
        del self._fetchers[place]
        task = asyncio.get_running_loop().create_task(fetcher.close())
        self._closing[task] = None
        task.add_done_callback(self._closing.pop)

    def _number(self, partition: Partition) -> int:
        count: int = self._node.config.num_replica_fetchers
        if count == 1:
            return 0
        from broker.auto_topics import java_hash

        value = 31 * java_hash(partition.topic) + partition.index
        return (value & 0x7FFFFFFF) % count

    def _new_fetcher(self, leader: int, number: int) -> "Fetcher":
        from broker.fetcher import FetchConfig, Fetcher
        from broker.peer import Peer

        node, config = self._node, self._node.config
        peer = Peer(
            lambda: node.metadata.view.endpoint(leader, self._listener),
            f"broker-{node.broker_id}-fetcher-{number}",
            timeout_s=config.replica_socket_timeout_ms / 1000,
        )
        return Fetcher(
            node.broker_id,
            peer,
            self._versions,
            FetchConfig(
                config.replica_fetch_wait_max_ms,
                config.replica_fetch_min_bytes,
                config.replica_fetch_max_bytes,
                config.replica_fetch_response_max_bytes,
                config.replica_fetch_backoff_ms / 1000,
            ),
            node.clock,
            Partition.notify,
            self._broker_epoch,
            self._throttle,
        )

    # --- the controller

    async def ask(self, key: int, make: Callable[[int], Any], most: int | None = None) -> Any:
        """See `ControllerLink.ask`."""
        if self._link is None:
            from broker.controller_link import ControllerLink

            timeout_s = self._node.config.request_timeout_ms / 1000
            self._link = ControllerLink(self._node, self._control_listener, timeout_s)
        return await self._link.ask(key, make, most)

    async def allocate_producer_ids(self) -> tuple[int, int]:
        """A block of ids: (first, how many). Raises Refused, and what `ask` raises."""
        if self._node.controller.active:
            return await self._node.controller.allocate_producer_ids(
                self._node.broker_id, self._broker_epoch()
            )
        from protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest

        request = AllocateProducerIdsRequest(self._node.broker_id, self._broker_epoch())
        answer = await self.ask(ALLOCATE_PRODUCER_IDS, lambda _: request)
        if answer.error_code != ErrorCode.NONE:
            raise Refused(f"the controller answers with error {answer.error_code}")
        return answer.producer_id_start, answer.producer_id_len

    def channel(self, broker: "Broker") -> "BrokerChannel":
        """The controller's way to a broker elsewhere."""
        from broker.controller.channel import NetworkChannel
        from broker.peer import Peer

        named = {e.listener: (e.host, e.port) for e in broker.registration.endpoints}
        peer = Peer(
            lambda: named.get(self._control_listener) or named.get(self._listener),
            str(self._node.broker_id),
            timeout_s=self._node.config.controller_socket_timeout_ms / 1000,
        )
        return NetworkChannel(broker.id, peer, self._versions)

    # --- the end

    async def hand_over(self) -> None:
        """Controlled shutdown: have the controller move leadership away, as far as others can lead.

        Tries again controlled.shutdown.max.retries times; the broker stops then all the same.
        """
        config, metadata = self._node.config, self._node.metadata
        own = self._node.broker_id

        def alone(view: "ClusterView") -> bool:
            return not view.brokers.keys() - {own}

        if alone(metadata.view) or not config.controlled_shutdown_enable:
            return
        from protocol.messages.controlled_shutdown import ControlledShutdownRequest

        request = ControlledShutdownRequest(own, self._broker_epoch())
        for attempt in range(config.controlled_shutdown_max_retries + 1):
            pause_s = config.controlled_shutdown_retry_backoff_ms / 1000 if attempt else 0.0
            if await metadata.wait_until(alone, pause_s):
                return
            try:
                answer = await self.ask(CONTROLLED_SHUTDOWN, lambda _: request)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the controller
                log.info("controlled shutdown waits for the controller: %s", error or type(error))
                continue
            if answer.error_code == ErrorCode.NONE and not answer.remaining_partitions:
                return
            log.info(
                "controlled shutdown: error %d, %d partitions are led on",
                answer.error_code,
                len(answer.remaining_partitions),
            )

    async def close(self) -> None:
        """No more fetching, no more changes."""
        if self._sweep is not None:
            self._sweep.cancel()
        if self._isr is not None:
            await self._isr.close()
        fetchers, self._fetchers = self._fetchers, {}
        self._fetched_by.clear()
        await asyncio.gather(*(fetcher.close() for fetcher in fetchers.values()), *self._closing)
        if self._link is not None:
            self._link.close()
