"""EndTxn (key 26): a transaction is to be committed or aborted (KIP-98).

Versions: 1 throttling after the answer (KIP-219); 2 PRODUCER_FENCED (KIP-588); 3 flexible
(KIP-482); 4 TRANSACTION_ABORTABLE and 5 a new epoch after every transaction (KIP-890).
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from protocol.wire import Bool, Int16, Int32, Int64, String, ignorable, since


@dataclass(slots=True)
class EndTxnRequest:
    """The transaction and its end."""

    API_KEY: ClassVar[int] = 26
    VERSIONS: ClassVar[tuple[int, int]] = (0, 5)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    transactional_id: String = ""
    producer_id: Int64 = 0
    producer_epoch: Int16 = 0
    committed: Bool = False


@dataclass(slots=True)
class EndTxnResponse:
    """Whether the end is decided; since version 5 the epoch to go on with."""

    API_KEY: ClassVar[int] = 26
    VERSIONS: ClassVar[tuple[int, int]] = (0, 5)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    producer_id: Annotated[Int64, since(5), ignorable] = -1
    producer_epoch: Annotated[Int16, since(5), ignorable] = -1
