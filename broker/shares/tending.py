"""Keeps __share_group_state small: from time to time share partitions at rest get a snapshot, and
what comes before all snapshots is deleted from the log. Runs where there are states, no earlier.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from broker.cluster.view import SHARE_STATE_TOPIC
from broker.errors import REFUSALS
from broker.shares.state import REST_MS
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.context import Node

log = logging.getLogger("odradek.shares")


class StateTender:
    """Looks after the partitions of __share_group_state that this broker leads."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._next is None:
            self._next = asyncio.get_running_loop().call_later(REST_MS / 1000, self._again)

    def close(self) -> None:
        """End."""
        if self._next is not None:
            self._next.cancel()

    def _again(self) -> None:
        self._next = None
        self.start()
        try:
            self.tend()
        except Exception:
            log.exception("states of share partitions are tended later")

    def tend(self) -> None:
        """One round."""
        node = self._node
        for machine in node.share_states.machines():
            partition = node.replicas.leader(SHARE_STATE_TOPIC, machine.index)
            if isinstance(partition, ErrorCode) or partition.log is None:
                continue
            below = min(machine.redundant_below, partition.log.high_watermark)
            try:
                if below > partition.log.log_start_offset:
                    partition.log.advance_log_start_offset(below)
            except REFUSALS as error:
                log.warning("%s-%d is not pruned: %s", SHARE_STATE_TOPIC, machine.index, error)
        node.share_states.feed_all(lambda machine, now: machine.rested(now))
