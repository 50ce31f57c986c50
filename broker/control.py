"""What the controller tells this broker: LeaderAndIsr, UpdateMetadata and StopReplica, however they
come (over a socket in any version, or within the process).

One request at a time, in the order of arrival. Each is fenced by the controller's epoch, whose
highest is remembered over all three, and by this broker's own epoch: a request meant for its former
incarnation is refused (KIP-380).
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from broker.cluster.configs import ConfigStore
from broker.cluster.view import LEADER_DURING_DELETE
from broker.controller.requests import ControlRequest, ControlResponse
from protocol.errors import ErrorCode
from protocol.messages.leader_and_isr import (
    LeaderAndIsrPartitionError,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    LeaderAndIsrTopicError,
)
from protocol.messages.stop_replica import StopReplicaRequest, StopReplicaResponse
from protocol.messages.update_metadata import UpdateMetadataRequest, UpdateMetadataResponse


class Replicas(Protocol):
    """What is used of the replica manager."""

    def leader_and_isr(self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse: ...

    def stop_replica(self, request: StopReplicaRequest) -> StopReplicaResponse: ...


class Metadata(Protocol):
    """What is used of the metadata cache."""

    def apply(self, request: UpdateMetadataRequest) -> None: ...


class ControlPlane:
    """Takes the controller's requests in their newest form. `broker_epoch()` is this broker's own,
    -1 while it is not registered."""

    def __init__(
        self,
        replicas: Replicas,
        metadata: Metadata,
        configs: ConfigStore,
        broker_epoch: Callable[[], int] = lambda: -1,
    ) -> None:
        self.controller_epoch = -1
        """The highest that was seen."""
        self._replicas = replicas
        self._metadata = metadata
        self._configs = configs
        self._broker_epoch = broker_epoch
        self._turn = asyncio.Lock()

    async def take(self, request: ControlRequest) -> ControlResponse:
        """The broker's answer. Settings of a topic are read before it is first heard of."""
        async with self._turn:
            stale = self._stale(request)
            if stale != ErrorCode.NONE:
                return _refused(request, stale)
            self.controller_epoch = request.controller_epoch
            if isinstance(request, StopReplicaRequest):
                return self._replicas.stop_replica(request)
            if isinstance(request, LeaderAndIsrRequest):
                await self._configs.ensure_topics(t.topic_name for t in request.topic_states)
                return self._replicas.leader_and_isr(request)
            await self._configs.ensure_topics(self._present(request))
            self._metadata.apply(request)
            return UpdateMetadataResponse()

    def _stale(self, request: ControlRequest) -> ErrorCode:
        """A broker epoch above our own is taken: the controller may learn of a new one first."""
        if 0 <= request.broker_epoch < self._broker_epoch():
            return ErrorCode.STALE_BROKER_EPOCH
        # There is no KRaft controller that could know better (KIP-866 is not served).
        if request.controller_epoch < self.controller_epoch or request.is_kraft_controller:
            return ErrorCode.STALE_CONTROLLER_EPOCH
        return ErrorCode.NONE

    def _present(self, request: UpdateMetadataRequest) -> Iterable[str]:
        """Topics that are not on their way out; those that are, are forgotten."""
        there: list[str] = []
        for topic in request.topic_states:
            if all(p.leader == LEADER_DURING_DELETE for p in topic.partition_states):
                self._configs.forget_topic(topic.topic_name)
            else:
                there.append(topic.topic_name)
        return there


def _refused(request: ControlRequest, code: ErrorCode) -> ControlResponse:
    """The code at the top, and of LeaderAndIsr for every partition, as Apache Kafka answers."""
    if isinstance(request, LeaderAndIsrRequest):
        return LeaderAndIsrResponse(
            code,
            topics=[
                LeaderAndIsrTopicError(
                    t.topic_id,
                    [
                        LeaderAndIsrPartitionError(t.topic_name, p.partition_index, code)
                        for p in t.partition_states
                    ],
                )
                for t in request.topic_states
            ],
        )
    if isinstance(request, StopReplicaRequest):
        return StopReplicaResponse(code)
    return UpdateMetadataResponse(code)
