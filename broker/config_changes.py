"""What a change of settings amounts to, and whether it may be made. Pure; used by AlterConfigs and
IncrementalAlterConfigs.

Codes and the order of checks are Apache Kafka 3.9's in ZooKeeper mode, those of client metrics
subscriptions and groups 4.x's (3.9 has them in KRaft mode only).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, NamedTuple, NoReturn

from broker.config import LISTENER_PREFIX, BrokerConfig, ConfigError, setting_of
from broker.controller.topics import Refused
from broker.group_settings import bounds
from broker.settings import CLIENT_METRICS, GROUPS, SETTINGS
from protocol.errors import ErrorCode
from storage import config as topic_config
from storage.config import LogConfig
from storage.settings import Kind, Scope, Setting, SettingError, UnknownSetting, parse


class Resource(IntEnum):
    """Types of resource as the configuration APIs number them."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class Operation(IntEnum):
    """What IncrementalAlterConfigs does to one setting."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class Change(NamedTuple):
    """One entry of IncrementalAlterConfigs; `operation` as the client sent it."""

    name: str
    operation: int
    value: str | None


_NEEDS_LISTENER = frozenset(
    f"ssl.{name}"
    for name in (
        "keystore.type",
        "keystore.location",
        "keystore.password",
        "keystore.certificate.chain",
        "keystore.key",
        "key.password",
        "truststore.type",
        "truststore.location",
        "truststore.password",
        "truststore.certificates",
    )
)
"""Changed while running only under the name of a listener."""

_THREADS = (
    "background.threads",
    "log.cleaner.threads",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
)
"""Numbers that may at most double or halve in one change."""

_MATCHES = (
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
)
"""What a client metrics subscription can select clients by."""


def refuse(code: ErrorCode, message: str | None) -> NoReturn:
    """Raises Refused."""
    raise Refused(code, message)


# --- changes in sequence --------------------------------------------------------------------------


def check_entries(names: Iterable[str], nulls: Iterable[str]) -> None:
    """Refuses a name that comes twice, and values that are null."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        refuse(ErrorCode.INVALID_REQUEST, f"Error due to duplicate config keys : {','.join(twice)}")
    missing = list(nulls)
    if missing:
        refuse(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {','.join(missing)}")


def changed(
    present: Mapping[str, str],
    changes: Iterable[Change],
    table: Mapping[str, Setting],
    *,
    lists: bool = True,
    unknown_operation: ErrorCode = ErrorCode.UNKNOWN_SERVER_ERROR,
) -> dict[str, str]:
    """`present` after the changes. `lists` False: nothing of this resource can be appended to.

    Raises Refused.
    """
    after = dict(present)
    for name, operation, value in changes:
        if operation == Operation.DELETE:
            after.pop(name, None)
        elif operation == Operation.SET:
            assert value is not None  # refused before
            after[name] = value
        elif operation in (Operation.APPEND, Operation.SUBTRACT):
            row = table.get(name)
            if row is None and lists:
                # Apache Kafka fails over these; clients see an unknown error.
                refuse(ErrorCode.UNKNOWN_SERVER_ERROR, None)
            if row is None or row.kind is not Kind.LIST or not lists:
                verb = Operation(operation).name.lower()
                refuse(
                    ErrorCode.INVALID_CONFIG,
                    f"Config value {verb} is not allowed for config key: {name}",
                )
            assert value is not None
            after[name] = _listed(after.get(name, row.default or ""), operation, value)
        else:
            known = unknown_operation == ErrorCode.UNKNOWN_SERVER_ERROR
            refuse(unknown_operation, None if known else f"There is no operation {operation}.")
    return after


def _listed(text: str, operation: int, value: str) -> str:
    items = _split(text) if text else []
    others = _split(value)
    if operation == Operation.APPEND:
        items += [item for item in others if item not in items]
    else:
        for item in others:
            if item in items:
                items.remove(item)
    return ",".join(items)


def _split(text: str) -> list[str]:
    """As Java's String.split(","): items keep their blanks, empty ones at the end are dropped."""
    if not text:
        return [""]
    items = text.split(",")
    while items and not items[-1]:
        items.pop()
    return items


# --- topics ---------------------------------------------------------------------------------------


def check_topic(config: BrokerConfig, topic: str, overrides: Mapping[str, str]) -> LogConfig:
    """What a topic would have with these settings. Raises Refused."""
    try:
        log_config = LogConfig.from_strings(overrides, config.log_config)
    except UnknownSetting as error:
        refuse(ErrorCode.INVALID_CONFIG, str(error))
    except SettingError as error:
        refuse(ErrorCode.INVALID_CONFIG, _invalid("TOPIC", topic, error))
    if log_config.remote_storage_enable and not config.remote_log_storage_system_enable:
        refuse(
            ErrorCode.INVALID_CONFIG,
            "remote.storage.enable needs remote.log.storage.system.enable on the broker.",
        )
    if log_config.remote_log_copy_disable or log_config.remote_log_delete_on_disable:
        refuse(
            ErrorCode.INVALID_CONFIG,
            "remote.log.copy.disable and remote.log.delete.on.disable exist in KRaft mode only.",
        )
    return log_config


def _invalid(kind: str, name: str, error: Exception) -> str:
    return f"Invalid config value for resource ConfigResource(type={kind}, name='{name}'): {error}"


TOPIC_TABLE: Mapping[str, Setting] = topic_config.SETTINGS


# --- brokers --------------------------------------------------------------------------------------


def broker_name(config: BrokerConfig, name: str, *, empty: bool) -> int | None:
    """Broker of a resource's name; None for "" (all brokers), if `empty` may be. Raises Refused."""
    if not name and empty:
        return None
    try:
        number = parse(_BROKER_NAME, name) if name == name.strip() else None
    except SettingError:
        number = None
    if number is None:
        refuse(ErrorCode.INVALID_REQUEST, f"A broker is named by its number, not by {name!r}.")
    if number != config.broker_id:
        refuse(
            ErrorCode.INVALID_REQUEST,
            f"This is broker {config.broker_id}, not {number}: ask that broker itself.",
        )
    return config.broker_id


_BROKER_NAME = Setting("resource name", Kind.INT, None, "The name of a broker resource.")


def check_broker(config: BrokerConfig, settings: Mapping[str, str], *, per_broker: bool) -> None:
    """Whether this broker (or all brokers) may have these dynamic settings. Raises Refused."""
    rows = {name: setting_of(name) for name in settings}
    fixed = [
        name for name in settings if name in SETTINGS and SETTINGS[name].scope is Scope.READ_ONLY
    ]
    _none_of(fixed, "These cannot be changed while the broker runs")
    _none_of(
        [name for name in settings if name in _NEEDS_LISTENER],
        f"These can be changed for one listener only ({LISTENER_PREFIX}NAME.SETTING)",
    )
    for name, text in settings.items():
        row = rows[name]
        if row is None:
            continue
        try:
            parse(row, text)
        except SettingError as error:
            name = str(config.broker_id) if per_broker else ""
            refuse(ErrorCode.INVALID_REQUEST, _invalid("BROKER", name, error))
    if not per_broker:
        single = [n for n, row in rows.items() if row and row.scope is Scope.PER_BROKER]
        _none_of(single, "These can be changed for one broker only, not for all")
    own, cluster = (settings, config.dynamic_default) if per_broker else (config.dynamic, settings)
    try:
        candidate = config.with_dynamic(own, cluster)
    except ConfigError as error:
        refuse(ErrorCode.INVALID_REQUEST, str(error))
    _check_running(config, candidate)


def _none_of(names: list[str], sentence: str) -> None:
    if names:
        refuse(ErrorCode.INVALID_REQUEST, f"{sentence}: {', '.join(sorted(names))}")


def _check_running(config: BrokerConfig, candidate: BrokerConfig) -> None:
    """What a running broker cannot do at once."""
    for name in _THREADS:
        attribute = name.replace(".", "_")
        now, then = getattr(config, attribute), getattr(candidate, attribute)
        if now != then and not max(1, now // 2) <= then <= now * 2:
            refuse(
                ErrorCode.INVALID_REQUEST,
                f"{name} is {now} and can be changed to half or double of it, not to {then}.",
            )
    if candidate.metric_reporters and candidate.metric_reporters != config.metric_reporters:
        refuse(ErrorCode.INVALID_REQUEST, "metric.reporters names Java classes; none can be used.")
    if candidate.listeners != config.listeners:
        refuse(ErrorCode.INVALID_REQUEST, "listeners cannot be changed while this broker runs.")


def check_storable(settings: Mapping[str, str]) -> None:
    """Passwords are not stored: there is no password.encoder.secret in use here. Raises Refused."""
    for name in settings:
        row = setting_of(name)
        if row is not None and row.kind is Kind.PASSWORD:
            refuse(ErrorCode.INVALID_CONFIG, f"{name} is a password and cannot be stored.")


# --- client metrics -------------------------------------------------------------------------------


def check_client_metrics(settings: Mapping[str, str]) -> None:
    """Whether a subscription may be like this (KIP-714). Raises Refused."""
    for name, text in settings.items():
        row = CLIENT_METRICS.get(name)
        if row is None:
            refuse(ErrorCode.INVALID_REQUEST, f"Client metrics have no setting {name}.")
        try:
            value = parse(row._replace(check=None), text)
        except SettingError as error:
            refuse(ErrorCode.INVALID_CONFIG, str(error))
        wrong = row.check(value) if row.check is not None else None
        if wrong is not None:
            refuse(ErrorCode.INVALID_REQUEST, f"{name} {wrong}.")
        if name == "match":
            _check_match(value)


def _check_match(patterns: list[str]) -> None:
    for pattern in patterns:
        key, equals, expression = (part.strip() for part in pattern.partition("="))
        if not equals or key not in _MATCHES:
            refuse(
                ErrorCode.INVALID_CONFIG,
                f"{pattern!r} selects no clients: it must be one of {', '.join(_MATCHES)}, = and a "
                f"regular expression.",
            )
        try:
            re.compile(expression)
        except re.error as error:
            refuse(ErrorCode.INVALID_CONFIG, f"{pattern!r} is no regular expression: {error}")


# --- groups ---------------------------------------------------------------------------------------


def check_group(config: BrokerConfig, settings: Mapping[str, str]) -> None:
    """Whether a group may have these settings. Raises Refused."""
    values: dict[str, Any] = {}
    for name, text in settings.items():
        row = GROUPS.get(name)
        if row is None:
            refuse(ErrorCode.INVALID_CONFIG, f"Groups have no setting {name}.")
        try:
            values[name] = parse(row, text)
        except SettingError as error:
            refuse(ErrorCode.INVALID_CONFIG, str(error))
    for name, value in values.items():
        low, high = bounds(config, name)
        if (low is not None and value < low) or (high is not None and value > high):
            refuse(
                ErrorCode.INVALID_CONFIG,
                f"{name} cannot be {value}; this broker allows {low or 0} to {high}.",
            )
    for kind in ("consumer", "share", "streams"):
        _check_heartbeat(config, kind, values)
    if values.get("errors.deadletterqueue.topic.name", "").startswith("__"):
        refuse(ErrorCode.INVALID_CONFIG, "The name of a dead letter queue cannot begin with __.")
    assignor = values.get("streams.assignor.name")
    if assignor is not None and assignor not in config.group_streams_assignors:
        refuse(ErrorCode.INVALID_CONFIG, f"There is no assignor {assignor}.")


def _check_heartbeat(config: BrokerConfig, kind: str, values: Mapping[str, Any]) -> None:
    session, heartbeat = f"{kind}.session.timeout.ms", f"{kind}.heartbeat.interval.ms"
    if session in values or heartbeat in values:
        timeout, interval = (
            values.get(name, getattr(config, f"group_{name}".replace(".", "_")))
            for name in (session, heartbeat)
        )
        if timeout <= interval:
            refuse(ErrorCode.INVALID_CONFIG, f"{session} must be more than {heartbeat}.")
