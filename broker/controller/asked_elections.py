"""/admin/preferred_replica_election, the way in which old tools ask for preferred leaders.

Runs as events of the controller (`run.py`). Whatever the node names is elected if it can be, and
the node is taken away: how it went is seen from the leaders. What is asked for while nobody reigns
is found at the next take-over.
"""

import logging
from typing import TYPE_CHECKING

from broker.cluster import layout
from broker.cluster.layout import BadContent
from broker.cluster.store import Delete, NoNode, WatchEvent
from broker.controller import load

if TYPE_CHECKING:
    from broker.controller.reign import Reign
    from broker.controller.state import Key

log = logging.getLogger("odradek.controller")


class AskedElections:
    """Those of one reign."""

    __slots__ = ("_reign",)

    def __init__(self, reign: "Reign") -> None:
        self._reign = reign

    async def read(self) -> None:
        """Watch the node; if it is there, hold the elections it asks for."""
        path = layout.PREFERRED_ELECTION
        data = await load.content(self._reign.store, path, self._on_asked)
        if data is None:
            return
        try:
            keys = layout.decode_elections(data)
        except BadContent as error:
            log.error("preferred leaders are asked for in vain: %s", error)
        else:
            await self._elect(keys)
        try:
            await self._reign.fence.one(Delete(path))
        except NoNode:
            pass  # somebody was faster; the watch tells of it

    async def _elect(self, keys: "list[Key]") -> None:
        from broker.controller import elect

        plan, refused = elect.elect(self._reign.state, keys, elect.Election.PREFERRED)
        for key, code in refused.items():
            log.info("no preferred leader for %s-%d: %s", *key, code.name)
        await self._reign.carry_out(plan)

    def _on_asked(self, _: WatchEvent) -> None:
        self._reign.later("asked elections", self.read)
