"""How the controller's requests reach brokers: one ordered queue per broker over a `BrokerChannel`.

A channel sends one request at a time and does not give up while its broker is registered; the queue
keeps the order in which the controller made them. `LocalChannel` is the way to the broker in this
process, `NetworkChannel` to any other.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from broker.controller.requests import ControlRequest, ControlResponse
from protocol.messages.leader_and_isr import LeaderAndIsrRequest
from protocol.messages.stop_replica import StopReplicaRequest

if TYPE_CHECKING:
    from broker.control import ControlPlane
    from broker.ibp import Versions
    from broker.peer import Peer

log = logging.getLogger("odradek.controller")

OnResponse = Callable[[ControlRequest, ControlResponse], None]

RETRY_S = 0.1
"""Before a request that did not get through is sent again."""
RECOVERY_SINCE = 6


class BrokerChannel(Protocol):
    """The way to one broker."""

    async def send(self, request: ControlRequest) -> ControlResponse:
        """The broker's answer; tries again for ever while it cannot be reached."""

    async def close(self) -> None:
        """The broker is gone, or this controller resigned: drop what is under way."""


class LocalChannel:
    """To the broker of this process."""

    def __init__(self, control: "ControlPlane") -> None:
        self._control = control

    async def send(self, request: ControlRequest) -> ControlResponse:
        return await self._control.take(request)

    async def close(self) -> None:
        return None


class NetworkChannel:
    """To a broker elsewhere, in the versions that the inter-broker protocol fixes."""

    def __init__(self, broker_id: int, peer: "Peer", versions: "Versions") -> None:
        self._broker_id = broker_id
        self._peer = peer
        self._versions = versions
        self._reached = True

    async def send(self, request: ControlRequest) -> ControlResponse:
        from broker.peer import PeerGone

        version = self._version(request)
        if isinstance(request, LeaderAndIsrRequest) and version < RECOVERY_SINCE:
            for topic in request.topic_states:
                for state in topic.partition_states:
                    state.leader_recovery_state = 0
        while True:
            try:
                response: ControlResponse = await self._peer.call(request, version)
            except PeerGone as error:
                if self._reached:
                    log.warning("broker %d cannot be told: %s", self._broker_id, error)
                self._reached = False
                await asyncio.sleep(RETRY_S)
            else:
                self._reached = True
                return response

    def _version(self, request: ControlRequest) -> int:
        if isinstance(request, LeaderAndIsrRequest):
            return self._versions.leader_and_isr
        if isinstance(request, StopReplicaRequest):
            return self._versions.stop_replica
        return self._versions.update_metadata

    async def close(self) -> None:
        self._peer.close()


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
