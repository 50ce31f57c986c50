"""Questions to a share coordinator on another broker: InitializeShareGroupState, Read-, Write-,
DeleteShareGroupState and ReadShareGroupStateSummary (83 to 87).

They are alike: a group, topic ids, and for each partition a row that says something. What waits for
a broker goes in one request for each API and group.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from broker.outbox import Outbox, in_rounds
from broker.peer import NotServed, Peer
from broker.shares.common import StateBatch
from broker.shares.persister import (
    DELETE,
    INITIALIZE,
    READ,
    SUMMARY,
    WRITE,
    Question,
)
from broker.shares.state import NO_STATE, Answer, Change
from protocol.errors import ErrorCode
from protocol.messages import (
    delete_share_group_state,
    initialize_share_group_state,
    read_share_group_state,
    read_share_group_state_summary,
    write_share_group_state,
)

if TYPE_CHECKING:
    from broker.context import Node


class StateLink:
    """The way to share coordinators on other brokers. An answer of NETWORK_EXCEPTION says that the
    broker did not give one."""

    def __init__(self, node: "Node") -> None:
        self._outbox = Outbox(node, "share-states", _exchange, _unanswered)

    def ask(self, broker_id: int, question: Question, done: Callable[[Answer], None]) -> None:
        """`done(answer)` in a later turn of the loop."""
        self._outbox.ask(broker_id, question, done)

    def close(self) -> None:
        """Nobody is asked or answered any more."""
        self._outbox.close()


async def _exchange(peer: Peer, asked: list[Question]) -> list[Answer]:
    """What concerns the same share partition is asked in the order in which it came."""
    answers: dict[int, Answer] = {}
    for numbers in in_rounds([one.key for one in asked]):
        requests: dict[tuple[int, str], list[int]] = {}
        for number in numbers:
            one = asked[number]
            requests.setdefault((one.api, one.key.group_id), []).append(number)
        told = await asyncio.gather(
            *(
                _one_request(peer, api, group_id, [asked[number] for number in of_request])
                for (api, group_id), of_request in requests.items()
            )
        )
        for of_request, rows in zip(requests.values(), told, strict=True):
            answers |= zip(of_request, rows, strict=True)
    return [answers[number] for number in range(len(asked))]


async def _one_request(peer: Peer, api: int, group_id: str, asked: list[Question]) -> list[Answer]:
    shape = SHAPES[api]
    topics: dict[bytes, Any] = {}
    for one in asked:
        topic = topics.setdefault(one.key.topic_id, shape.topic(one.key.topic_id))
        topic.partitions.append(shape.row(one))
    request = shape.request(group_id, list(topics.values()))
    response = await peer.call_newest(api, lambda _: request)
    rows = {
        (topic.topic_id, row.partition): row
        for topic in response.results
        for row in topic.partitions
    }
    return [_answer(shape, rows.get(one.key[1:])) for one in asked]


def _answer(shape: "_Shape", row: Any) -> Answer:
    if row is None:
        return Answer(ErrorCode.UNKNOWN_SERVER_ERROR, "The share coordinator says nothing of it.")
    code = ErrorCode(row.error_code)
    if code:
        return Answer(code, row.error_message or code.message)
    return Answer() if shape.state is None else Answer(state=shape.state(row))


def _unanswered(asked: Question, error: Exception) -> Answer:
    old = isinstance(error, NotServed)
    code = ErrorCode.UNSUPPORTED_VERSION if old else ErrorCode.NETWORK_EXCEPTION
    return Answer(code, code.message)


class _Shape(NamedTuple):
    """How one API spells it; `state` reads an answer's row, where it tells a state."""

    request: Any
    topic: Any
    row: Callable[[Question], Any]
    state: Any = None


def _plain(row: Any) -> Callable[[Question], Any]:
    return lambda one: row(one.key.partition, *one.said)


def _change_row(one: Question) -> Any:
    change = Change(*one.said)
    batches = [write_share_group_state.StateBatch(*batch) for batch in change.batches]
    return write_share_group_state.PartitionData(one.key.partition, *change[:4], batches)


def _read_state(row: read_share_group_state.PartitionResult) -> Any:
    return NO_STATE._replace(
        state_epoch=row.state_epoch,
        start_offset=row.start_offset,
        batches=tuple(
            StateBatch(b.first_offset, b.last_offset, b.delivery_state, b.delivery_count)
            for b in row.state_batches
        ),
    )


def _summary(row: read_share_group_state_summary.PartitionResult) -> Any:
    return NO_STATE._replace(
        state_epoch=row.state_epoch,
        leader_epoch=row.leader_epoch,
        start_offset=row.start_offset,
        complete_count=row.delivery_complete_count,
    )


SHAPES = {
    INITIALIZE: _Shape(
        initialize_share_group_state.InitializeShareGroupStateRequest,
        initialize_share_group_state.InitializeStateData,
        _plain(initialize_share_group_state.PartitionData),
    ),
    READ: _Shape(
        read_share_group_state.ReadShareGroupStateRequest,
        read_share_group_state.ReadStateData,
        _plain(read_share_group_state.PartitionData),
        _read_state,
    ),
    WRITE: _Shape(
        write_share_group_state.WriteShareGroupStateRequest,
        write_share_group_state.WriteStateData,
        _change_row,
    ),
    DELETE: _Shape(
        delete_share_group_state.DeleteShareGroupStateRequest,
        delete_share_group_state.DeleteStateData,
        _plain(delete_share_group_state.PartitionData),
    ),
    SUMMARY: _Shape(
        read_share_group_state_summary.ReadShareGroupStateSummaryRequest,
        read_share_group_state_summary.ReadStateSummaryData,
        _plain(read_share_group_state_summary.PartitionData),
        _summary,
    ),
}
