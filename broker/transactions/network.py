"""Transactions between brokers: a coordinator's markers to the leaders of partitions
(WriteTxnMarkers), and a leader's questions to the coordinator of a transaction
(AddPartitionsToTxn, KIP-890).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from broker.coordinator import Waiting
from broker.outbox import Outbox, in_rounds
from broker.peer import NotServed, Peer
from broker.transactions.markers import Done, Marker, Results, write_markers
from broker.transactions.state import TopicPartition, by_topic
from protocol.errors import ErrorCode
from protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)

if TYPE_CHECKING:
    from broker.context import Node

ADD_PARTITIONS_TO_TXN = 24
WRITE_TXN_MARKERS = 27
BETWEEN_BROKERS_SINCE = 4
"""Versions of AddPartitionsToTxn from here on are for brokers."""


class _Markers(NamedTuple):
    """One transaction's end at partitions of one broker."""

    marker: Marker
    partitions: list[TopicPartition]
    is_over: Callable[[], bool]


class Brokers:
    """`broker.transactions.markers.Leaders`: this broker, and the others over the network.

    A transaction that is over when its turn has come is left out of the request.
    """

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._outbox = Outbox(node, "txn-markers", _write_markers, _no_markers)

    def send_markers(
        self,
        broker_id: int,
        marker: Marker,
        partitions: list[TopicPartition],
        done: Done,
        is_over: Callable[[], bool],
    ) -> None:
        """See `Leaders`."""
        if broker_id == self._node.broker_id:
            write_markers(self._node, marker, partitions, done)
        else:
            self._outbox.ask(broker_id, _Markers(marker, partitions, is_over), done)

    def close(self) -> None:
        """Nothing more is sent."""
        self._outbox.close()


async def _write_markers(peer: Peer, asked: list[_Markers]) -> list[Results]:
    wanted: dict[Marker, list[TopicPartition]] = {}
    for one in asked:
        if not one.is_over():
            wanted.setdefault(one.marker, []).extend(one.partitions)
    if not wanted:
        return [{} for _ in asked]
    request = WriteTxnMarkersRequest(
        [
            WritableTxnMarker(
                marker.producer_id,
                marker.producer_epoch,
                marker.committed,
                [WritableTxnMarkerTopic(*row) for row in by_topic(partitions).items()],
                marker.coordinator_epoch,
                marker.transaction_version,
            )
            for marker, partitions in wanted.items()
        ]
    )
    answer: WriteTxnMarkersResponse = await peer.call_newest(WRITE_TXN_MARKERS, lambda _: request)
    codes = {
        (result.producer_id, topic.name, row.partition_index): ErrorCode(row.error_code)
        for result in answer.markers
        for topic in result.topics
        for row in topic.partitions
    }
    unsaid = ErrorCode.NETWORK_EXCEPTION
    return [
        {key: codes.get((one.marker.producer_id, *key), unsaid) for key in one.partitions}
        for one in asked
    ]


def _no_markers(asked: _Markers, error: Exception) -> Results:
    return dict.fromkeys(asked.partitions, ErrorCode.NETWORK_EXCEPTION)


class _Question(NamedTuple):
    """Whether partitions are in a producer's transaction; with `add` they join it."""

    transactional_id: str
    producer: tuple[int, int]
    partitions: list[TopicPartition]
    add: bool


class TransactionLink:
    """The way to transaction coordinators on other brokers."""

    def __init__(self, node: "Node") -> None:
        self._outbox = Outbox(node, "add-partitions-to-txn", _ask_coordinator, _not_asked)

    def ask(
        self,
        broker_id: int,
        transactional_id: str,
        producer: tuple[int, int],
        partitions: list[TopicPartition],
        *,
        add: bool,
    ) -> Waiting:
        """A `Waiting` for an `ErrorCode` for each partition, as
        `broker.transactions.verification.ask_coordinator` has them; NETWORK_EXCEPTION where the
        broker does not answer, NONE where it is too old to be asked."""
        waiting = Waiting(lambda code: [code] * len(partitions))
        question = _Question(transactional_id, producer, partitions, add)
        self._outbox.ask(broker_id, question, waiting.answer)
        return waiting

    def close(self) -> None:
        """Nobody is asked or answered any more."""
        self._outbox.close()


async def _ask_coordinator(peer: Peer, asked: list[_Question]) -> list[list[ErrorCode]]:
    """An answer goes by transactional ids: what concerns the same one is asked one after the
    other."""
    answers: dict[int, list[ErrorCode]] = {}
    for numbers in in_rounds([one.transactional_id for one in asked]):
        codes = await _one_request(peer, [asked[number] for number in numbers])
        answers |= {number: codes[asked[number].transactional_id] for number in numbers}
    return [answers[number] for number in range(len(asked))]


async def _one_request(peer: Peer, asked: list[_Question]) -> dict[str, list[ErrorCode]]:
    """The codes by transactional id; each is there once."""
    request = AddPartitionsToTxnRequest(
        [
            AddPartitionsToTxnTransaction(
                one.transactional_id,
                *one.producer,
                not one.add,
                [AddPartitionsToTxnTopic(*row) for row in by_topic(one.partitions).items()],
            )
            for one in asked
        ]
    )

    def make(version: int) -> AddPartitionsToTxnRequest:
        if version < BETWEEN_BROKERS_SINCE:
            raise NotServed(f"AddPartitionsToTxn is served in versions up to {version}")
        return request

    answer: AddPartitionsToTxnResponse = await peer.call_newest(ADD_PARTITIONS_TO_TXN, make)
    whole = ErrorCode(answer.error_code)
    if whole == ErrorCode.CLUSTER_AUTHORIZATION_FAILED:
        whole = ErrorCode.INVALID_TXN_STATE  # producers would take it for their own fault
    unsaid = whole or ErrorCode.NETWORK_EXCEPTION
    codes = {
        (result.transactional_id, topic.name, row.partition_index): ErrorCode(
            row.partition_error_code
        )
        for result in answer.results_by_transaction
        for topic in result.topic_results
        for row in topic.results_by_partition
    }
    return {
        one.transactional_id: [
            whole or codes.get((one.transactional_id, *key), unsaid) for key in one.partitions
        ]
        for one in asked
    }


def _not_asked(asked: _Question, error: Exception) -> list[ErrorCode]:
    """A broker that cannot verify is one whose clients need not be verified, as in Apache Kafka."""
    old = isinstance(error, NotServed)
    return [ErrorCode.NONE if old else ErrorCode.NETWORK_EXCEPTION] * len(asked.partitions)
