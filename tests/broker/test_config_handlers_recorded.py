"""The configuration handlers against what Apache Kafka answered to the same bytes, in their order.

Recorded: captured/configs-wire.jsonl.gz (requests made by hand; one 3.9.2 broker with id 0 in
ZooKeeper mode, for client metrics and ListConfigResources one 4.4.0 broker with id 1). Compared by
version, as a client sees it. Left out: sentences (only their presence), the order of settings,
names of loggers, settings that only newer releases have.
"""

import gzip
import inspect
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.cluster.configs import TOPICS
from broker.cluster.local import LocalStore
from broker.config import BrokerConfig
from broker.context import Context, Node
from broker.controller.topics import Defaults, TopicWish
from broker.dynamic_configs import DynamicConfigs
from broker.handlers import (
    alter_configs,
    api_versions,
    describe_configs,
    incremental_alter_configs,
    list_config_resources,
)
from broker.settings import coordinators
from protocol.apis import request_class, response_class
from protocol.compiler import decoder, encoder
from protocol.header import decode_request_header, response_header_version
from tests.kit.nodes import MetadataNode, handler_node

HANDLERS: dict[int, Any] = {
    18: api_versions,
    32: describe_configs,
    33: alter_configs,
    44: incremental_alter_configs,
    74: list_config_resources,
}
RECORDED: list[dict[str, Any]] = [
    json.loads(line)
    for line in gzip.decompress(
        (Path(__file__).parent / "captured/configs-wire.jsonl.gz").read_bytes()
    ).splitlines()
]
NEWER = {row.name for row in coordinators.NEWER_ROWS}
SETTINGS_THERE = {
    "broker.id": "0",
    "zookeeper.connect": "127.0.0.1:24010",
    "listeners": "PLAINTEXT://127.0.0.1:23010,SASL_PLAINTEXT://127.0.0.1:23011",
    "log.dirs": "/DIR/kafka/files/a39/data-0",
    "log.retention.ms": "-1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "connections.max.reauth.ms": "3600000",
    "authorizer.class.name": "kafka.security.authorizer.AclAuthorizer",
    "super.users": "User:ANONYMOUS;User:admin",
    "allow.everyone.if.no.acl.found": "true",
    "delegation.token.secret.key": "golden-secret",
    "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
    "listener.name.sasl_plaintext.plain.sasl.jaas.config": "p",
    "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config": "s",
    "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": "t",
}


def parse(case: dict[str, Any]) -> tuple[Any, Any]:
    """(request, answer) of a recorded exchange."""
    key, version = case["api"], case["version"]
    request = bytes.fromhex(case["request"])
    _, at = decode_request_header(request, 0)
    asked, _ = decoder(request_class(key), version)(request, at)
    response = bytes.fromhex(case["response"])
    at = 4 if response_header_version(key, version) == 0 else 5
    answered, end = decoder(response_class(key), version)(response, at)
    assert end == len(response)
    return asked, answered


async def ask(node: Node, key: int, version: int, request: Any) -> Any:
    """The handler's answer as a client of that version sees it."""
    context = Context("c", "PLAINTEXT", "127.0.0.1")
    context.api_key, context.version = key, version
    answer = HANDLERS[key].handle(node, context, request)
    if inspect.isawaitable(answer):
        answer = await answer
    out = bytearray()
    encoder(type(answer), version)(answer, out)
    seen, _ = decoder(type(answer), version)(bytes(out), 0)
    return seen


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    part = MetadataNode(LocalStore(), 0)
    await part.start()
    wishes = [
        TopicWish("t1", 2, 1),
        TopicWish("offs", 2, 1),
        TopicWish("compact", 1, 1, configs={"cleanup.policy": "compact"}),
    ]
    await part.controller.create_topics(wishes, Defaults(1, 1))
    await part.controller.drained()
    made = handler_node(part)
    made.config = BrokerConfig(SETTINGS_THERE)
    DynamicConfigs(made.config, made.configs).start()
    yield made
    await part.stop()


AS_IN_4_4 = ("group.share.partition.max.record.locks",)
"""Settings of 3.9 with another default here."""


def described(answer: Any) -> list[Any]:
    """DescribeConfigs: results, settings by name."""
    found = []
    for result in answer.results:
        settings = {
            c.name: (
                c.value,
                c.read_only,
                c.is_default,
                c.config_source,
                c.is_sensitive,
                c.config_type,
                bool(c.documentation) if c.documentation else c.documentation,
                [(s.name, s.value, s.source) for s in c.synonyms],
            )
            for c in result.configs
            if c.name not in NEWER and c.name not in AS_IN_4_4
        }
        if result.resource_type == 8:
            settings = {"a logger": next(iter(settings.values()))[1:]}
        head = (result.error_code, result.resource_type, result.resource_name)
        found.append((head, _present(result.error_message), settings))
    return found


def altered(answer: Any) -> list[Any]:
    """AlterConfigs and IncrementalAlterConfigs."""
    return [
        (r.error_code, _present(r.error_message), r.resource_type, r.resource_name)
        for r in answer.responses
    ]


def _present(sentence: str | None) -> str | None:
    return "a sentence" if sentence else sentence


def chosen(api: int, kafka: str = "3.9.2") -> list[Any]:
    cases = [c for c in RECORDED if (c["api"], c["kafka"]) == (api, kafka)]
    assert cases
    return cases


IN_KRAFT_ONLY = ("client metrics", "client metrics resource", "group resource", "group config")
"""Refused by 3.9.2 in ZooKeeper mode; answered here, as by 4.4.0."""


async def test_describing(node: Node) -> None:
    for case in chosen(32):
        request, answered = parse(case)
        ours = await ask(node, 32, case["version"], request)
        if case["case"] not in IN_KRAFT_ONLY:
            assert described(ours) == described(answered), (case["version"], case["case"])


async def test_altering(node: Node) -> None:
    for case in chosen(33):
        request, answered = parse(case)
        ours = await ask(node, 33, case["version"], request)
        assert altered(ours) == altered(answered), (case["version"], case["case"])
    assert dict(node.configs.topic("offs")) == {}


async def test_altering_one_by_one(node: Node) -> None:
    for case in chosen(44):
        request, answered = parse(case)
        for resource in request.resources:  # the broker's loggers have other names here
            for change in resource.configs:
                assert resource.resource_type != 8 or change.name == "kafka.server"
        ours = await ask(node, 44, case["version"], request)
        if case["case"] not in IN_KRAFT_ONLY:
            assert altered(ours) == altered(answered), (case["version"], case["case"])
    assert dict(node.configs.topic("offs")) == {}


@pytest.mark.parametrize("api", [32, 44])
async def test_client_metrics(node: Node, api: int) -> None:
    for case in chosen(api, "4.4.0"):
        request, answered = parse(case)
        ours = await ask(node, api, case["version"], request)
        view = described if api == 32 else altered
        assert view(ours) == view(answered), (case["version"], case["case"])


async def test_listing(node: Node) -> None:
    await node.configs.put("client-metrics", "sub1", {"interval.ms": "1000"})
    for case in chosen(74, "4.4.0"):
        request, answered = parse(case)
        ours = await ask(node, 74, case["version"], request)
        assert ours.error_code == answered.error_code
        types = {r.resource_type for r in answered.config_resources} - {32}
        assert {r.resource_type for r in ours.config_resources} == types
        for kind in types - {2, 4, 8}:
            mine = [r.resource_name for r in ours.config_resources if r.resource_type == kind]
            theirs = [r.resource_name for r in answered.config_resources if r.resource_type == kind]
            assert mine == theirs


@pytest.mark.parametrize("kafka", ["3.9.2", "4.4.0"])
async def test_api_versions(node: Node, kafka: str) -> None:
    node.broker_id = 1 if kafka == "4.4.0" else 0
    named = next(
        parse(c)[0].cluster_id for c in RECORDED if c["case"] == "ok: cluster and node named"
    )
    node.cluster_id = named
    for case in chosen(18, kafka):
        request, answered = parse(case)
        ours = await ask(node, 18, case["version"], request)
        assert ours.error_code == answered.error_code, case["case"]
        offered = {k.api_key: k for k in ours.api_keys}
        # From version 0 on where 3.9.2 serves it; newer versions only on top.
        for theirs in answered.api_keys:
            mine = offered.get(theirs.api_key)
            if mine is not None:
                assert mine.min_version <= theirs.min_version
                assert mine.max_version >= theirs.max_version


async def test_settings_of_topics_in_the_store_are_described(node: Node) -> None:
    await node.configs.put(TOPICS, "t1", {"segment.ms": "9"})
    request = describe_configs.DescribeConfigsRequest(
        resources=[describe_configs.DescribeConfigsResource(2, "t1", ["segment.ms"])]
    )
    answer = await ask(node, 32, 4, request)
    assert [(c.value, c.config_source) for c in answer.results[0].configs] == [("9", 1)]
