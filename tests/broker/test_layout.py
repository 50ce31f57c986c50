"""Znode contents against those that Apache Kafka 3.9.2 wrote (tests/broker/captured)."""

import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cluster import layout
from broker.cluster.layout import Assignment, BadContent, Endpoint, Leadership, TopicNode

CAPTURED = json.loads(
    gzip.decompress((Path(__file__).parent / "captured/znodes-3.9.2.json.gz").read_bytes())
)
NODES: list[tuple[str, bytes]] = [(path, data.encode()) for path, data in CAPTURED["nodes"]]


def matching(pattern: str) -> list[tuple[re.Match[str], bytes]]:
    found = [(m, data) for path, data in NODES if (m := re.fullmatch(pattern, path))]
    assert found, pattern
    return found


def test_every_captured_kind_is_covered() -> None:
    known = (
        r"/|/brokers/ids/\d+|/brokers/topics/[^/]+(/partitions/\d+/state)?|/controller(_epoch)?"
        r"|/cluster/id|/config/.*|/feature|/latest_producer_id_block"
        r"|/isr_change_notification/.*|/admin/(reassign_partitions|preferred_replica_election)"
    )
    assert [path for path, _ in NODES if not re.fullmatch(known, path)] == []


def test_registrations() -> None:
    rewritten = 0
    for m, data in matching(r"/brokers/ids/(\d+)"):
        broker = layout.decode_registration(int(m[1]), data)
        assert broker.endpoints[0].listener == "PLAINTEXT"
        assert broker.endpoints[0].host == "127.0.0.1"
        if b'"version":5' in data:
            assert layout.encode_registration(broker) == data
            rewritten += 1
    assert rewritten


def test_a_registration_without_a_plaintext_listener() -> None:
    broker = layout.Registration((Endpoint("TLS", "::1", 9093, "SSL"),), None, 5)
    data = layout.encode_registration(broker)
    assert json.loads(data)["host"] is None
    assert json.loads(data)["port"] == -1
    assert json.loads(data)["endpoints"] == ["TLS://[::1]:9093"]
    assert layout.decode_registration(1, data) == broker


def test_a_registration_of_a_very_old_broker() -> None:
    old = b'{"version":1,"host":"h","port":9092,"jmx_port":-1,"timestamp":"12"}'
    assert layout.decode_registration(1, old).endpoints == (Endpoint("PLAINTEXT", "h", 9092),)


def test_topics() -> None:
    for m, data in matching(r"/brokers/topics/([^/]+)"):
        node = layout.decode_topic(m[1], data)
        value = json.loads(data)
        assert sorted(node.assignments) == sorted(int(p) for p in value["partitions"])
        written = layout.encode_topic(node)
        if value["version"] == 3 and value["partitions"] == dict(
            sorted(value["partitions"].items(), key=lambda item: int(item[0]))
        ):
            assert written == data
        assert json.loads(written) == {"adding_replicas": {}, "removing_replicas": {}} | value


def test_a_topic_that_is_reassigned() -> None:
    node = TopicNode(bytes(range(16)), {0: Assignment((2, 1, 0), (2,), (0,)), 1: Assignment((1,))})
    data = layout.encode_topic(node)
    value = json.loads(data)
    assert value["adding_replicas"] == {"0": [2]}
    assert value["removing_replicas"] == {"0": [0]}
    assert layout.decode_topic("t", data) == node


def test_partition_states() -> None:
    for m, data in matching(r"/brokers/topics/([^/]+)/partitions/(\d+)/state"):
        state = layout.decode_state(m[1], int(m[2]), data)
        assert layout.encode_state(state) == data


def test_a_recovering_state_says_so() -> None:
    state = Leadership(1, 7, (1,), 3, recovering=True)
    data = layout.encode_state(state)
    assert json.loads(data)["leader_recovery_state"] == 1
    assert layout.decode_state("t", 0, data) == state


def test_controller_cluster_feature_and_producer_ids() -> None:
    for _, data in matching("/controller"):
        value = json.loads(data)
        assert layout.decode_controller(data) == value["brokerid"]
        written = layout.encode_controller(value["brokerid"], int(value["timestamp"]))
        assert written == data
    for _, data in matching("/cluster/id"):
        assert layout.encode_cluster_id(layout.decode_cluster_id(data)) == data
    assert layout.encode_feature() in [data for _, data in matching("/feature")]
    levels = {"group.version": 1, "transaction.version": 2}
    assert layout.decode_feature(layout.encode_feature(levels)) == levels
    for _, data in matching("/latest_producer_id_block"):
        assert layout.encode_producer_block(*layout.decode_producer_block(data)) == data


def test_configs_and_their_changes() -> None:
    for m, data in matching("/config/(.*)"):
        path = m[0]
        if path.startswith(layout.CONFIG_CHANGES):
            entity = layout.decode_config_change(path, data)
            assert layout.encode_config_change(entity) == data
        else:
            assert layout.encode_config(layout.decode_config(path, data)) == data


def test_an_old_config_change_is_read() -> None:
    old = b'{"version":1,"entity_type":"topics","entity_name":"x"}'
    assert layout.decode_config_change("/c", old) == "topics/x"


def test_entity_names_are_those_in_the_captured_tree() -> None:
    nodes = {m[1] for m, _ in matching("/config/(?:users|clients)/([^/]+)")}
    assert "CN%3Dx%2CO%3Dy%20z" in nodes
    for node in nodes:
        assert layout.entity_name(layout.plain_name(node)) == node
    assert layout.entity_name("app*1") == "app%2A1"


@given(st.text())
def test_entity_names_come_back(name: str) -> None:
    node = layout.entity_name(name)
    assert "/" not in node
    assert layout.plain_name(node) == name


@given(st.binary(min_size=16, max_size=16))
def test_uuids_come_back(value: bytes) -> None:
    text = layout.encode_uuid(value)
    assert len(text) == 22
    assert layout.decode_uuid(text) == value


@pytest.mark.parametrize("text", ["", "short", "c2WEmKFSTymPlBExbCO4pQ=x", "\u00e9" * 22, "A" * 23])
def test_bad_uuids(text: str) -> None:
    with pytest.raises(ValueError, match="uuid"):
        layout.decode_uuid(text)


@given(
    st.one_of(
        st.none(),
        st.binary(max_size=30),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["partitions", "topic_id", "leader", "isr", "endpoints", "config", "brokerid",
                     "leader_epoch", "controller_epoch", "entity_path", "block_start", "id",
                     "adding_replicas", "0", "version", "broker"]
                ),
                inner,
                max_size=6,
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)  # fmt: skip
def test_foreign_contents_raise_nothing_but_bad_content(data: bytes | None) -> None:
    for read in (
        lambda d: layout.decode_topic("t", d),
        lambda d: layout.decode_state("t", 0, d),
        lambda d: layout.decode_registration(0, d),
        layout.decode_controller,
        layout.decode_cluster_id,
        layout.decode_producer_block,
        lambda d: layout.decode_config("/c", d),
        lambda d: layout.decode_config_change("/c", d),
    ):
        try:
            read(data)
        except BadContent:
            pass
    layout.decode_log_dir_event(data)


def test_sequence_numbers() -> None:
    assert layout.sequence_of("config_change_0000000012") == 12
    assert layout.sequence_of("config_change_x") == -1
    names = ["config_change_0000000010", "other_0000000001", "config_change_0000000002"]
    assert list(layout.by_sequence(names, layout.CONFIG_CHANGE_PREFIX)) == [names[2], names[0]]
