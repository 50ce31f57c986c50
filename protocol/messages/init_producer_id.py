"""InitProducerId (key 22): a producer id and epoch for an idempotent or transactional producer
(KIP-98).

Versions: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482); 3 the epoch can be raised
(KIP-360); 4 PRODUCER_FENCED (KIP-588); 5 TRANSACTION_ABORTABLE (KIP-890); 6 two-phase commit
(KIP-939), not stable yet.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from protocol.wire import Bool, Int16, Int32, Int64, NullableString, ignorable, since


@dataclass(slots=True)
class InitProducerIdRequest:
    """The transactional id (null for idempotence alone), and since version 3 the id that is to be
    continued.
    """

    API_KEY: ClassVar[int] = 22
    VERSIONS: ClassVar[tuple[int, int]] = (0, 6)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    transactional_id: NullableString = ""
    transaction_timeout_ms: Int32 = 0
    producer_id: Annotated[Int64, since(3)] = -1
    producer_epoch: Annotated[Int16, since(3)] = -1
    enable_2pc: Annotated[Bool, since(6)] = False
    keep_prepared_txn: Annotated[Bool, since(6)] = False


@dataclass(slots=True)
class InitProducerIdResponse:
    """The producer id and epoch."""

    API_KEY: ClassVar[int] = 22
    VERSIONS: ClassVar[tuple[int, int]] = (0, 6)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    throttle_time_ms: Annotated[Int32, ignorable] = 0
    error_code: Int16 = 0
    producer_id: Int64 = -1
    producer_epoch: Int16 = 0
    ongoing_txn_producer_id: Annotated[Int64, since(6)] = -1
    ongoing_txn_producer_epoch: Annotated[Int16, since(6)] = -1
