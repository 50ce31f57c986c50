"""Notices written out as LeaderAndIsr, UpdateMetadata and StopReplica requests. Pure.

Requests to one broker come in the fixed order LeaderAndIsr, UpdateMetadata, StopReplica; large ones
are cut, so that no broker is busy with one for long.
"""

from collections.abc import Iterable, Iterator

from broker.cluster.view import LEADER_DURING_DELETE
from broker.controller.decide import Notices
from broker.controller.state import Broker, Key, State
from protocol.messages.leader_and_isr import (
    LeaderAndIsrLiveLeader,
    LeaderAndIsrPartitionState,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    LeaderAndIsrTopicState,
)
from protocol.messages.stop_replica import (
    StopReplicaPartitionState,
    StopReplicaRequest,
    StopReplicaResponse,
    StopReplicaTopicState,
)
from protocol.messages.update_metadata import (
    UpdateMetadataBroker,
    UpdateMetadataEndpoint,
    UpdateMetadataPartitionState,
    UpdateMetadataRequest,
    UpdateMetadataResponse,
    UpdateMetadataTopicState,
)

ControlRequest = LeaderAndIsrRequest | UpdateMetadataRequest | StopReplicaRequest
ControlResponse = LeaderAndIsrResponse | UpdateMetadataResponse | StopReplicaResponse

MAX_PARTITIONS = 500
"""Partitions in one request."""
EPOCH_DURING_DELETE = -2
"""Leader epoch in StopReplica that says the topic is going: no check of the epoch."""

SECURITY_PROTOCOLS = {"PLAINTEXT": 0, "SSL": 1, "SASL_PLAINTEXT": 2, "SASL_SSL": 3}


class Writer:
    """Builds the requests of one batch of notices; parts that all brokers share are made once."""

    def __init__(self, state: State, notices: Notices, inter_broker_listener: str) -> None:
        self._state = state
        self._notices = notices
        self._listener = inter_broker_listener
        self._live = [_live_broker(b) for _, b in sorted(state.brokers.items())]
        self._partial = self._metadata(notices.metadata) if notices.metadata else []
        self._full: list[list[UpdateMetadataTopicState]] | None = None

    def requests(self) -> Iterator[tuple[int, ControlRequest]]:
        """(broker, request), in the order each broker must receive them."""
        for broker_id in sorted(self._state.brokers):
            for request in self._for(self._state.brokers[broker_id]):
                yield broker_id, request

    def _for(self, broker: Broker) -> Iterator[ControlRequest]:
        notices = self._notices
        yield from self._leader_and_isr(broker, notices.leader_and_isr.get(broker.id, {}))
        yield from self._update_metadata(broker)
        yield from self._stop_replica(broker, notices.stop.get(broker.id, {}))

    def _leader_and_isr(
        self, broker: Broker, new: dict[Key, bool]
    ) -> Iterator[LeaderAndIsrRequest]:
        state = self._state
        for part in _parts(new):
            topics: dict[str, LeaderAndIsrTopicState] = {}
            leaders: set[int] = set()
            for key in part:
                partition = state.partition(key)
                if partition is None or partition.state is None:
                    continue
                now, assignment = partition.state, partition.assignment
                leaders.add(now.leader)
                topic = topics.get(key[0])
                if topic is None:
                    topic_id = state.topics[key[0]].topic_id
                    topic = topics[key[0]] = LeaderAndIsrTopicState(
                        topic_name=key[0], topic_id=topic_id
                    )
                topic.partition_states.append(
                    LeaderAndIsrPartitionState(
                        partition_index=key[1],
                        controller_epoch=now.controller_epoch,
                        leader=now.leader,
                        leader_epoch=now.leader_epoch,
                        isr=list(now.isr),
                        partition_epoch=partition.version,
                        replicas=list(assignment.replicas),
                        adding_replicas=list(assignment.adding),
                        removing_replicas=list(assignment.removing),
                        is_new=new[key],
                        leader_recovery_state=int(now.recovering),
                    )
                )
            yield LeaderAndIsrRequest(
                controller_id=state.broker_id,
                controller_epoch=state.epoch,
                broker_epoch=broker.epoch,
                topic_states=list(topics.values()),
                live_leaders=[
                    leader
                    for leader in map(self._live_leader, sorted(leaders))
                    if leader is not None
                ],
            )

    def _live_leader(self, broker_id: int) -> LeaderAndIsrLiveLeader | None:
        broker = self._state.brokers.get(broker_id)
        if broker is None:
            return None
        for endpoint in broker.registration.endpoints:
            if endpoint.listener == self._listener:
                return LeaderAndIsrLiveLeader(
                    broker_id=broker_id, host_name=endpoint.host, port=endpoint.port
                )
        return None

    def _update_metadata(self, broker: Broker) -> Iterator[UpdateMetadataRequest]:
        notices = self._notices
        if broker.id in notices.everything:
            if self._full is None:
                self._full = self._metadata(
                    {**dict.fromkeys(self._state.all_keys()), **notices.metadata}
                )
            parts = self._full or [[]]
        elif self._partial:
            parts = self._partial
        elif broker.id in notices.brokers:
            parts = [[]]
        else:
            return
        for topics in parts:
            yield UpdateMetadataRequest(
                controller_id=self._state.broker_id,
                controller_epoch=self._state.epoch,
                broker_epoch=broker.epoch,
                topic_states=topics,
                live_brokers=self._live,
            )

    def _metadata(self, keys: Iterable[Key]) -> list[list[UpdateMetadataTopicState]]:
        """Topic states of these partitions, cut into parts."""
        return [list(self._topic_states(part)) for part in _parts(keys)]

    def _topic_states(self, keys: Iterable[Key]) -> Iterable[UpdateMetadataTopicState]:
        state = self._state
        topics: dict[str, UpdateMetadataTopicState] = {}
        for key in keys:
            name, index = key
            partition = state.partition(key)
            if partition is None or partition.state is None:
                continue
            now = partition.state
            topic = topics.get(name)
            if topic is None:
                topic = topics[name] = UpdateMetadataTopicState(
                    topic_name=name, topic_id=state.topics[name].topic_id
                )
            going = name in state.deletions
            topic.partition_states.append(
                UpdateMetadataPartitionState(
                    partition_index=index,
                    controller_epoch=now.controller_epoch,
                    leader=LEADER_DURING_DELETE if going else now.leader,
                    leader_epoch=0 if going else now.leader_epoch,
                    isr=list(now.isr),
                    zk_version=0 if going else partition.version,
                    replicas=list(partition.replicas),
                    offline_replicas=state.offline(key, partition.replicas),
                )
            )
        return topics.values()

    def _stop_replica(self, broker: Broker, stop: dict[Key, bool]) -> Iterator[StopReplicaRequest]:
        for part in _parts(stop):
            topics: dict[str, StopReplicaTopicState] = {}
            for name, index in part:
                topic = topics.get(name)
                if topic is None:
                    topic = topics[name] = StopReplicaTopicState(topic_name=name)
                topic.partition_states.append(
                    StopReplicaPartitionState(
                        partition_index=index,
                        leader_epoch=self._stop_epoch((name, index)),
                        delete_partition=stop[(name, index)],
                    )
                )
            yield StopReplicaRequest(
                controller_id=self._state.broker_id,
                controller_epoch=self._state.epoch,
                broker_epoch=broker.epoch,
                topic_states=list(topics.values()),
            )

    def _stop_epoch(self, key: Key) -> int:
        if key[0] in self._state.deletions:
            return EPOCH_DURING_DELETE
        partition = self._state.partition(key)
        return -1 if partition is None or partition.state is None else partition.state.leader_epoch


def _parts(keys: Iterable[Key]) -> Iterator[list[Key]]:
    part: list[Key] = []
    for key in keys:
        part.append(key)
        if len(part) == MAX_PARTITIONS:
            yield part
            part = []
    if part:
        yield part


def _live_broker(broker: Broker) -> UpdateMetadataBroker:
    return UpdateMetadataBroker(
        id=broker.id,
        endpoints=[
            UpdateMetadataEndpoint(
                port=e.port,
                host=e.host,
                listener=e.listener,
                security_protocol=SECURITY_PROTOCOLS.get(e.protocol, 0),
            )
            for e in broker.registration.endpoints
        ],
        rack=broker.rack,
    )


def partitions_of(request: LeaderAndIsrRequest | StopReplicaRequest) -> list[Key]:
    """The partitions a request speaks of (version 3 and above)."""
    return [
        (t.topic_name, p.partition_index) for t in request.topic_states for p in t.partition_states
    ]
