"""Writes that only the present controller can make: each multi checks the controller epoch's node.

ZooKeeper refuses a multi whose first operation is a check of the wrong version, so a controller
that was replaced without knowing it changes nothing (invariants A2, B7). Many small groups of
operations travel in one multi; a group refused on its own is dropped and the rest sent again.
"""

from collections.abc import Sequence

from broker.cluster.layout import CONTROLLER_EPOCH
from broker.cluster.store import (
    BadVersion,
    Check,
    Create,
    MultiFailed,
    NoNode,
    Op,
    OpResult,
    SetData,
    Store,
    StoreError,
)

MAX_MULTI_BYTES = 512 * 1024
"""ZooKeeper's default request limit is 1 MiB; a request above it costs the session."""
MAX_MULTI_OPS = 4000
OP_OVERHEAD = 60

Group = list[Op]
Outcome = list[OpResult] | StoreError


class ControllerMoved(Exception):
    """Another controller was elected: what this one knows is void."""


def _size(op: Op) -> int:
    data = op.data if isinstance(op, Create | SetData) else None
    return len(op.path) + len(data or b"") + OP_OVERHEAD


class Fence:
    """Writes under controller epoch node version `version`."""

    __slots__ = ("_closed", "_store", "version")

    def __init__(self, store: Store, version: int) -> None:
        self._store = store
        self._closed = False
        self.version = version

    def close(self) -> None:
        """The session is over: the store would still let us pass until somebody else has won."""
        self._closed = True

    async def write(self, groups: Sequence[Group]) -> list[Outcome]:
        """Outcome of each group: its results, or why it was refused (then none of it was done).

        A group above the size limit is written in parts: its operations must be in an order that
        makes sense cut anywhere. Raises ControllerMoved; StoreError when the store is in trouble,
        with the groups before written and the others not.
        """
        outcomes: list[Outcome] = [[] for _ in groups]
        batch: list[int] = []
        size = 0
        for index, group in enumerate(groups):
            group_size = sum(map(_size, group))
            full = size + group_size > MAX_MULTI_BYTES
            if batch and (full or len(batch) >= MAX_MULTI_OPS):
                await self._send(groups, batch, outcomes)
                batch, size = [], 0
            if group_size > MAX_MULTI_BYTES:
                outcomes[index] = await self._in_parts(group)
                continue
            batch.append(index)
            size += group_size
        if batch:
            await self._send(groups, batch, outcomes)
        return outcomes

    async def one(self, *ops: Op) -> list[OpResult]:
        """One group; its refusal is raised."""
        (outcome,) = await self.write([list(ops)])
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    async def _in_parts(self, group: Group) -> Outcome:
        done: list[OpResult] = []
        part: Group = []
        size = 0
        for op in [*group, None]:
            if part and (op is None or size + _size(op) > MAX_MULTI_BYTES):
                outcomes: list[Outcome] = [[]]
                await self._send([part], [0], outcomes)
                outcome = outcomes[0]
                if isinstance(outcome, StoreError):
                    return outcome
                done += outcome
                part, size = [], 0
            if op is not None:
                part.append(op)
                size += _size(op)
        return done

    async def _send(
        self, groups: Sequence[Group], batch: list[int], outcomes: list[Outcome]
    ) -> None:
        while batch:
            ops: list[Op] = [Check(CONTROLLER_EPOCH, self.version)]
            owner = [-1]
            for index in batch:
                ops += groups[index]
                owner += [index] * len(groups[index])
            if self._closed:
                raise ControllerMoved
            try:
                results = await self._store.multi(ops)
            except MultiFailed as failed:
                if failed.index == 0:
                    if isinstance(failed.error, BadVersion | NoNode):
                        raise ControllerMoved from failed
                    raise failed.error from None
                refused = owner[failed.index]
                outcomes[refused] = failed.error
                batch = [index for index in batch if index != refused]
                continue
            at = 1
            for index in batch:
                outcomes[index] = results[at : at + len(groups[index])]
                at += len(groups[index])
            return
