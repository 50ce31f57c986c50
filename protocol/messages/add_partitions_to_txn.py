"""AddPartitionsToTxn (key 24): partitions join a transaction (KIP-98).

Versions: 1 throttling after the answer (KIP-219); 2 PRODUCER_FENCED (KIP-588); 3 flexible
(KIP-482); 4 several transactions, verification (KIP-890); 5 TRANSACTION_ABORTABLE (KIP-890).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Bool, Int16, Int32, Int64, String, ignorable, since, until


@dataclass(slots=True)
class AddPartitionsToTxnTopic:
    name: String = ""
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class AddPartitionsToTxnTransaction:
    transactional_id: String = ""
    producer_id: Int64 = 0
    producer_epoch: Int16 = 0
    verify_only: Bool = False
    topics: list[AddPartitionsToTxnTopic] = field(default_factory=list)


@dataclass(slots=True)
class AddPartitionsToTxnRequest:
    """Partitions of one transaction; since version 4, between brokers, of several, perhaps only to
    be verified.
    """

    API_KEY: ClassVar[int] = 24
    VERSIONS: ClassVar[tuple[int, int]] = (0, 5)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    transactions: Annotated[list[AddPartitionsToTxnTransaction], since(4)] = field(
        default_factory=list
    )
    v3_and_below_transactional_id: Annotated[String, until(3)] = ""
    v3_and_below_producer_id: Annotated[Int64, until(3)] = 0
    v3_and_below_producer_epoch: Annotated[Int16, until(3)] = 0
    v3_and_below_topics: Annotated[list[AddPartitionsToTxnTopic], until(3)] = field(
        default_factory=list
    )


@dataclass(slots=True)
class AddPartitionsToTxnPartitionResult:
    partition_index: Int32 = 0
    partition_error_code: Int16 = 0


@dataclass(slots=True)
class AddPartitionsToTxnTopicResult:
    name: String = ""
    results_by_partition: list[AddPartitionsToTxnPartitionResult] = field(default_factory=list)


@dataclass(slots=True)
class AddPartitionsToTxnResult:
    transactional_id: String = ""
    topic_results: list[AddPartitionsToTxnTopicResult] = field(default_factory=list)


@dataclass(slots=True)
class AddPartitionsToTxnResponse:
    """What became of each partition."""

    API_KEY: ClassVar[int] = 24
    VERSIONS: ClassVar[tuple[int, int]] = (0, 5)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    throttle_time_ms: Int32 = 0
    error_code: Annotated[Int16, since(4), ignorable] = 0
    results_by_transaction: Annotated[list[AddPartitionsToTxnResult], since(4)] = field(
        default_factory=list
    )
    results_by_topic_v3_and_below: Annotated[list[AddPartitionsToTxnTopicResult], until(3)] = field(
        default_factory=list
    )
