"""ListTransactions (key 66): the transactions that a broker coordinates (KIP-664).

Versions: 1 those open longer than a number of ms (KIP-994); 2 a pattern for the transactional id
(KIP-1152).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Int16, Int32, Int64, NullableString, String, since


@dataclass(slots=True)
class ListTransactionsRequest:
    """States, producer ids, durations and names that the answer is limited to."""

    API_KEY: ClassVar[int] = 66
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    state_filters: list[String] = field(default_factory=list)
    producer_id_filters: list[Int64] = field(default_factory=list)
    duration_filter: Annotated[Int64, since(1)] = -1
    transactional_id_pattern: Annotated[NullableString, since(2)] = None


@dataclass(slots=True)
class TransactionState:
    transactional_id: String = ""
    producer_id: Int64 = 0
    transaction_state: String = ""


@dataclass(slots=True)
class ListTransactionsResponse:
    """The transactions of this broker."""

    API_KEY: ClassVar[int] = 66
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    unknown_state_filters: list[String] = field(default_factory=list)
    transaction_states: list[TransactionState] = field(default_factory=list)
