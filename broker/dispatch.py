"""From a request frame to its handler and back: decode, gates (known API, served version), handle,
encode.

Handlers and message modules are imported when their API is first used: a start pays only for what
it needs.
"""

import importlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from broker.cluster.store import StoreError
from broker.context import ApiError, Context, Node
from broker.handlers import HANDLERS
from broker.refusals import refusal
from protocol.apis import API_BY_KEY, Api, request_class, response_class
from protocol.compiler import decoder, encoder
from protocol.errors import ErrorCode, Malformed
from protocol.header import decode_request_header, response_header_version
from protocol.wire import Buffer

log = logging.getLogger("odradek.requests")

PRODUCE = 0
API_VERSIONS = 18


class Parked(Protocol):
    """A request that waits without a task: it calls `resume` once, unless it is cancelled
    before.
    """

    def start(self, resume: Callable[[Any], None]) -> None: ...

    def cancel(self) -> None: ...


class Route:
    """One offered API: its handler and its codecs by version."""

    __slots__ = ("_decoders", "_encoders", "_handle", "_module", "api")

    def __init__(self, api: Api) -> None:
        self.api = api
        self._module: Any = None
        self._handle: Callable[[Node, Context, Any], Any] | None = None
        self._decoders: dict[int, Callable[[Buffer, int], tuple[Any, int]]] = {}
        self._encoders: dict[int, Callable[[Any, bytearray], None]] = {}

    @property
    def module(self) -> Any:
        """The handler's module, imported now if it is not yet."""
        if self._module is None:
            self._module = importlib.import_module(f"broker.handlers.{self.api.stem}")
        return self._module

    def serves(self, version: int) -> bool:
        return self.api.min_version <= version <= self.api.latest_stable

    def decode(self, version: int, data: Buffer, pos: int) -> Any:
        """The request; bytes after it are ignored, as Apache Kafka does (librdkafka sends some)."""
        decode = self._decoders.get(version)
        if decode is None:
            decode = self._decoders[version] = decoder(request_class(self.api.key), version)
        return decode(data, pos)[0]

    def handle(self, node: Node, context: Context, request: Any) -> Any:
        handle = self._handle
        if handle is None:
            handle = self._handle = self.module.handle
        return handle(node, context, request)

    def encode(self, version: int, correlation_id: int, response: Any) -> bytes:
        """The whole frame with its length in front."""
        encode = self._encoders.get(version)
        if encode is None:
            encode = self._encoders[version] = encoder(response_class(self.api.key), version)
        out = bytearray(8)
        if response_header_version(self.api.key, version):
            out.append(0)
        encode(response, out)
        out[:4] = (len(out) - 4).to_bytes(4, "big")
        out[4:8] = correlation_id.to_bytes(4, "big", signed=True)
        return bytes(out)

    def refuse(self, version: int, request: Any, code: ErrorCode, message: str | None) -> Any:
        """This API's answer to a refusal of the whole request."""
        return refusal(response_class(self.api.key), version, request, code, message)


class Dispatcher:
    """The routes of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        stems = set(HANDLERS)
        self._routes = {api.key: Route(api) for api in API_BY_KEY.values() if api.stem in stems}

    def dispatch(self, context: Context, frame: memoryview) -> tuple[Route, Any, Any]:
        """(route, request, result); the result is a response, an awaitable, a `Parked`, or Fetch's
        pieces.

        Raises Malformed where the connection must be closed: unknown API or version, undecodable
        bytes.
        """
        header, pos = decode_request_header(frame)
        route = self._routes.get(header.api_key)
        if route is None:
            raise Malformed(f"API key {header.api_key} is not served")
        version = header.api_version
        context.api_key = header.api_key
        context.version = version
        context.correlation_id = header.correlation_id
        context.client_id = header.client_id
        if not route.serves(version):
            if header.api_key != API_VERSIONS:
                raise Malformed(f"{route.api.name} version {version} is not served")
            context.version = 0
            return route, None, _own_range(route.api)
        request = route.decode(version, frame, pos)
        return route, request, self.call(route, context, request)

    def call(self, route: Route, context: Context, request: Any) -> Any:
        """The handler's result; what it could not foresee becomes UNKNOWN_SERVER_ERROR."""
        try:
            return route.handle(self.node, context, request)
        except Malformed:
            raise
        except Exception as error:  # noqa: BLE001
            return self._failed(route, context, request, error)

    async def finish(
        self, route: Route, context: Context, request: Any, work: Awaitable[Any]
    ) -> Any:
        """The response of a handler that waits."""
        try:
            return await work
        except Malformed:
            raise
        except Exception as error:  # noqa: BLE001
            return self._failed(route, context, request, error)

    def _failed(self, route: Route, context: Context, request: Any, error: Exception) -> Any:
        """The answer to a request whose handler raised. What nobody foresaw has one traceback; that
        the cluster's store is in trouble, or lost an answer, needs none."""
        if isinstance(error, ApiError):
            return route.refuse(context.version, request, error.code, error.message)
        foreseen = isinstance(error, StoreError)
        log.log(
            logging.WARNING if foreseen else logging.ERROR,
            "%s version %d from client %s at %s failed: %r",
            route.api.name,
            context.version,
            context.client_id,
            context.connection_id,
            error,
            exc_info=None if foreseen else error,
        )
        return route.refuse(context.version, request, ErrorCode.UNKNOWN_SERVER_ERROR, None)


def _own_range(api: Api) -> Any:
    """What a client learns that asked ApiVersions in a version nobody serves: version 0 form, one
    entry (KIP-511).
    """
    from protocol.messages.api_versions import ApiVersion, ApiVersionsResponse

    entry = ApiVersion(api.key, api.min_version, api.latest_stable)
    return ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=[entry])
