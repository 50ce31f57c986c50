"""`BrokerConfig`: every setting's value, by Kafka's name, and where it comes from.

Values are laid over each other: defaults, the property file, `--set` and the command line's other
flags (together: static), the dynamic default of all brokers, the dynamic settings of this broker.
They are kept as text and parsed when first asked for; what is given is checked at start.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from broker import listeners as endpoints
from broker.group_settings import GroupSettings
from broker.listeners import Endpoint, ListenerError, Listeners
from broker.properties import BadProperties, decode
from broker.properties import parse as parse_properties
from broker.settings import SETTINGS, UNLISTED
from storage import config as topic_config
from storage.config import LogConfig
from storage.settings import Kind, Scope, Setting, SettingError, parse, render, split_list

log = logging.getLogger("odradek.config")

LISTENER_PREFIX = "listener.name."
DEFAULT_PORT = 9092

ALONE: Mapping[str, str] = {
    "broker.id": "0",
    "listeners": f"PLAINTEXT://127.0.0.1:{DEFAULT_PORT}",
    "offsets.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.replication.factor": "1",
}
"""What a broker without zookeeper.connect has where nothing is given: Kafka's own defaults need
three brokers."""

READY_MADE: Mapping[str, str] = {
    "group.initial.rebalance.delay.ms": "0",
    "log.dirs": "odradek-data",
}
"""What `odradek start` has besides when it is given no property file."""

FOREIGN = ("super.users", "allow.everyone.if.no.acl.found")
"""Names that Kafka's broker does not know itself but its authorizer does."""

# Sources of a value, as DescribeConfigs numbers them.
DYNAMIC_BROKER, DYNAMIC_DEFAULT, STATIC, DEFAULT = 2, 3, 4, 5

_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000
_UNITS = {
    "log.retention.ms": 1,
    "log.retention.minutes": _MINUTE_MS,
    "log.retention.hours": _HOUR_MS,
    "log.roll.hours": _HOUR_MS,
    "log.roll.jitter.hours": _HOUR_MS,
}
"""Milliseconds in the unit of settings that stand in for one in milliseconds."""


class ConfigError(Exception):
    """The configuration cannot be used; str() is one sentence for whoever started the broker."""


class TopicSpec(NamedTuple):
    """A topic declared on the command line."""

    name: str
    partitions: int
    configs: dict[str, str]


class Source(NamedTuple):
    """A value somebody gave a setting, or its default; `source` as DescribeConfigs numbers it."""

    name: str
    value: str
    source: int


def setting_of(name: str) -> Setting | None:
    """The row of a setting; also of `listener.name.NAME.[MECHANISM.]SETTING`."""
    row = SETTINGS.get(name) or UNLISTED.get(name)
    if row is None and name.startswith(LISTENER_PREFIX):
        rest = name[len(LISTENER_PREFIX) :].partition(".")[2]
        row = SETTINGS.get(rest) or SETTINGS.get(rest.partition(".")[2])
    return row


def read_file(path: str) -> dict[str, str]:
    """Settings of a property file. Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            return parse_properties(decode(file.read()))
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror or error}.") from None
    except BadProperties as error:
        raise ConfigError(f"{path} is not a property file: {error}.") from None


class BrokerConfig:
    """All settings of one broker.

    `config.num_partitions` is the parsed value of num.partitions: dots become underscores. Some
    attributes are made from several settings: `listeners`, `advertised_listeners`, `log_dirs`,
    `inter_broker_listener_name`, `log_config`, `broker_id`.
    """

    listeners: tuple[Endpoint, ...]
    advertised_listeners: tuple[Endpoint, ...]
    inter_broker_listener_name: str
    control_plane_listener_name: str | None
    broker_id: int
    log_dirs: tuple[str, ...]
    """Absolute paths."""
    log_config: LogConfig
    """What a topic has that sets nothing itself."""
    memo: dict[object, Any]
    """Room for what callers make of the settings; emptied when one changes."""

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        """`given`: static settings as text. Raises ConfigError."""
        static = {name: text for name, text in (given or {}).items() if text is not None}
        self._static = static
        self._dynamic: dict[str, str] = {}
        self._cluster: dict[str, str] = {}
        self._watchers: list[Callable[[frozenset[str]], None]] = []
        self._ports: dict[str, int] = {}
        self._groups = GroupSettings(self)
        if not static.get("zookeeper.connect"):
            self._settle_alone()
        elif "broker.id" in static or "node.id" in static:
            self._settle_id()
        for name, text in static.items():
            self._check_one(name, text)
        try:
            self._derive()
        except (ListenerError, SettingError) as error:
            raise ConfigError(str(error)) from None
        _check_together(self)

    def __getattr__(self, attribute: str) -> Any:
        # Called only while the value is not yet in the instance's dictionary.
        name = attribute.replace("_", ".")
        row = SETTINGS.get(name) or UNLISTED.get(name)
        if row is None:
            raise AttributeError(f"no setting {name}")
        value = parse(row, self.value(name))
        self.__dict__[attribute] = value
        return value

    @property
    def groups(self) -> GroupSettings:
        """What single groups set for themselves."""
        return self._groups

    # --- values and where they come from ---------------------------------------------------------

    def value(self, name: str) -> str | None:
        """Text in force of a setting, None when it has none. Raises KeyError for unknown names."""
        for layer in (self._dynamic, self._cluster, self._static):
            text = layer.get(name)
            if text is not None:
                return text
        return (SETTINGS.get(name) or UNLISTED[name]).default

    @property
    def given(self) -> Mapping[str, str]:
        """Static settings: the file's, the command line's and those of a broker on its own."""
        return self._static

    @property
    def dynamic(self) -> Mapping[str, str]:
        """Dynamic settings of this broker."""
        return self._dynamic

    @property
    def dynamic_default(self) -> Mapping[str, str]:
        """Dynamic settings of all brokers."""
        return self._cluster

    def sources(self, name: str) -> list[Source]:
        """Values of a setting and of those standing in for it, the one in force first (KIP-226).

        Begins with the first value of that very name, as Kafka's answer does: when only
        log.retention.hours is given, log.retention.ms has no sources at all.
        """
        row = SETTINGS.get(name)
        names = [name]
        if row is not None and row.synonyms:
            names = sorted((name, *row.synonyms), key=_unit)
        elif row is None and (base := setting_of(name)) is not None and base.name != name:
            names.append(base.name)
        found: list[Source] = []
        layers = ((self._dynamic, DYNAMIC_BROKER), (self._cluster, DYNAMIC_DEFAULT))
        for layer, source in (*layers, (self._static, STATIC)):
            found += [Source(each, layer[each], source) for each in names if each in layer]
        for each in names:
            default = SETTINGS[each].default if each in SETTINGS else None
            if default is not None:
                found.append(Source(each, default, DEFAULT))
        first = next((i for i, each in enumerate(found) if each.name == name), len(found))
        return found[first:]

    def topic_default(self, name: str) -> str | None:
        """Text of what a topic has that does not set `name` itself, in the topic's unit."""
        row = topic_config.SETTINGS[name]
        for synonym in row.synonyms:
            text = self.value(synonym) if synonym in SETTINGS else None
            if text is not None:
                return self._in_ms(synonym, text)
        return row.default

    @staticmethod
    def _in_ms(name: str, text: str) -> str:
        if name not in _UNITS:
            return text
        number = int(text)
        return str(number * _UNITS[name] if number >= 0 else -1)

    # --- changes while running -------------------------------------------------------------------

    def watch(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Hear the names of settings whose value has changed; the new values are in force."""
        self._watchers.append(listener)

    def set_dynamic(self, own: Mapping[str, str], cluster: Mapping[str, str]) -> frozenset[str]:
        """Take over the dynamic settings of this broker and of all brokers.

        What cannot be used (stored by hand or by another release) is left out with a log line.
        Returns the names that have changed.
        """
        before = (self._dynamic, self._cluster)
        self._dynamic = self._usable(own, per_broker=True)
        self._cluster = self._usable(cluster, per_broker=False)
        changed = frozenset(
            name
            for old, new in zip(before, (self._dynamic, self._cluster), strict=True)
            for name in old.keys() | new.keys()
            if old.get(name) != new.get(name)
        )
        if not changed:
            return changed
        try:
            self._derive()
        except (ListenerError, SettingError) as error:
            log.error("dynamic settings are not taken over: %s", error)
            self._dynamic, self._cluster = before
            self._derive()
            return frozenset()
        for listener in self._watchers:
            listener(changed)
        return changed

    def with_dynamic(self, own: Mapping[str, str], cluster: Mapping[str, str]) -> "BrokerConfig":
        """A copy with other dynamic settings, to see whether they fit. Raises ConfigError."""
        copy = BrokerConfig.__new__(BrokerConfig)
        copy._static, copy._watchers, copy._ports = self._static, [], self._ports
        copy._groups = self._groups
        copy._dynamic, copy._cluster = dict(own), dict(cluster)
        try:
            copy._derive()
        except (ListenerError, SettingError) as error:
            raise ConfigError(str(error)) from None
        _check_together(copy)
        return copy

    def _usable(self, given: Mapping[str, str], *, per_broker: bool) -> dict[str, str]:
        usable: dict[str, str] = {}
        for name, text in given.items():
            row = setting_of(name)
            fits = row is None or (
                row.scope is Scope.CLUSTER_WIDE
                or (per_broker and (row.scope is Scope.PER_BROKER or row.name != name))
            )
            try:
                if row is not None:
                    parse(row, text)
            except SettingError as error:
                log.error("dynamic setting left out: %s", error)
            else:
                if fits:
                    usable[name] = text
                else:
                    log.error("dynamic setting left out: %s is not of that kind", name)
        return usable

    # --- at start --------------------------------------------------------------------------------

    def _settle_alone(self) -> None:
        static = self._static
        given_id = static.get("broker.id", static.get("node.id", ALONE["broker.id"]))
        if given_id.strip() == "-1":
            given_id = ALONE["broker.id"]
        if static.get("broker.id", "-1").strip() == "-1":
            static["broker.id"] = given_id
        for name, text in ALONE.items():
            static.setdefault(name, text)
        self._settle_id()

    def _settle_id(self) -> None:
        """broker.id and node.id are two names of one number."""
        static = self._static
        static.setdefault("broker.id", static.get("node.id", ""))
        static.setdefault("node.id", static["broker.id"])
        if static["node.id"].strip() == "-1":
            static["node.id"] = static["broker.id"]
        if static["node.id"].strip() != static["broker.id"].strip():
            raise ConfigError(
                f"broker.id is {static['broker.id']} and node.id {static['node.id']}: they must "
                f"be the same number."
            )

    @staticmethod
    def _check_one(name: str, text: str) -> None:
        row = setting_of(name)
        if row is None:
            return
        try:
            parse(row, text)
        except SettingError as error:
            raise ConfigError(f"The setting {name}={text} {error.reason}.") from None

    def unknown(self) -> list[str]:
        """Given names that no setting has; Kafka starts with them and says so."""
        return sorted(
            name for name in self._static if setting_of(name) is None and name not in FOREIGN
        )

    def _derive(self) -> None:
        """Forget parsed values and make anew what comes from several settings."""
        values = self.__dict__
        for attribute in [name for name in values if name[0] != "_"]:
            del values[attribute]
        found: Listeners = endpoints.read(self.value, socket.gethostname)
        values["listeners"] = found.bound
        values["advertised_listeners"] = self._with_ports(found.advertised)
        values["inter_broker_listener_name"] = found.inter_broker
        values["control_plane_listener_name"] = found.control_plane
        text = self.value("log.dirs")
        dirs = split_list(text if text is not None else str(self.log_dir))
        # As clients hear of them, and name them.
        values["log_dirs"] = tuple(map(os.path.abspath, dirs))
        values["log_config"] = self._log_config()
        values["memo"] = {}

    def _log_config(self) -> LogConfig:
        texts: dict[str, str] = {}
        for row in topic_config.ROWS:
            text = self.topic_default(row.name)
            if text is not None and text != row.default:
                texts[row.name] = text
        try:
            return LogConfig.from_strings(texts, LogConfig())
        except SettingError as error:
            # Say it of the broker's settings that were given, not of the topic's.
            names = " or ".join(topic_config.SETTINGS[error.name].synonyms)
            raise SettingError(names, error.value, error.reason) from None

    def take_id(self, broker_id: int) -> None:
        """The id of a broker that was given none."""
        self._static["broker.id"] = self._static["node.id"] = str(broker_id)
        self._derive()

    def advertise(self, ports: Mapping[str, int]) -> None:
        """Put the real ports (by listener name) where port 0 was asked for."""
        self._ports = dict(ports)
        self.__dict__["advertised_listeners"] = self._with_ports(self.advertised_listeners)

    def _with_ports(self, listeners: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        return tuple(
            e if e.port else e._replace(port=self._ports.get(e.name, 0)) for e in listeners
        )


def _unit(name: str) -> int:
    """Orders settings that stand in for each other: milliseconds before minutes before hours."""
    return _UNITS.get(name, 2 if name == "log.flush.scheduler.interval.ms" else 1)


def shown(name: str, text: str | None) -> str | None:
    """A value as DescribeConfigs shows it; secrets and values of unknown settings are hidden."""
    row = setting_of(name)
    if row is None or row.kind is Kind.PASSWORD:
        return None
    return render(row, text)


# --- settings that must fit together --------------------------------------------------------------


def _check_together(config: BrokerConfig) -> None:
    """Kafka's checks over several settings. Raises ConfigError."""
    for wrong, sentence in _contradictions(config):
        if wrong:
            raise ConfigError(sentence)


def _contradictions(c: BrokerConfig) -> Iterable[tuple[bool, str]]:
    yield not c.log_dirs, "log.dirs must name at least one directory."
    highest = c.reserved_broker_max_id if c.broker_id_generation_enable else 2**31 - 1
    yield (
        not -1 <= c.broker_id <= highest,
        f"broker.id is {c.broker_id}, but must be from -1 to {highest} (reserved.broker.max.id).",
    )
    yield (
        c.broker_id < 0 and not c.broker_id_generation_enable,
        "broker.id must be given where broker.id.generation.enable is false.",
    )
    yield (
        "inter.broker.listener.name" in c.given and "security.inter.broker.protocol" in c.given,
        "Only one of inter.broker.listener.name and security.inter.broker.protocol may be given.",
    )
    yield from _bad_times(c)
    yield from _bad_sizes(c)


def _bad_times(c: BrokerConfig) -> Iterable[tuple[bool, str]]:
    retention = c.log_config.retention_ms
    yield (
        retention == 0,
        "log.retention.ms (or .minutes or .hours) must be -1 for no limit, or at least 1.",
    )
    yield c.log_config.segment_ms < 1, "log.roll.ms must be at least 1."
    yield (
        c.replica_fetch_wait_max_ms > c.replica_socket_timeout_ms,
        "replica.socket.timeout.ms must be at least replica.fetch.wait.max.ms.",
    )
    yield (
        c.replica_fetch_wait_max_ms > c.replica_lag_time_max_ms,
        "replica.fetch.wait.max.ms must be at most replica.lag.time.max.ms.",
    )
    for kind in ("consumer", "share", "streams"):
        for what in ("session.timeout", "heartbeat.interval"):
            low, value, high = (
                int(c.value(f"group.{kind}.{bound}{what}.ms") or 0)
                for bound in ("min.", "", "max.")
            )
            yield (
                not low <= value <= high,
                f"group.{kind}.{what}.ms is {value}, which is not between its minimum {low} and "
                f"its maximum {high}.",
            )


def _bad_sizes(c: BrokerConfig) -> Iterable[tuple[bool, str]]:
    acks = c.offsets_commit_required_acks
    yield (
        not -1 <= acks <= c.offsets_topic_replication_factor,
        "offsets.commit.required.acks must be from -1 to offsets.topic.replication.factor.",
    )
    yield (
        0 < c.queued_max_request_bytes < c.socket_request_max_bytes,
        "queued.max.request.bytes must be at least socket.request.max.bytes, or not above 0.",
    )
    yield (
        c.max_connections_per_ip == 0 and not c.max_connections_per_ip_overrides,
        "max.connections.per.ip may be 0 only together with max.connections.per.ip.overrides.",
    )
    yield (
        c.log_cleaner_enable
        and c.log_cleaner_dedupe_buffer_size < (1 << 20) * c.log_cleaner_threads,
        "log.cleaner.dedupe.buffer.size must be at least 1 MiB for each of log.cleaner.threads.",
    )
    yield (
        bool(c.process_roles) and bool(c.value("zookeeper.connect")),
        "process.roles and zookeeper.connect cannot both be given.",
    )


def check_served(config: BrokerConfig) -> list[str]:
    """Refuses what would be unsafe to ignore; returns sentences about what will be ignored.

    Raises ConfigError for listeners whose security is not there: to serve them in the clear would
    betray the setting.
    """
    for endpoint in config.listeners:
        if endpoint.protocol != "PLAINTEXT":
            raise ConfigError(
                f"The listener {endpoint.name} asks for {endpoint.protocol}, which this release "
                f"does not serve; only PLAINTEXT is."
            )
    notes: list[str] = []
    unknown = config.unknown()
    if unknown:
        notes.append(f"settings without meaning here: {', '.join(unknown)}")
    if config.value("authorizer.class.name"):
        notes.append("authorizer.class.name has no effect: every client may do everything")
    if config.process_roles:
        notes.append("process.roles has no effect: there is no KRaft here, this broker runs alone")
    return notes
