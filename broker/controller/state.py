"""What the active controller knows: brokers, topics, partition states, deletions under way.

Plain data. It mirrors the store: nothing here is true before it is written there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from broker.cluster.layout import Assignment, Leadership, Registration, TopicNode
from protocol.wire import ZERO_UUID

Key = tuple[str, int]
"""A partition: topic name and index."""

NO_LEADER = -1


@dataclass(slots=True)
class Broker:
    """A registered broker; `epoch` is the transaction id of its registration (KIP-380)."""

    id: int
    epoch: int
    registration: Registration

    @property
    def rack(self) -> str | None:
        return self.registration.rack


@dataclass(slots=True)
class Partition:
    """Assignment, and the committed leadership with its version (the partition epoch).

    `state` is None while no leadership was ever written: no replica was alive so far.
    """

    assignment: Assignment
    state: Leadership | None = None
    version: int = -1
    written: int = 0
    """Transaction id of the last write of the leadership, as of the last time it was read."""

    @property
    def replicas(self) -> tuple[int, ...]:
        return self.assignment.replicas


@dataclass(slots=True)
class Topic:
    """A topic and its partitions by index; `topic_id` is zero where it has none."""

    name: str
    topic_id: bytes
    partitions: dict[int, Partition] = field(default_factory=dict)

    def node(self, more: Mapping[int, Assignment] | None = None) -> TopicNode:
        """Content of the topic's node, with `more` partitions."""
        assignments = {index: p.assignment for index, p in self.partitions.items()}
        return TopicNode(self.topic_id, {**assignments, **(more or {})})


@dataclass(slots=True)
class Deletion:
    """A topic on its way out; both sets hold (broker, partition)."""

    asked: set[tuple[int, int]] = field(default_factory=set)
    """Replicas told to delete that have not answered."""
    done: set[tuple[int, int]] = field(default_factory=set)
    """Replicas that are gone."""


@dataclass(slots=True)
class State:
    """All of it. `epoch` is the controller epoch, `epoch_version` its node's version: the fence.
    `last_takeover` is the transaction (zxid) in which somebody became the controller before all
    this was read: the one before, or this one where it starts over.
    """

    broker_id: int
    epoch: int = 0
    epoch_version: int = 0
    last_takeover: int = 0
    brokers: dict[int, Broker] = field(default_factory=dict)
    shutting_down: set[int] = field(default_factory=set)
    offline_replicas: set[tuple[int, str, int]] = field(default_factory=set)
    """(broker, topic, partition) whose log directory was reported failed."""
    topics: dict[str, Topic] = field(default_factory=dict)
    names: dict[bytes, str] = field(default_factory=dict)
    deletions: dict[str, Deletion] = field(default_factory=dict)
    collision_keys: dict[str, str] = field(default_factory=dict)
    """`topics.collision_key` of each topic -> the topic."""

    def partition(self, key: Key) -> Partition | None:
        topic = self.topics.get(key[0])
        return None if topic is None else topic.partitions.get(key[1])

    def online(self, broker_id: int, key: Key) -> bool:
        """Whether that replica can lead: registered, staying, its directory fine."""
        return (
            broker_id in self.brokers
            and broker_id not in self.shutting_down
            and (broker_id, *key) not in self.offline_replicas
        )

    def alive(self, broker_id: int, key: Key) -> bool:
        """Whether that replica can be talked to: as `online`, shutting down or not."""
        return broker_id in self.brokers and (broker_id, *key) not in self.offline_replicas

    def came_back(self, key: Key) -> frozenset[int]:
        """ISR members that have registered since the leadership was last written, and since the
        last takeover: no controller has seen that they were gone. Nobody where that holds for every
        member that is online.
        """
        partition = self.partition(key)
        if partition is None or partition.state is None:
            return frozenset()
        isr = [broker_id for broker_id in partition.state.isr if self.online(broker_id, key)]
        seen = max(partition.written, self.last_takeover)
        back = frozenset(b for b in isr if self.brokers[b].epoch > seen)
        return back if len(back) < len(isr) else frozenset()

    def offline(self, key: Key, replicas: Iterable[int]) -> list[int]:
        """Replicas that are gone or about to go (UpdateMetadata's OfflineReplicas)."""
        return [broker_id for broker_id in replicas if not self.online(broker_id, key)]

    def leaderless(self, key: Key) -> bool:
        """Whether the partition had a leader and has none now."""
        partition = self.partition(key)
        return (
            partition is not None
            and partition.state is not None
            and partition.state.leader == NO_LEADER
        )

    def all_keys(self) -> Iterator[Key]:
        """Every partition."""
        for name, topic in self.topics.items():
            for index in topic.partitions:
                yield name, index

    def keys_on(self, broker_ids: Iterable[int]) -> Iterator[Key]:
        """Partitions with a replica on one of these brokers."""
        wanted = set(broker_ids)
        for name, topic in self.topics.items():
            for index, partition in topic.partitions.items():
                if not wanted.isdisjoint(partition.replicas):
                    yield name, index

    def add_topic(self, name: str, node: TopicNode) -> Topic:
        """Take a topic in, or further partitions of a known one."""
        topic = self.topics.get(name)
        if topic is None:
            topic = self.topics[name] = Topic(name, node.topic_id or ZERO_UUID)
            if topic.topic_id != ZERO_UUID:
                self.names[topic.topic_id] = name
            self.collision_keys[name.replace(".", "_")] = name
        for index in sorted(node.assignments):
            present = topic.partitions.get(index)
            if present is None:
                topic.partitions[index] = Partition(node.assignments[index])
            else:
                present.assignment = node.assignments[index]
        return topic

    def remove_topic(self, name: str) -> None:
        """Forget a topic that is gone from the store."""
        topic = self.topics.pop(name, None)
        if topic is not None:
            self.names.pop(topic.topic_id, None)
            self.collision_keys.pop(name.replace(".", "_"), None)
            self.offline_replicas = {r for r in self.offline_replicas if r[1] != name}
        self.deletions.pop(name, None)
