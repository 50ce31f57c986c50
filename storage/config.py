"""Topic settings: the declared table and `LogConfig`, what a partition log reads from it.

Names, types, defaults and bounds are Apache Kafka 3.9's topic configs. A value that a topic does
not set comes from the broker setting named as its first synonym; the broker builds that base
(`BrokerConfig.log_config`) and a topic's own values are laid over it with `LogConfig.from_strings`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from storage.settings import (
    Check,
    Kind,
    Setting,
    SettingError,
    UnknownSetting,
    at_least,
    between,
    each_of,
    int_or,
    one_of,
    parse,
    table,
)

LONG_MAX = (1 << 63) - 1

COMPRESSION_TYPES = ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")

GZIP_LEVEL = int_or(-1, 1, 9)
LZ4_LEVEL = between(1, 17)
ZSTD_LEVEL = between(-131072, 22)


def throttled_replicas(value: Any) -> str | None:
    """Items `partition:broker`, or one star for all replicas."""
    if [item.strip() for item in value] == ["*"]:
        return None
    for item in value:
        left, colon, right = item.strip().partition(":")
        if item.strip() and not (colon and _digits(left) and _digits(right)):
            return "must be '*' or a list of partition:broker"
    return None


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


# Each with the number of its metadata versions; what is not finished (4.0) only has full names.
# fmt: off
_RELEASES = {
    "0.8.0": 0, "0.8.1": 0, "0.8.2": 0, "0.9.0": 0, "0.10.0": 2, "0.10.1": 3, "0.10.2": 1,
    "0.11.0": 3, "1.0": 1, "1.1": 1, "2.0": 2, "2.1": 3, "2.2": 2, "2.3": 2, "2.4": 2, "2.5": 1,
    "2.6": 1, "2.7": 3, "2.8": 2, "3.0": 2, "3.1": 1, "3.2": 1, "3.3": 4, "3.4": 1, "3.5": 3,
    "3.6": 3, "3.7": 5, "3.8": 1, "3.9": 1, "4.0": 2,
}
# fmt: on
_UNFINISHED = "4.0"


def release(value: Any) -> str | None:
    """A version of the metadata and message formats: `2.8`, `2.8-IV1`, `2.8.1`, `0.10.0-IV0`."""
    number, iv, internal = value.partition("-IV")
    words = number.split(".")
    short = ".".join(words[:3] if words[0] == "0" else words[:2])
    if short not in _RELEASES:
        known = False
    elif iv:
        known = _digits(internal) and int(internal) < _RELEASES[short]
    else:
        known = short != _UNFINISHED
    return None if known else "must be a release such as 2.8 or 3.9-IV0"


def _row(
    name: str,
    kind: Kind,
    default: str | None,
    check: Check | None,
    synonyms: str,
    doc: str,
) -> Setting:
    return Setting(name, kind, default, doc, check, synonyms=tuple(synonyms.split()))


_B, _S, _I, _L, _D, _LIST = (
    Kind.BOOLEAN,
    Kind.STRING,
    Kind.INT,
    Kind.LONG,
    Kind.DOUBLE,
    Kind.LIST,
)
_MAX = str(LONG_MAX)
_WEEK = "604800000"

# Name, type, default, check, broker settings the value falls back to (best first), sentence.
# A synonym that counts in other units (log.retention.hours) is converted by broker/config.py.
ROWS: tuple[Setting, ...] = (
    _row(
        "cleanup.policy", _LIST, "delete", each_of("compact", "delete"), "log.cleanup.policy",
        "What happens to old segments: delete drops them by age and size, compact keeps the last "
        "record of each key; both may be given.",
    ),
    _row(
        "compression.gzip.level", _I, "-1", GZIP_LEVEL, "compression.gzip.level",
        "Level used when the broker compresses with gzip; -1 is the library's own choice.",
    ),
    _row(
        "compression.lz4.level", _I, "9", LZ4_LEVEL, "compression.lz4.level",
        "Level used when the broker compresses with lz4.",
    ),
    _row(
        "compression.type", _S, "producer", one_of(*COMPRESSION_TYPES), "compression.type",
        "Codec in which batches are stored; producer keeps what arrived, uncompressed removes "
        "compression.",
    ),
    _row(
        "compression.zstd.level", _I, "3", ZSTD_LEVEL, "compression.zstd.level",
        "Level used when the broker compresses with zstd.",
    ),
    _row(
        "delete.retention.ms", _L, "86400000", at_least(0), "log.cleaner.delete.retention.ms",
        "How long a deletion marker stays in a compacted topic, so that a slow reader still "
        "sees it.",
    ),
    _row(
        "file.delete.delay.ms", _L, "60000", at_least(0), "log.segment.delete.delay.ms",
        "How long a file already removed from the log is kept on disk.",
    ),
    _row(
        "flush.messages", _L, _MAX, at_least(1), "log.flush.interval.messages",
        "Force data to disk after this many records; 1 forces every append.",
    ),
    _row(
        "flush.ms", _L, _MAX, at_least(0), "log.flush.interval.ms log.flush.scheduler.interval.ms",
        "Force data to disk after it has waited this long.",
    ),
    _row(
        "follower.replication.throttled.replicas", _LIST, "", throttled_replicas, "",
        "Replicas (partition:broker) whose catching up is limited on the follower; * means all.",
    ),
    _row(
        "index.interval.bytes", _I, "4096", at_least(0), "log.index.interval.bytes",
        "An entry goes into the offset index each time this many bytes were appended.",
    ),
    _row(
        "leader.replication.throttled.replicas", _LIST, "", throttled_replicas, "",
        "Replicas (partition:broker) whose catching up is limited on the leader; * means all.",
    ),
    _row(
        "local.retention.bytes", _L, "-2", at_least(-2), "log.local.retention.bytes",
        "With tiered storage, bytes of a partition kept on local disk; -2 takes retention.bytes.",
    ),
    _row(
        "local.retention.ms", _L, "-2", at_least(-2), "log.local.retention.ms",
        "With tiered storage, how long segments stay on local disk; -2 takes retention.ms.",
    ),
    _row(
        "max.compaction.lag.ms", _L, _MAX, at_least(1), "log.cleaner.max.compaction.lag.ms",
        "The longest time a record may wait before the log becomes due for compaction.",
    ),
    _row(
        "max.message.bytes", _I, "1048588", at_least(0), "message.max.bytes",
        "The largest record batch that is accepted, in bytes as stored.",
    ),
    _row(
        "message.downconversion.enable", _B, "true", None, "log.message.downconversion.enable",
        "Whether batches are rewritten into an older format for clients that ask for one.",
    ),
    _row(
        "message.format.version", _S, "3.0-IV1", release, "log.message.format.version",
        "Accepted for old tools and without effect: batches are always stored in format 2.",
    ),
    _row(
        "message.timestamp.after.max.ms", _L, _MAX, at_least(0),
        "log.message.timestamp.after.max.ms",
        "How far a record's create time may lie ahead of the broker's clock.",
    ),
    _row(
        "message.timestamp.before.max.ms", _L, _MAX, at_least(0),
        "log.message.timestamp.before.max.ms",
        "How far a record's create time may lie behind the broker's clock.",
    ),
    _row(
        "message.timestamp.difference.max.ms", _L, _MAX, at_least(0),
        "log.message.timestamp.difference.max.ms",
        "Older form of the two limits on create times; used for each of them that is not set.",
    ),
    _row(
        "message.timestamp.type", _S, "CreateTime", one_of("CreateTime", "LogAppendTime"),
        "log.message.timestamp.type",
        "Whether a record carries the producer's time or the time of its append.",
    ),
    _row(
        "min.cleanable.dirty.ratio", _D, "0.5", between(0, 1), "log.cleaner.min.cleanable.ratio",
        "Share of a compacted log that must be uncompacted before the cleaner takes it up.",
    ),
    _row(
        "min.compaction.lag.ms", _L, "0", at_least(0), "log.cleaner.min.compaction.lag.ms",
        "The least time a record stays untouched by compaction.",
    ),
    _row(
        "min.insync.replicas", _I, "1", at_least(1), "min.insync.replicas",
        "Replicas that must have a record before a producer with acks=all is answered.",
    ),
    _row(
        "preallocate", _B, "false", None, "log.preallocate",
        "Whether a new segment file gets its full size at once.",
    ),
    _row(
        "remote.log.copy.disable", _B, "false", None, "",
        "Stops copying of a topic's segments to tiered storage.",
    ),
    _row(
        "remote.log.delete.on.disable", _B, "false", None, "",
        "Whether tiered data goes away when tiered storage is switched off for a topic.",
    ),
    _row(
        "remote.storage.enable", _B, "false", None, "",
        "Switches tiered storage on for a topic.",
    ),
    _row(
        "retention.bytes", _L, "-1", None, "log.retention.bytes",
        "Old segments are deleted while a partition is larger than this; -1 sets no limit.",
    ),
    _row(
        "retention.ms", _L, _WEEK, at_least(-1),
        "log.retention.ms log.retention.minutes log.retention.hours",
        "Segments older than this are deleted; -1 keeps them for ever.",
    ),
    _row(
        "segment.bytes", _I, "1073741824", at_least(14), "log.segment.bytes",
        "A new segment file begins when the present one would grow beyond this.",
    ),
    _row(
        "segment.index.bytes", _I, "10485760", at_least(4), "log.index.size.max.bytes",
        "Largest size of an index file; a full index begins a new segment.",
    ),
    _row(
        "segment.jitter.ms", _L, "0", at_least(0), "log.roll.jitter.ms log.roll.jitter.hours",
        "Random time taken off segment.ms, so that not all segments roll together.",
    ),
    _row(
        "segment.ms", _L, _WEEK, at_least(1), "log.roll.ms log.roll.hours",
        "A new segment file begins when the present one is this old, even if it is small.",
    ),
    _row(
        "unclean.leader.election.enable", _B, "false", None, "unclean.leader.election.enable",
        "Whether a replica outside the in-sync set may lead when no other is left, at the "
        "price of losing records.",
    ),
)  # fmt: skip

SETTINGS: dict[str, Setting] = table(ROWS)

_DEFAULTS: dict[str, Any] = {row.name: parse(row, row.default) for row in ROWS}
_ATTRIBUTES: tuple[tuple[str, str], ...] = tuple(
    (row.name.replace(".", "_"), row.name) for row in ROWS
)


class LogConfig:
    """What a partition log needs to know; frozen. Durations in ms, sizes in bytes.

    `LogConfig()` has Kafka's defaults. `message_timestamp_before_max_ms` and `..._after_max_ms`
    hold the limit in force, that is message.timestamp.difference.max.ms where they are not set.
    """

    # Written by hand instead of as a dataclass: making one with 36 fields costs a start 2 ms.
    __slots__ = (*(attribute for attribute, _ in _ATTRIBUTES), "compact", "delete", "given")

    cleanup_policy: frozenset[str]
    compression_gzip_level: int
    compression_lz4_level: int
    compression_type: str
    compression_zstd_level: int
    delete_retention_ms: int
    file_delete_delay_ms: int
    flush_messages: int
    flush_ms: int
    follower_replication_throttled_replicas: tuple[str, ...]
    index_interval_bytes: int
    leader_replication_throttled_replicas: tuple[str, ...]
    local_retention_bytes: int
    local_retention_ms: int
    max_compaction_lag_ms: int
    max_message_bytes: int
    message_downconversion_enable: bool
    message_format_version: str
    message_timestamp_after_max_ms: int
    message_timestamp_before_max_ms: int
    message_timestamp_difference_max_ms: int
    message_timestamp_type: str
    min_cleanable_dirty_ratio: float
    min_compaction_lag_ms: int
    min_insync_replicas: int
    preallocate: bool
    remote_log_copy_disable: bool
    remote_log_delete_on_disable: bool
    remote_storage_enable: bool
    retention_bytes: int
    retention_ms: int
    segment_bytes: int
    segment_index_bytes: int
    segment_jitter_ms: int
    segment_ms: int
    unclean_leader_election_enable: bool

    compact: bool
    """cleanup_policy has compact."""
    delete: bool
    """cleanup_policy has delete."""
    given: Mapping[str, Any]
    """Parsed values that were set (by the broker or the topic), by Kafka's name."""

    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        """`given`: parsed values by Kafka's name; from text use `from_strings`."""
        put = object.__setattr__
        values = {**_DEFAULTS, **given} if given else _DEFAULTS
        for attribute, name in _ATTRIBUTES:
            value = values[name]
            put(self, attribute, tuple(value) if isinstance(value, list) else value)
        policy = frozenset(values["cleanup.policy"])
        put(self, "cleanup_policy", policy)
        put(self, "compact", "compact" in policy)
        put(self, "delete", "delete" in policy)
        put(self, "given", MappingProxyType(dict(given or {})))
        difference = values["message.timestamp.difference.max.ms"]
        if difference != LONG_MAX:
            for end in ("before", "after"):
                if values[f"message.timestamp.{end}.max.ms"] == LONG_MAX:
                    put(self, f"message_timestamp_{end}_max_ms", difference)

    @classmethod
    def from_strings(
        cls, overrides: Mapping[str, str], base: "LogConfig | None" = None
    ) -> "LogConfig":
        """`overrides` (Kafka's names and texts) laid over `base`, or over the defaults.

        Raises UnknownSetting for a name that no topic has, SettingError for a bad value or for
        values that contradict each other.
        """
        if base is not None and not overrides:
            return base
        given = dict(base.given) if base is not None else {}
        for name, text in overrides.items():
            setting = SETTINGS.get(name)
            if setting is None:
                raise UnknownSetting(name, f"Unknown topic config name: {name}")
            given[name] = parse(setting, text)
        config = cls(given)
        config._check_together()
        return config

    def _check_together(self) -> None:
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms:
            raise SettingError(
                "min.compaction.lag.ms",
                str(self.min_compaction_lag_ms),
                f"must not be above max.compaction.lag.ms ({self.max_compaction_lag_ms})",
            )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"LogConfig is frozen: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"LogConfig is frozen: {name}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LogConfig):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name, _ in _ATTRIBUTES)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name, _ in _ATTRIBUTES))

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={value!r}" for name, value in sorted(self.given.items()))
        return f"LogConfig({inner})"
