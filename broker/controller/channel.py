"""How the controller's requests reach brokers: one ordered queue per broker over a `BrokerChannel`.

A channel sends one request at a time and does not give up while its broker is registered; the queue
keeps the order in which the controller made them. `LocalChannel` is the way to the broker in this
process; a network channel has the same two methods.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from broker.cluster.configs import ConfigStore
from broker.cluster.view import LEADER_DURING_DELETE
from broker.controller.requests import ControlRequest
from protocol.messages.leader_and_isr import LeaderAndIsrRequest, LeaderAndIsrResponse
from protocol.messages.stop_replica import StopReplicaRequest, StopReplicaResponse
from protocol.messages.update_metadata import UpdateMetadataRequest, UpdateMetadataResponse

log = logging.getLogger("odradek.controller")

ControlResponse = LeaderAndIsrResponse | UpdateMetadataResponse | StopReplicaResponse
OnResponse = Callable[[ControlRequest, ControlResponse], None]


class BrokerChannel(Protocol):
    """The way to one broker."""

    async def send(self, request: ControlRequest) -> ControlResponse:
        """The broker's answer; tries again for ever while it cannot be reached."""

    async def close(self) -> None:
        """The broker is gone, or this controller resigned: drop what is under way."""


class ReplicaHandler(Protocol):
    """What the local channel needs of the replica manager."""

    def leader_and_isr(self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse: ...

    def stop_replica(self, request: StopReplicaRequest) -> StopReplicaResponse: ...


class MetadataHandler(Protocol):
    """What the local channel needs of the metadata cache."""

    def apply(self, request: UpdateMetadataRequest) -> None: ...


class LocalChannel:
    """To the broker of this process: topic settings are read before a topic is first heard of."""

    def __init__(
        self, replicas: ReplicaHandler, metadata: MetadataHandler, configs: ConfigStore
    ) -> None:
        self._replicas = replicas
        self._metadata = metadata
        self._configs = configs

    async def send(self, request: ControlRequest) -> ControlResponse:
        if isinstance(request, StopReplicaRequest):
            return self._replicas.stop_replica(request)
        if isinstance(request, LeaderAndIsrRequest):
            await self._configs.ensure_topics(t.topic_name for t in request.topic_states)
            return self._replicas.leader_and_isr(request)
        await self._update_configs(request)
        self._metadata.apply(request)
        return UpdateMetadataResponse()

    async def _update_configs(self, request: UpdateMetadataRequest) -> None:
        there: list[str] = []
        for topic in request.topic_states:
            if all(p.leader == LEADER_DURING_DELETE for p in topic.partition_states):
                self._configs.forget_topic(topic.topic_name)
            else:
                there.append(topic.topic_name)
        await self._configs.ensure_topics(there)

    async def close(self) -> None:
        return None


class Outbox:
    """Requests on their way to one broker, in order, one at a time."""

    def __init__(self, broker_id: int, channel: BrokerChannel, on_response: OnResponse) -> None:
        self._broker_id = broker_id
        self._channel = channel
        self._on_response = on_response
        self._queue: deque[ControlRequest | asyncio.Future[None]] = deque()
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def put(self, request: ControlRequest) -> None:
        """Queue a request; the answer goes to `on_response`."""
        self._queue.append(request)
        self._wake.set()

    async def drained(self) -> None:
        """Wait until everything queued so far is answered (or dropped)."""
        mark: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(mark)
        self._wake.set()
        await mark

    async def close(self) -> None:
        """Drop what is queued; nothing is answered any more."""
        for waiting in self._queue:
            if isinstance(waiting, asyncio.Future) and not waiting.done():
                waiting.set_result(None)
        self._queue.clear()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._channel.close()
        except Exception:
            log.exception("the channel to broker %d could not be closed", self._broker_id)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                request = self._queue.popleft()
                if isinstance(request, asyncio.Future):
                    if not request.done():
                        request.set_result(None)
                    continue
                try:
                    response = await self._channel.send(request)
                except Exception:
                    log.exception(
                        "request %s to broker %d failed", type(request).__name__, self._broker_id
                    )
                else:
                    self._on_response(request, response)
                # Let connections run between two large requests.
                await asyncio.sleep(0)
