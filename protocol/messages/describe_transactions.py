"""DescribeTransactions (key 65): states of transactions (KIP-664)."""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import Int16, Int32, Int64, String


@dataclass(slots=True)
class DescribeTransactionsRequest:
    """The transactional ids."""

    API_KEY: ClassVar[int] = 65
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    transactional_ids: list[String] = field(default_factory=list)


@dataclass(slots=True)
class TopicData:
    topic: String = ""
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class TransactionState:
    error_code: Int16 = 0
    transactional_id: String = ""
    transaction_state: String = ""
    transaction_timeout_ms: Int32 = 0
    transaction_start_time_ms: Int64 = 0
    producer_id: Int64 = 0
    producer_epoch: Int16 = 0
    topics: list[TopicData] = field(default_factory=list)


@dataclass(slots=True)
class DescribeTransactionsResponse:
    """Each one's state, timeout, start and partitions."""

    API_KEY: ClassVar[int] = 65
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    transaction_states: list[TransactionState] = field(default_factory=list)
