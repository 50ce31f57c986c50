"""What this broker asks of the active controller, wherever that one is.

On the controller itself the request is handled in the process, by the same handler. One attempt a
call: who asks knows best when to ask again.
"""

from collections.abc import Callable
from importlib import import_module
from inspect import isawaitable
from typing import Any

from broker.context import Context, Node
from broker.peer import Address, Peer
from protocol.apis import API_BY_KEY


class NoController(Exception):
    """Nobody is known to be the controller, or where it is."""


class ControllerLink:
    """Requests to the controller. `listener` is the name of the listener they take."""

    def __init__(self, node: Node, listener: str, timeout_s: float) -> None:
        self._node = node
        self._listener = listener
        self._timeout_s = timeout_s
        self._peer: Peer | None = None
        self._peer_id = -1

    async def ask(self, key: int, make: Callable[[int], Any], most: int | None = None) -> Any:
        """The answer to `make(version)`, in the newest version of the API that both sides know.

        Raises NoController, PeerGone, NotServed.
        """
        if self._node.controller.active:
            api = API_BY_KEY[key]
            version = api.latest_stable if most is None else min(most, api.latest_stable)
            return await self._here(key, version, make(version))
        return await self._there().call_newest(key, make, most=most)

    async def _here(self, key: int, version: int, request: Any) -> Any:
        context = Context("controller", self._listener, "127.0.0.1")
        context.api_key, context.version = key, version
        handler = import_module(f"broker.handlers.{API_BY_KEY[key].stem}")
        result = handler.handle(self._node, context, request)
        return await result if isawaitable(result) else result

    def _there(self) -> Peer:
        controller_id = self._node.controller.controller_id
        if controller_id == self._node.broker_id or self._address(controller_id) is None:
            raise NoController("the controller is not known")
        if self._peer is None or self._peer_id != controller_id:
            self.close()
            self._peer_id = controller_id
            self._peer = Peer(
                lambda: self._address(controller_id),
                str(self._node.broker_id),
                timeout_s=self._timeout_s,
            )
        return self._peer

    def _address(self, controller_id: int) -> Address | None:
        return self._node.metadata.view.endpoint(controller_id, self._listener)

    def close(self) -> None:
        """Nothing more is asked on this connection."""
        if self._peer is not None:
            self._peer.close()
            self._peer = None
