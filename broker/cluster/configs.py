"""ConfigStore: what topics, brokers and other entities override, kept in the metadata store.

Each entity is a node /config/KIND/NAME; a change writes the node and, in the same transaction, a
sequential node under /config/changes that every broker watches (entity_path says what to read
again). Reads are from memory. Kinds are Kafka's: "topics", "brokers" (name: id or `<default>`),
"clients", "users" (also users/U/clients/C), "ips"; and "client-metrics" and "groups", which Apache
Kafka has only in KRaft mode: there an entity without any setting does not exist.

Names are those of the tree: percent-encoded by `layout.entity_name` for all but topics and brokers.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from broker.clock import Clock
from broker.cluster import layout
from broker.cluster.store import (
    BadVersion,
    ConnectionLoss,
    Create,
    Delete,
    MultiFailed,
    NodeExists,
    NoNode,
    Op,
    SessionEvent,
    SessionExpired,
    SetData,
    Store,
    StoreError,
    WatchEvent,
    ensure_path,
)

log = logging.getLogger("odradek.configs")

TOPICS = "topics"
BROKERS = "brokers"
CLIENT_METRICS = "client-metrics"
GROUPS = "groups"
VANISHING = (CLIENT_METRICS, GROUPS)
"""Kinds of which an entity is no more once it sets nothing."""
CHANGE_RETENTION_MS = 15 * 60 * 1000
"""How long a change notice stays, so that every broker can see it."""
TRIES = 10

Overrides = Mapping[str, str]
NOTHING: Overrides = MappingProxyType({})
Listener = Callable[[str, str], None]
"""Called with (kind, name) after the overrides in memory have changed."""
Edit = Callable[[dict[str, str]], Overrides]


class ConfigStore:
    """Overrides by kind and name; see the module's docstring."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._entities: dict[str, dict[str, Overrides]] = {}
        self._listeners: list[Listener] = []
        self._last_change = -1
        self._stale = True
        """Watches are gone, or nothing was read yet: read everything."""
        self._noticed: dict[str, int] = {}
        """Change notices present in the store -> when this broker first saw them (ms)."""
        self._wake = asyncio.Event()
        self._session = asyncio.Event()
        """Set while there is a session that can be asked."""
        self._task: asyncio.Task[None] | None = None

    # --- reading (no waiting) --------------------------------------------------------------------

    def overrides(self, kind: str, name: str) -> Overrides:
        """What that entity sets itself; empty when nothing."""
        return self._entities.get(kind, {}).get(name, NOTHING)

    def topic(self, name: str) -> Overrides:
        """Settings of a topic."""
        return self.overrides(TOPICS, name)

    def broker(self, broker_id: int | None) -> Overrides:
        """Dynamic settings of a broker, or (None) the default for all brokers."""
        name = layout.DEFAULT_ENTITY if broker_id is None else str(broker_id)
        return self.overrides(BROKERS, name)

    def names(self, kind: str) -> list[str]:
        """Entities of that kind, sorted; of client-metrics and groups those that set something."""
        return sorted(self._entities.get(kind, ()))

    def topics(self) -> Mapping[str, Overrides]:
        """All topics' settings by name (what LogManager.load wants)."""
        return self._entities.get(TOPICS, {})

    def subscribe(self, listener: Listener) -> None:
        """Hear of changes; listeners run on the loop and must not raise."""
        self._listeners.append(listener)

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read everything and begin to watch. Raises StoreError."""
        await self._load()
        self._session.set()
        self._store.listen(self._on_session)
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        """Stop following changes; what is in memory stays readable."""
        task, self._task = self._task, None
        self._session.set()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _on_session(self, event: SessionEvent) -> None:
        if event in (SessionEvent.RECONNECTED, SessionEvent.CONNECTED):
            self._stale = True
            self._wake.set()
            self._session.set()
        else:
            self._session.clear()

    def _on_watch(self, _: WatchEvent) -> None:
        self._wake.set()

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if self._stale:
                    await self._load()
                else:
                    await self._read_changes()
            except StoreError as error:
                # The next session event or change notice brings us back here.
                log.warning("config changes could not be read: %s", error)
            except Exception:
                log.exception("a config change could not be taken over")

    async def _load(self) -> None:
        # What becomes known while we read (`ensure_topics`) is newer than our lists.
        before = {kind: set(known) for kind, known in self._entities.items()}
        names = await self._store.children(layout.CONFIG_CHANGES, self._on_watch)
        self._note(names)
        self._last_change = max((layout.sequence_of(name) for name in names), default=-1)
        entities = await self._list_entities()
        nodes = await self._store.get_many([f"{layout.CONFIG}/{path}" for path in entities])
        for path, node in zip(entities, nodes, strict=True):
            kind, _, name = path.partition("/")
            self._adopt(kind, name, node[0] if node else None, present=node is not None)
        present = set(entities)
        for kind, known in before.items():
            for name in [n for n in known if f"{kind}/{n}" not in present]:
                self._adopt(kind, name, None, present=False)
        self._stale = False

    async def _list_entities(self) -> list[str]:
        found: list[str] = []
        for kind in (*layout.CONFIG_KINDS, *VANISHING):
            try:
                names = await self._store.children(f"{layout.CONFIG}/{kind}")
            except NoNode:
                continue
            found.extend(f"{kind}/{name}" for name in names)
            if kind == "users":
                found.extend(await self._list_user_clients(names))
        return found

    async def _list_user_clients(self, users: Iterable[str]) -> list[str]:
        found: list[str] = []
        for user in users:
            try:
                clients = await self._store.children(f"{layout.CONFIG}/users/{user}/clients")
            except NoNode:
                continue
            found.extend(f"users/{user}/clients/{client}" for client in clients)
        return found

    async def _read_changes(self) -> None:
        names = await self._store.children(layout.CONFIG_CHANGES, self._on_watch)
        self._note(names)
        fresh = [
            name
            for name in layout.by_sequence(names, layout.CONFIG_CHANGE_PREFIX)
            if layout.sequence_of(name) > self._last_change
        ]
        paths = [f"{layout.CONFIG_CHANGES}/{name}" for name in fresh]
        for path, node in zip(paths, await self._store.get_many(paths), strict=True):
            if node is None:
                continue
            try:
                entity = layout.decode_config_change(path, node[0])
            except layout.BadContent as error:
                log.warning("config change ignored: %s", error)
                continue
            await self._read_entity(entity)
        if fresh:
            self._last_change = layout.sequence_of(fresh[-1])
        await self._purge()

    async def _read_entity(self, entity: str) -> None:
        kind, _, name = entity.partition("/")
        (node,) = await self._store.get_many([f"{layout.CONFIG}/{entity}"])
        self._adopt(kind, name, node[0] if node else None, present=node is not None)

    def _note(self, names: Iterable[str]) -> None:
        now = self._clock.now_ms()
        self._noticed = {name: self._noticed.get(name, now) for name in names}

    async def _purge(self) -> None:
        limit = self._clock.now_ms() - CHANGE_RETENTION_MS
        for name in [name for name, seen in self._noticed.items() if seen < limit]:
            del self._noticed[name]
            try:
                await self._store.delete(f"{layout.CONFIG_CHANGES}/{name}")
            except NoNode:
                pass  # another broker was faster

    def _adopt(self, kind: str, name: str, data: bytes | None, *, present: bool) -> None:
        try:
            config: Overrides = layout.decode_config(f"{layout.CONFIG}/{kind}/{name}", data)
        except layout.BadContent as error:
            log.warning("configuration ignored: %s", error)
            return
        self._put_in_memory(kind, name, config if present else None)

    def _put_in_memory(self, kind: str, name: str, config: Overrides | None) -> None:
        known = self._entities.setdefault(kind, {})
        before = known.get(name)
        if config is None or (kind in VANISHING and not config):
            known.pop(name, None)
        else:
            known[name] = MappingProxyType(dict(config))
        if (before or NOTHING) != (config or NOTHING):
            for listener in self._listeners:
                listener(kind, name)

    # --- reading from the store ------------------------------------------------------------------

    async def current(self, kind: str, names: Iterable[str]) -> dict[str, Overrides]:
        """What these entities set, as the store has it now: what is in memory may lag behind a
        change that was made through another broker. From memory while the store cannot be reached.
        """
        found = {name: self.overrides(kind, name) for name in names}
        if not self._session.is_set():
            return found
        paths = [layout.config_path(kind, name) for name in found]
        try:
            nodes = await self._store.get_many(paths)
        except StoreError as error:
            log.warning("configurations could not be read: %s", error)
            return found
        for name, path, node in zip(found, paths, nodes, strict=True):
            try:
                found[name] = NOTHING if node is None else layout.decode_config(path, node[0])
            except layout.BadContent as error:
                log.warning("configuration ignored: %s", error)
        return found

    # --- topics that come and go -----------------------------------------------------------------

    async def ensure_topics(self, names: Iterable[str]) -> None:
        """Read the settings of topics not yet known: a creation sends no change notice.

        Waits while the store cannot be reached: a partition led under other settings than its
        topic's could accept what it must not. Raises StoreError.
        """
        known = self._entities.setdefault(TOPICS, {})
        missing = [name for name in names if name not in known]
        if not missing:
            return
        paths = [layout.config_path(TOPICS, name) for name in missing]
        while True:
            try:
                nodes = await self._store.get_many(paths)
                break
            except (ConnectionLoss, SessionExpired):
                if self._task is None:
                    raise
            await self._session.wait()
        for name, node in zip(missing, nodes, strict=True):
            if node is not None:
                self._adopt(TOPICS, name, node[0], present=True)

    def forget_topic(self, name: str) -> None:
        """The topic is gone: a later one of that name is read afresh."""
        self._entities.get(TOPICS, {}).pop(name, None)

    # --- writing ---------------------------------------------------------------------------------

    async def put(self, kind: str, name: str, overrides: Overrides) -> None:
        """Replace an entity's settings and tell all brokers. Raises StoreError."""
        await self.edit(kind, name, lambda _: overrides)

    async def edit(self, kind: str, name: str, change: Edit) -> Overrides:
        """Replace an entity's settings by `change(present ones)`; returns the new ones.

        Compare-and-set: `change` may be called again when another writer was faster. This broker's
        listeners have been called when it returns. Raises StoreError, and what `change` raises.
        """
        path = layout.config_path(kind, name)
        for _ in range(TRIES):
            (node,) = await self._store.get_many([path])
            present = {} if node is None else dict(layout.decode_config(path, node[0]))
            config = dict(change(present))
            if await self._write(
                path, kind, name, config, None if node is None else node[1].version
            ):
                self._put_in_memory(kind, name, config)
                return config
        raise BadVersion(path, "changed by others again and again")

    async def _write(
        self, path: str, kind: str, name: str, config: Overrides, version: int | None
    ) -> bool:
        data = layout.encode_config(config)
        op: Op
        if version is None:
            await ensure_path(self._store, path[: path.rfind("/")])
            op = Create(path, data)
        elif kind in VANISHING and not config:
            op = Delete(path, version)
        else:
            op = SetData(path, data, version)
        notice = layout.encode_config_change(f"{kind}/{name}")
        change_path = f"{layout.CONFIG_CHANGES}/{layout.CONFIG_CHANGE_PREFIX}"
        try:
            await self._store.multi([op, Create(change_path, notice, sequential=True)])
        except MultiFailed as failed:
            if failed.index == 0 and isinstance(failed.error, BadVersion | NodeExists | NoNode):
                return False
            raise failed.error from None
        return True
