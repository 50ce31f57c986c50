"""Scenes of tests.e2e.mixed about the cluster itself: who controls it, what brokers of both kinds
say of it, and Apache Kafka's own tools.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from confluent_kafka import KafkaException

from protocol.errors import ErrorCode
from protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from protocol.messages.describe_cluster import DescribeClusterRequest
from protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
)
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from protocol.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from protocol.messages.metadata import MetadataRequest
from tests.e2e.load import loaded
from tests.kit.mixed import KAFKA, ODRADEK, MixedCluster

TOPICS_TOOL = "org.apache.kafka.tools.TopicCommand"
CONFIGS_TOOL = "kafka.admin.ConfigCommand"
ELECTION_TOOL = "org.apache.kafka.tools.LeaderElectionCommand"
REASSIGN_TOOL = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
LOG_DIRS_TOOL = "org.apache.kafka.tools.LogDirsCommand"
OFFSETS_TOOL = "org.apache.kafka.tools.GetOffsetShell"
GROUPS_TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
TRANSACTIONS_TOOL = "org.apache.kafka.tools.TransactionsCommand"
CLUSTER_TOOL = "org.apache.kafka.tools.ClusterTool"
TOPIC, BROKER = 2, 4
SET, DELETE = 0, 1

Tell = Callable[[str], None]


def persist(call: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Again while the client says that it may be tried again."""
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except KafkaException as error:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
            if not error.args[0].retriable() and "coordinator" not in str(error).lower():
                raise


# --- agreement ------------------------------------------------------------------------------------


def agreement(cluster: MixedCluster, tell: Tell) -> None:
    """All brokers say the same of the cluster, its topics, settings and coordinators."""
    for kind in (KAFKA, ODRADEK):
        cluster.control(cluster.of_kind(kind))
        counts = agree(cluster)
    tell(f"agreement: {counts} under either controller")


def agree(cluster: MixedCluster) -> str:
    """Wait until they do; an AssertionError with what one of them says differently."""
    views: dict[str, Callable[[int], Any]] = {
        "cluster": lambda broker_id: _cluster(cluster, broker_id),
        "topics": lambda broker_id: _topics(cluster, broker_id),
        "settings": lambda broker_id: _settings(cluster, broker_id),
        "coordinators": lambda broker_id: _coordinators(cluster, broker_id),
    }
    counts = [f"{len(cluster.alike(name, view))} {name}" for name, view in views.items()]
    return ", ".join(counts)


def _cluster(cluster: MixedCluster, broker_id: int) -> list[Any]:
    answer = cluster.call(broker_id, DescribeClusterRequest(), 0)
    brokers = sorted((b.broker_id, b.host, b.port, b.rack) for b in answer.brokers)
    return [answer.cluster_id, answer.controller_id, *brokers]


def _topics(cluster: MixedCluster, broker_id: int) -> dict[str, Any]:
    answer = cluster.call(broker_id, MetadataRequest(None, False), 12)
    found = {}
    for topic in answer.topics:
        partitions = sorted(
            (asdict(p) for p in topic.partitions), key=lambda p: p["partition_index"]
        )
        for partition in partitions:
            for name in ("isr_nodes", "offline_replicas"):
                partition[name].sort()
        found[topic.name] = (topic.error_code, bytes(topic.topic_id), topic.is_internal, partitions)
    return found


def _settings(cluster: MixedCluster, broker_id: int) -> dict[str, Any]:
    """Of all topics; what Odradek has besides is not compared."""
    names = list(_topics(cluster, broker_id))
    resources = [DescribeConfigsResource(TOPIC, name, None) for name in names]
    resources.append(DescribeConfigsResource(BROKER, "", None))
    answer = cluster.call(broker_id, DescribeConfigsRequest(resources, True), 4)
    return {
        result.resource_name: sorted(
            (c.name, c.value, c.config_source, c.read_only, c.is_sensitive, str(c.synonyms))
            for c in result.configs
        )
        for result in answer.results
    }


def _coordinators(cluster: MixedCluster, broker_id: int) -> dict[Any, int]:
    """Of some names that need not exist."""
    names = [f"name-{number}" for number in range(20)]
    found = {}
    for kind in (0, 1):
        answer = cluster.call(broker_id, FindCoordinatorRequest("", kind, names), 4)
        found.update({(kind, c.key): (c.node_id, c.error_code) for c in answer.coordinators})
    return found


# --- the controller -------------------------------------------------------------------------------


def controller(cluster: MixedCluster, tell: Tell) -> None:
    """Topics and settings under a controller of either kind, which is then killed."""
    cluster.create_led("watched")
    with loaded(cluster, "watched") as load:
        for number, kind in enumerate((ODRADEK, KAFKA, ODRADEK)):
            found = cluster.control(cluster.of_kind(kind))
            began = time.monotonic()
            _topic_lives_and_dies(cluster, f"short-lived-{number}")
            _settings_change(cluster, "watched", str(1_000_000 + number))
            agree(cluster)
            tell(f"controller: topics and settings under {kind}: {time.monotonic() - began:.1f} s")
            cluster.brokers[found].kill()
            began = time.monotonic()
            cluster.until(
                "somebody else is the controller",
                lambda found=found: cluster.metadata().controller_id not in (found, -1),  # type: ignore[misc]
            )
            load.go_on(20)
            tell(f"controller: another one {time.monotonic() - began:.1f} s after the kill")
            cluster.restart(found)
            cluster.in_sync("watched", 3)


def _topic_lives_and_dies(cluster: MixedCluster, name: str) -> None:
    """Created, grown, deleted; its directories come and go on every broker."""
    now = cluster.controller()
    answer = cluster.call(now, CreateTopicsRequest([CreatableTopic(name, 2, 3)], 30_000), 5)
    assert answer.topics[0].error_code == ErrorCode.NONE, answer
    cluster.in_sync(name, 2)
    grown = CreatePartitionsRequest([CreatePartitionsTopic(name, 4, None)], 30_000)
    assert cluster.call(now, grown, 3).results[0].error_code == ErrorCode.NONE
    cluster.in_sync(name, 4)
    for broker_id in cluster.brokers:
        folders = [cluster.data_dir(broker_id) / f"{name}-{index}" for index in range(4)]
        cluster.until("directories", lambda folders=folders: all(f.is_dir() for f in folders))  # type: ignore[misc]
    deleted = DeleteTopicsRequest([DeleteTopicState(name)], timeout_ms=30_000)
    assert cluster.call(now, deleted, 6).responses[0].error_code == ErrorCode.NONE
    for broker_id in cluster.brokers:
        data = cluster.data_dir(broker_id)
        cluster.until(
            f"{name} is gone from {broker_id}",
            lambda broker_id=broker_id, data=data: (  # type: ignore[misc]
                name not in _topics(cluster, broker_id)
                and not any((data / f"{name}-{index}").exists() for index in range(4))
            ),
        )
    for path in ("/brokers/topics/", "/config/topics/", "/admin/delete_topics/"):
        cluster.until(path, lambda path=path: cluster.zookeeper.exists(path + name) is None)  # type: ignore[misc]


def _settings_change(cluster: MixedCluster, topic: str, value: str) -> None:
    """A topic's and all brokers' dynamic settings, asked for at brokers of both kinds."""
    for broker_id in (0, 2):
        resources = [
            AlterConfigsResource(TOPIC, topic, [AlterableConfig("max.message.bytes", SET, value)]),
            AlterConfigsResource(BROKER, "", [AlterableConfig("log.retention.ms", SET, value)]),
        ]
        answer = cluster.call(broker_id, IncrementalAlterConfigsRequest(resources), 1)
        assert not any(r.error_code for r in answer.responses), answer
        for other in cluster.brokers:
            cluster.until(
                f"{other} knows the settings",
                lambda other=other: ("log.retention.ms", value) in _values(cluster, other, topic),  # type: ignore[misc]
            )
        removed = AlterConfigsResource(BROKER, "", [AlterableConfig("log.retention.ms", DELETE)])
        answer = cluster.call(broker_id, IncrementalAlterConfigsRequest([removed]), 1)
        assert not any(r.error_code for r in answer.responses), answer


def _values(cluster: MixedCluster, broker_id: int, topic: str) -> set[tuple[str, str]]:
    """Names and values that a broker has for a topic and for itself."""
    resources = [
        DescribeConfigsResource(TOPIC, topic, None),
        DescribeConfigsResource(BROKER, str(broker_id), ["log.retention.ms"]),
    ]
    answer = cluster.call(broker_id, DescribeConfigsRequest(resources), 4)
    return {(c.name, c.value) for result in answer.results for c in result.configs}


# --- moves ----------------------------------------------------------------------------------------


def moves(cluster: MixedCluster, tell: Tell) -> None:
    """Partitions move to other replicas under load; whoever has begun it is deposed at once, and a
    controller of the other kind goes on with it.

    Whether replicas that had to go are gone is not looked at: what a deposed controller has not
    sent yet, nobody sends, as among brokers of Apache Kafka 3.9 alone. Such a replica stays until
    the partition comes back.
    """
    cluster.create_led("moved")
    with loaded(cluster, "moved") as load:
        for number, replicas in enumerate([[0, 1], [1, 2], [2, 0], [0, 1, 2]] * 2):
            here, there = (ODRADEK, KAFKA) if number % 2 else (KAFKA, ODRADEK)
            cluster.control(cluster.of_kind(here))
            began = time.monotonic()
            cluster.reassign("moved", dict.fromkeys(range(3), replicas))
            cluster.zookeeper.delete("/controller")
            cluster.control(cluster.of_kind(there))
            cluster.until("nothing moves", lambda: not _moving(cluster), 60)
            cluster.in_sync("moved", 3)
            load.go_on(50)
            spent = time.monotonic() - began
            tell(f"moves: to {replicas}, begun by {here}, ended by {there}: {spent:.1f} s")


def _moving(cluster: MixedCluster) -> bool:
    request = ListPartitionReassignmentsRequest(30_000, None)
    answer = cluster.call(cluster.controller(), request, 0)
    return bool(answer.error_code or answer.topics)


# --- Apache Kafka's tools -------------------------------------------------------------------------


def tools(cluster: MixedCluster, tell: Tell) -> None:
    """Create, change, elect, reassign under a controller of each kind; describe at each kind."""
    cluster.create_led("tooled")
    with loaded(cluster, "tooled") as load:
        for kind in (KAFKA, ODRADEK):
            cluster.control(cluster.of_kind(kind))
            _topics_by_tool(cluster, f"by-tool-{kind}")
            cluster.lead("tooled", 0)
            _elected_by_tool(cluster)
            _reassigned_by_tool(cluster)
            load.go_on(20)
            tell(f"tools: topics, configs, election, reassignment under {kind}")
    _described_alike(cluster)
    tell("tools: all describe the same at both kinds")


def _topics_by_tool(cluster: MixedCluster, name: str) -> None:
    cluster.tool(TOPICS_TOOL, "--create", "--topic", name, "--partitions", "2",
                 "--replication-factor", "3", "--config", "retention.ms=86400000")  # fmt: skip
    cluster.in_sync(name, 2)
    cluster.tool(TOPICS_TOOL, "--alter", "--topic", name, "--partitions", "3")
    cluster.in_sync(name, 3)
    where = ("--entity-type", "topics", "--entity-name", name)
    cluster.tool(CONFIGS_TOOL, "--alter", *where, "--add-config", "max.message.bytes=4321")
    cluster.tool(CONFIGS_TOOL, "--alter", *where, "--delete-config", "retention.ms")
    for broker_id in cluster.brokers:
        cluster.until(
            f"{broker_id} knows it",
            lambda broker_id=broker_id: (  # type: ignore[misc]
                ("max.message.bytes", "4321") in _values(cluster, broker_id, name)
            ),
        )
    cluster.tool(TOPICS_TOOL, "--delete", "--topic", name)
    cluster.until(
        "it is gone", lambda: all(name not in _topics(cluster, i) for i in cluster.brokers)
    )


def _elected_by_tool(cluster: MixedCluster) -> None:
    """Reassign puts 2 first, the election makes it the leader."""
    _plan(cluster, [2, 0, 1])
    cluster.tool(ELECTION_TOOL, "--election-type", "preferred", "--all-topic-partitions")
    cluster.until("2 leads", lambda: set(cluster.leaders("tooled").values()) == {2})


def _reassigned_by_tool(cluster: MixedCluster) -> None:
    """A replica of each kind goes and comes back."""
    for replicas in ([2, 0], [0, 1], [1, 2], [0, 1, 2]):
        _plan(cluster, replicas)
        cluster.in_sync("tooled", 3)


def _plan(cluster: MixedCluster, replicas: list[int]) -> None:
    """Have the tool carry out the same reassignment of each partition."""
    partitions = [
        {"topic": "tooled", "partition": index, "replicas": replicas} for index in range(3)
    ]
    plan = cluster.path / "plan.json"
    plan.write_text(json.dumps({"version": 1, "partitions": partitions}))
    given = ("--reassignment-json-file", str(plan))
    cluster.tool(REASSIGN_TOOL, "--execute", *given)
    end = time.monotonic() + 60
    while "still in progress" in (told := cluster.tool(REASSIGN_TOOL, "--verify", *given)):
        assert time.monotonic() < end, told
    assert told.count("is completed") == 3, told


def _described_alike(cluster: MixedCluster) -> None:
    """What tools print when they ask a broker of one kind and one of the other."""
    commands: dict[str, tuple[str, ...]] = {
        "topics": (TOPICS_TOOL, "--describe"),
        "configs": (CONFIGS_TOOL, "--describe", "--all", "--entity-type", "topics",
                    "--entity-name", "tooled"),
        "brokers": (CONFIGS_TOOL, "--describe", "--entity-type", "brokers", "--entity-default"),
        "log dirs": (LOG_DIRS_TOOL, "--describe", "--topic-list", "tooled"),
        "offsets": (OFFSETS_TOOL, "--topic", "tooled"),
        "groups": (GROUPS_TOOL, "--describe", "--all-groups"),
        "transactions": (TRANSACTIONS_TOOL, "list"),
        "producers": (TRANSACTIONS_TOOL, "describe-producers", "--topic", "tooled",
                      "--partition", "0"),
        "cluster": (CLUSTER_TOOL, "cluster-id"),
        "reassignments": (REASSIGN_TOOL, "--list"),
    }  # fmt: skip
    for name, (main, *arguments) in commands.items():
        given = {at: _asked(cluster, main, arguments, at) for at in (0, 2)}
        assert given[0] == given[2] and given[0], f"{name}:\n{given[0]}\n---\n{given[2]}"


def _asked(cluster: MixedCluster, main: str, arguments: list[str], at: int) -> list[str]:
    """Lines in order of the alphabet, without what depends on the order of an answer's lists."""
    if main in (CLUSTER_TOOL, TRANSACTIONS_TOOL):
        server = ("--bootstrap-server", cluster.brokers[at].bootstrap)
        words = [*arguments, *server] if main == CLUSTER_TOOL else [*server, *arguments]
        text = cluster.run(main, *words)
    else:
        text = cluster.tool(main, *arguments, at=at)
    if main == LOG_DIRS_TOOL:
        found = json.loads(text[text.index("{") :])
        return sorted(json.dumps(b, sort_keys=True) for b in _by_broker(found))
    return sorted(re.sub(r"\s+", " ", line) for line in text.splitlines() if line.strip())


def _by_broker(found: dict[str, Any]) -> list[Any]:
    for broker in found["brokers"]:
        for folder in broker["logDirs"]:
            folder["partitions"].sort(key=lambda p: p["partition"])
    return list(found["brokers"])
