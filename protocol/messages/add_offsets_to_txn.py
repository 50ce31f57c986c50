"""AddOffsetsToTxn (key 25): a group's offsets join a transaction (KIP-98).

Versions: 1 throttling after the answer (KIP-219); 2 PRODUCER_FENCED (KIP-588); 3 flexible
(KIP-482); 4 TRANSACTION_ABORTABLE (KIP-890).
"""

from dataclasses import dataclass
from typing import ClassVar

from protocol.wire import Int16, Int32, Int64, String


@dataclass(slots=True)
class AddOffsetsToTxnRequest:
    """The transaction and the group."""

    API_KEY: ClassVar[int] = 25
    VERSIONS: ClassVar[tuple[int, int]] = (0, 4)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    transactional_id: String = ""
    producer_id: Int64 = 0
    producer_epoch: Int16 = 0
    group_id: String = ""


@dataclass(slots=True)
class AddOffsetsToTxnResponse:
    """Whether the offsets partition of the group is part of the transaction now."""

    API_KEY: ClassVar[int] = 25
    VERSIONS: ClassVar[tuple[int, int]] = (0, 4)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
