"""DescribeConfigs (key 32): settings of topics, brokers, loggers, client metrics and groups
(KIP-133).

Versions 0-4: 1 sources and synonyms (KIP-226); 2 throttling after the answer (KIP-219); 3 types
and documentation (KIP-569); 4 flexible. Broker loggers are KIP-412, client metrics KIP-714.

A broker answers for itself, and under the name "" for the dynamic settings of all brokers. What a
topic sets is read from the store, so that a change shows on every broker once it is answered. In
version 0 is_default is never set, as in Apache Kafka 3.9. Keys that do not exist are left out; an
empty list of keys means all, like null. One resource of an unknown type refuses all. Client
metrics and groups are answered as by Apache Kafka 4.4 (3.9 has them in KRaft mode only). Left out:
authorization.
"""

from collections.abc import Awaitable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from broker import logging_setup
from broker.cluster import layout
from broker.cluster.configs import CLIENT_METRICS as CLIENT_METRICS_KIND
from broker.cluster.configs import GROUPS as GROUPS_KIND
from broker.cluster.configs import TOPICS, Overrides
from broker.config import (
    DEFAULT,
    DYNAMIC_DEFAULT,
    BrokerConfig,
    Source,
    setting_of,
    shown,
)
from broker.config_changes import Resource, broker_name
from broker.controller.topics import Refused, check_name
from broker.settings import CLIENT_METRICS, DYNAMIC_ONLY, GROUPS, SETTINGS
from protocol.errors import ErrorCode
from protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from storage import config as topic_config
from storage.settings import Kind, Scope, Setting, render

if TYPE_CHECKING:
    from broker.context import Context, Node

TOPIC_SOURCE, LOGGER_SOURCE, CLIENT_METRICS_SOURCE, GROUP_SOURCE = 1, 6, 7, 8


class _Entry(NamedTuple):
    """One setting of a resource; `sources` best first."""

    name: str
    value: str | None
    sources: list[Source]
    kind: Kind
    doc: str
    read_only: bool = False
    sensitive: bool = False


def handle(
    node: "Node", context: "Context", request: DescribeConfigsRequest
) -> DescribeConfigsResponse | Awaitable[DescribeConfigsResponse]:
    """Answer every resource by itself, unless one is of a type that has no settings here."""
    unknown = {r.resource_type for r in request.resources}.difference(Resource)
    if unknown:
        return DescribeConfigsResponse(
            results=[_refused_for(resource, min(unknown)) for resource in request.resources]
        )
    known = node.metadata.view.topics
    topics = [
        r.resource_name
        for r in request.resources
        if r.resource_type == Resource.TOPIC and r.resource_name in known
    ]
    return _with_topics(node, request, topics) if topics else _answer(node, request, {})


async def _with_topics(
    node: "Node", request: DescribeConfigsRequest, topics: list[str]
) -> DescribeConfigsResponse:
    return _answer(node, request, await node.configs.current(TOPICS, topics))


def _answer(
    node: "Node", request: DescribeConfigsRequest, topics: Mapping[str, Overrides]
) -> DescribeConfigsResponse:
    return DescribeConfigsResponse(
        results=[_result(node, request, resource, topics) for resource in request.resources]
    )


def _refused_for(resource: DescribeConfigsResource, unknown: int) -> DescribeConfigsResult:
    return DescribeConfigsResult(
        error_code=ErrorCode.INVALID_REQUEST,
        error_message=f"Resources of type {unknown} are not described.",
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )


def _result(
    node: "Node",
    request: DescribeConfigsRequest,
    resource: DescribeConfigsResource,
    topics: Mapping[str, Overrides],
) -> DescribeConfigsResult:
    result = DescribeConfigsResult(
        resource_type=resource.resource_type, resource_name=resource.resource_name
    )
    keys = frozenset(resource.configuration_keys or ())
    try:
        if resource.resource_type == Resource.TOPIC:
            result.configs = _topic(node, request, resource.resource_name, keys, topics)
        else:
            result.configs = _configs(node, request, resource, keys)
    except Refused as refused:
        result.error_code = refused.refusal.code
        result.error_message = refused.refusal.message or ""
    return result


def _configs(
    node: "Node",
    request: DescribeConfigsRequest,
    resource: DescribeConfigsResource,
    keys: Collection[str],
) -> list[DescribeConfigsResourceResult]:
    kind, name = resource.resource_type, resource.resource_name
    if kind == Resource.BROKER_LOGGER:
        return _loggers(node, name, keys)
    entries: Iterable[_Entry]
    if kind == Resource.BROKER:
        single = broker_name(node.config, name, empty=True) is not None
        entries = _broker_entries(node.config) if single else _cluster_entries(node.config)
    elif not name:
        what = "group" if kind == Resource.GROUP else "client metrics subscription"
        raise Refused(ErrorCode.INVALID_REQUEST, f"A {what} has a name.")
    elif kind == Resource.GROUP:
        entries = _group_entries(node, name)
    else:
        entries = _client_metrics_entries(node, name)
    return [_shown(request, entry) for entry in entries if not keys or entry.name in keys]


def _shown(request: DescribeConfigsRequest, entry: _Entry) -> DescribeConfigsResourceResult:
    synonyms = []
    if request.include_synonyms:
        synonyms = [
            DescribeConfigsSynonym(s.name, None if entry.sensitive else s.value, s.source)
            for s in entry.sources
        ]
    return DescribeConfigsResourceResult(
        name=entry.name,
        value=None if entry.sensitive else entry.value,
        read_only=entry.read_only,
        config_source=entry.sources[0].source if entry.sources else DEFAULT,
        is_sensitive=entry.sensitive,
        synonyms=synonyms,
        config_type=entry.kind,
        documentation=entry.doc if request.include_documentation else None,
    )


def _topic(
    node: "Node",
    request: DescribeConfigsRequest,
    topic: str,
    keys: Collection[str],
    topics: Mapping[str, Overrides],
) -> list[DescribeConfigsResourceResult]:
    """A topic's own settings over what every topic has; the latter is shared by all answers, since
    tools ask for thousands of topics at once.
    """
    check_name(topic)
    if topic not in topics:
        raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    config = node.config
    overrides = topics[topic]
    about = ("topics described", request.include_synonyms, request.include_documentation)
    common: list[DescribeConfigsResourceResult] | None = config.memo.get(about)
    if common is None:
        entries = (_topic_entry(config, row, None) for row in topic_config.ROWS)
        common = config.memo[about] = [_shown(request, entry) for entry in entries]
    if not overrides and not keys:
        return common
    return [
        _shown(request, _topic_entry(config, topic_config.SETTINGS[result.name], own))
        if (own := overrides.get(result.name)) is not None
        else result
        for result in common
        if not keys or result.name in keys
    ]


def _topic_entry(config: BrokerConfig, row: Setting, own: str | None) -> _Entry:
    # A broker's value counts from the first synonym on: see BrokerConfig.sources.
    sources = config.sources(row.synonyms[0]) if row.synonyms else []
    value = render(row, own if own is not None else config.topic_default(row.name))
    if own is not None:
        sources = [Source(row.name, value or "", TOPIC_SOURCE), *sources]
    return _Entry(row.name, value, sources, row.kind, row.doc)


def _broker_entries(config: BrokerConfig) -> Iterator[_Entry]:
    rates = [name for name in DYNAMIC_ONLY if config.sources(name)]
    strange = [name for name in config.given if name not in SETTINGS and name not in rates]
    for name in (*SETTINGS, *rates, *strange):
        value = config.given[name] if name in strange else config.value(name)
        yield _broker_entry(name, shown(name, value), config.sources(name))


def _cluster_entries(config: BrokerConfig) -> Iterator[_Entry]:
    for name, text in config.dynamic_default.items():
        sources = [s for s in config.sources(name) if s.source == DYNAMIC_DEFAULT]
        yield _broker_entry(name, text, sources)


def _broker_entry(name: str, value: str | None, sources: list[Source]) -> _Entry:
    row = setting_of(name)
    if row is None:
        return _Entry(name, None, sources, Kind.UNKNOWN, "", read_only=True, sensitive=True)
    # Neither `listener.name.X.SETTING` nor the rates of replication are among the settings that
    # Kafka lists as dynamic.
    read_only = row.scope is Scope.READ_ONLY or row.name != name or name in DYNAMIC_ONLY
    return _Entry(name, value, sources, row.kind, row.doc, read_only, row.sensitive)


def _client_metrics_entries(node: "Node", name: str) -> Iterator[_Entry]:
    overrides = node.configs.overrides(CLIENT_METRICS_KIND, layout.entity_name(name))
    for row in CLIENT_METRICS.values():
        own = overrides.get(row.name)
        sources = [] if own is None else [Source(row.name, own, CLIENT_METRICS_SOURCE)]
        value = render(row, row.default if own is None else own)
        yield _Entry(row.name, value, sources, row.kind, row.doc)


def _group_entries(node: "Node", name: str) -> Iterator[_Entry]:
    overrides = node.configs.overrides(GROUPS_KIND, layout.entity_name(name))
    for row in GROUPS.values():
        default, sources = row.default, [Source(row.name, row.default or "", DEFAULT)]
        for synonym in row.synonyms:
            default, sources = node.config.value(synonym), node.config.sources(synonym)
        own = overrides.get(row.name)
        if own is not None:
            sources = [Source(row.name, own, GROUP_SOURCE), *sources]
        value = render(row, default if own is None else own)
        yield _Entry(row.name, value, sources, row.kind, row.doc)


def _loggers(node: "Node", name: str, keys: Collection[str]) -> list[DescribeConfigsResourceResult]:
    if not name:
        raise Refused(ErrorCode.INVALID_REQUEST, "Loggers belong to a broker: name its number.")
    broker_name(node.config, name, empty=False)
    return [
        DescribeConfigsResourceResult(name=logger, value=level, config_source=LOGGER_SOURCE)
        for logger, level in logging_setup.levels().items()
        if not keys or logger in keys
    ]
