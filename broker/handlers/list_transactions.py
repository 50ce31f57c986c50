"""ListTransactions (key 66): the transactional ids that this broker coordinates (KIP-664).

Versions 0-2: 1 only those whose transaction began longer than a number of ms ago (KIP-994; ids
without a transaction count as begun long ago, as in Apache Kafka); 2 only those whose whole id
matches a pattern (KIP-1152), INVALID_REGULAR_EXPRESSION if it is none.

Filters that are empty let everything pass. States that nobody knows are told back, letters in the
wrong case included. COORDINATOR_LOAD_IN_PROGRESS while a partition is being loaded. Patterns have
the syntax of RE2, as those of consumer groups. Left out: authorization; an id with characters that
no topic's name has is looked at by Python's own matcher, which does not know all of that syntax.
"""

import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.groups.regex import Pattern
from broker.groups.regex_syntax import BIT, InvalidPattern
from broker.transactions.state import TITLES, State, Transaction
from protocol.errors import ErrorCode
from protocol.messages.list_transactions import (
    ListTransactionsRequest,
    ListTransactionsResponse,
    TransactionState,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(
    node: "Node", context: "Context", request: ListTransactionsRequest
) -> ListTransactionsResponse:
    """Answer from every machine of this broker."""
    if node.transactions.loading:
        return ListTransactionsResponse(error_code=ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
    try:
        matches = _matcher(request.transactional_id_pattern)
    except InvalidPattern:
        return ListTransactionsResponse(error_code=ErrorCode.INVALID_REGULAR_EXPRESSION)
    now_ms = node.clock.now_ms()
    unknown = [name for name in dict.fromkeys(request.state_filters) if name not in TITLES]
    rows = [
        TransactionState(one.transactional_id, one.producer_id, one.state.title)
        for machine in node.transactions.machines()
        for _, one in sorted(machine.transactions.items())
        if _passes(one, request, now_ms) and matches(one.transactional_id)
    ]
    return ListTransactionsResponse(unknown_state_filters=unknown, transaction_states=rows)


def _passes(one: Transaction, request: ListTransactionsRequest, now_ms: int) -> bool:
    if one.state == State.DEAD:
        return False
    if request.producer_id_filters and one.producer_id not in request.producer_id_filters:
        return False
    if request.state_filters and one.state.title not in request.state_filters:
        return False
    duration = request.duration_filter
    return duration < 0 or now_ms - one.start_ms > duration


def _matcher(text: str | None) -> Callable[[str], object]:
    """Whether an id matches as a whole. Raises InvalidPattern."""
    if not text:
        return lambda _: True
    pattern = Pattern(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            other = re.compile(text)
    except (re.error, FutureWarning):
        return lambda tid: BIT.keys() >= set(tid) and pattern.matches(tid)
    return lambda tid: pattern.matches(tid) if BIT.keys() >= set(tid) else other.fullmatch(tid)
