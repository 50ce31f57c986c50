"""TxnOffsetCommit (key 28): offsets committed as part of a transaction (KIP-98).

Versions 0-6: 1 throttling after the answer (KIP-219); 2 leader epochs (KIP-320); 3 flexible, member
and generation are checked (KIP-447); 4 TRANSACTION_ABORTABLE where the group's partition does not
belong to the transaction, INVALID_TXN_STATE before (KIP-890); 5 the partition joins the transaction
by being written to (KIP-890); 6 topic ids for names (KIP-1319).

The offsets count once the transaction is committed; see `broker.groups.offsets`. The first ones of
a transaction wait for its coordinator to vouch for them, unless
transaction.partition.verification.enable is off (version 5: always). A partition named twice is
answered once below version 5, as in Apache Kafka; the last offset counts. Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.cluster.view import OFFSETS_TOPIC
from broker.groups.commit_rows import read_rows
from broker.groups.offset_table import Committed
from broker.groups.offsets import Committer, Write, fill
from broker.waiting import settled
from protocol.errors import ErrorCode
from protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)

if TYPE_CHECKING:
    from broker.context import Context, Node
    from storage.producers import ProducerStates, Verification

LOADING_SINCE = 2
"""Before, COORDINATOR_LOAD_IN_PROGRESS was the end of a producer: NOT_AVAILABLE is what it waits
for."""
ABORTABLE_SINCE = 4
ADDS_SINCE = 5
TOPIC_ID_SINCE = 6

NO_SEQUENCE = -1


def handle(node: "Node", context: "Context", request: TxnOffsetCommitRequest) -> Any:
    """The response, or who will have it."""
    call = _Call(node, context.version, request)
    if not call.writes:
        return call.response
    if not request.group_id:
        return call.refused(ErrorCode.INVALID_GROUP_ID)
    return call.verify()


class _Call:
    """One request under way."""

    def __init__(self, node: "Node", version: int, request: TxnOffsetCommitRequest) -> None:
        self._node = node
        self._version = version
        self._group_id = request.group_id
        self._transactional_id = request.transactional_id
        self._producer = (request.producer_id, request.producer_epoch)
        self._committer = Committer(
            request.member_id,
            request.group_instance_id,
            request.generation_id_or_member_epoch,
            version,
            self._producer,
        )
        self._verification: Verification | None = None
        now_ms = node.clock.now_ms()
        self.writes: list[Write]
        topics, self.writes = read_rows(
            node.metadata.view,
            request.topics,
            by_id=version >= TOPIC_ID_SINCE,
            once=version < ADDS_SINCE,
            apart=version >= ADDS_SINCE,
            topic_row=TxnOffsetCommitResponseTopic,
            partition_row=TxnOffsetCommitResponsePartition,
            committed=lambda asked: _committed(asked, now_ms),
        )
        self.response = TxnOffsetCommitResponse(topics=topics)

    def verify(self) -> Any:
        """Ask the transaction's coordinator about the group's partition, if need be; then write."""
        from broker.transactions.verification import ask_coordinator

        node, adds = self._node, self._version >= ADDS_SINCE
        index = node.groups.partition_for(self._group_id)
        states = self._states(index)
        checks = adds or node.config.transaction_partition_verification_enable
        if not checks or states is None or states.has_ongoing_transaction(*self._producer):
            return self._write()
        assert index is not None
        self._begin(states)
        asked = ask_coordinator(
            node,
            self._transactional_id,
            self._producer,
            [(OFFSETS_TOPIC, index)],
            add=adds,
            again=lambda: self._begin(states),
        )
        return self._vouched(index, asked)

    def _begin(self, states: "ProducerStates") -> None:
        """Before each question: see `storage.producers.Verification`."""
        self._verification = states.begin_verification(
            *self._producer, NO_SEQUENCE, self._node.clock.now_ms(), from_zero=False
        )

    async def _vouched(self, index: int, asked: Any) -> Any:
        (code,) = await settled(asked)
        if code != ErrorCode.NONE:
            return self.refused(self._unvouched(code))
        states = self._states(index)
        if (
            states is not None
            and not states.has_ongoing_transaction(*self._producer)
            and not states.is_verified(self._producer[0], self._verification)
        ):
            return self.refused(ErrorCode.INVALID_TXN_STATE)  # it has ended meanwhile
        return await settled(self._write())

    def _states(self, index: int | None) -> "ProducerStates | None":
        """The producers of the group's partition; None where this broker does not lead it."""
        if index is None:
            return None
        partition = self._node.replicas.leader(OFFSETS_TOPIC, index)
        if isinstance(partition, ErrorCode) or partition.log is None:
            return None
        return partition.log.producers

    def _unvouched(self, code: ErrorCode) -> ErrorCode:
        if code == ErrorCode.PRODUCER_FENCED:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        if code == ErrorCode.NETWORK_EXCEPTION:
            # Of the way to the transaction's coordinator: the group's is the right one.
            return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        if code == ErrorCode.TRANSACTION_ABORTABLE and self._version < ABORTABLE_SINCE:
            return ErrorCode.INVALID_TXN_STATE
        return code

    def _write(self) -> Any:
        return self._node.groups.write(
            self._group_id,
            lambda machine, who, now_ms: machine.offsets.commit(
                self._group_id, self._committer, self.writes, self.response, who, now_ms
            ),
            self.refused,
        )

    def refused(self, code: ErrorCode) -> TxnOffsetCommitResponse:
        """The response with that code for all that was to be written."""
        if self._version < LOADING_SINCE and code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
            code = ErrorCode.COORDINATOR_NOT_AVAILABLE
        fill(self.writes, code)
        return self.response


def _committed(asked: TxnOffsetCommitRequestPartition, now_ms: int) -> Committed:
    return Committed(
        asked.committed_offset,
        asked.committed_leader_epoch,
        asked.committed_metadata or "",
        now_ms,
        -1,
    )
