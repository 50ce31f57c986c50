"""The language of the scenarios: `compat.script`'s, with several brokers.

    @scenario()
    def a_broker_is_down(run: ClusterRun) -> None:
        run.create("t", [[1, 2, 0]])
        run.stop(1)
        run.tree("broker 1 was stopped")
        for version in versions("Metadata"):
            run.ask_at(0, "Metadata", version, topics=[{"name": run.fresh("t")}])

Requests name the broker they go to. A scenario begins with three brokers that run and are in sync,
and need not leave them so. What answers depend on (who leads, who is in sync) is waited for with
requests that are not written down.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.handlers import HANDLERS
from compat.cluster.place import HOST, Place
from compat.normal import Aliases
from compat.offered import LAST_OF_OLD
from compat.script import Case, Run, Step, Stopped, api_named, fitted
from compat.sides import NotReady
from compat.trees import Tree
from compat.wire_client import ANSWERED, Link

SETTLED_S = 0.3
"""A tree that has not changed for so long is what an operation left."""
LATE_S = 5.0
"""The same where the judge's is known and another: it may still become that."""

Agrees = Callable[[str, Any], bool | None]
"""agrees(step, answer) -> whether the judge says the same, None where it is not known."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """`needs`: APIs without which a broker cannot take part."""

    case: Case
    needs: tuple[str, ...] = ()

    @property
    def playable(self) -> bool:
        """Whether Odradek offers what it needs."""
        return all(api_named(name).stem in HANDLERS for name in self.needs)


SCENARIOS: list[Scenario] = []


def scenario(*needs: str) -> Callable[[Callable[["ClusterRun"], None]], Callable[..., None]]:
    """Adds a function to the scenarios, which are played in the order of their definition."""

    def add(act: Callable[["ClusterRun"], None]) -> Callable[..., None]:
        name = act.__name__.replace("_", "-")
        case = Case("Cluster", name, act, (0, 0), {}, alone=True)  # type: ignore[arg-type]
        SCENARIOS.append(Scenario(case, needs))
        return act

    return add


def versions(api: str, low: int | None = None, high: int | None = None) -> range:
    """All versions of an API that 3.9.2 serves, or a part of them."""
    first = max(low or 0, api_named(api).min_version)
    return range(first, (LAST_OF_OLD[api] if high is None else high) + 1)


class ClusterAliases(Aliases):
    """Ports of all brokers are symbols."""

    def __init__(self, ports: Mapping[int, int]) -> None:
        super().__init__(HOST, -1)
        self._ports = {port: f"<port of {broker_id}>" for broker_id, port in ports.items()}
        self._given = ports

    def copy(self) -> "ClusterAliases":
        made = ClusterAliases(self._given)
        made._symbols = {space: dict(known) for space, known in self._symbols.items()}
        return made

    def address(self, value: Any) -> Any:
        return self._ports.get(value, super().address(value))


class ClusterSide:
    """What a `Run` asks of its side."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.name = place.name
        self.host = HOST
        self.port = -1
        self.topic_ids: dict[str, bytes] = {}

    @staticmethod
    def topic_name(case: Case, version: int, alias: str) -> str:
        return alias if alias.startswith("__") else f"{case.name}-{alias}"


class ClusterRun(Run):
    """A scenario under way. Links are named by the broker and, where it has several, what follows
    a slash."""

    def __init__(self, place: Place, case: Case, agrees: Agrees | None = None) -> None:
        super().__init__(ClusterSide(place), case, 0, {})
        self.place = place
        self._agrees = agrees or (lambda _, __: None)
        self.aliases = ClusterAliases({i: place.port(i) for i in place.brokers})
        self._tree: Tree | None = None

    def name(self, alias: str) -> str:
        return self.fresh(alias)

    def topic_id(self, alias: str) -> bytes:
        return bytes(self.side.topic_ids[self.fresh(alias)])

    def link(self, name: str = "main") -> Link:
        found = self._links.get(name)
        if found is None:
            port = self.place.port(int(name.split("/")[0]))
            found = self._links[name] = Link(HOST, port, patience=20.0)
        return found

    def frame(
        self, api: str, version: int, fields: Mapping[str, Any], client: str = "compat"
    ) -> bytes:
        return super().frame(api, version, fitted(api, version, fields), client)

    # --- requests

    def ask_at(
        self, broker_id: int, api: str, version: int, what: str = "", /, **fields: Any
    ) -> Any:
        """Asks one broker. The step is named by all of it."""
        step = f"{what or api} v{version} at {broker_id}"
        return self.ask(api, version, link=str(broker_id), step=step, **fields)

    def everywhere(self, api: str, version: int, what: str = "", /, **fields: Any) -> list[Any]:
        """Asks each broker that runs."""
        return [self.ask_at(i, api, version, what, **fields) for i in self.place.live]

    def look(self, broker_id: int, api: str, version: int, /, **fields: Any) -> Any:
        """Asks without writing anything down."""
        known = self.aliases.copy()
        answer = self.ask(api, version, link=str(broker_id), **fields)
        self.steps.pop()
        self.aliases = known
        if answer is None:
            raise Stopped(f"broker {broker_id} did not answer {api}")
        return answer

    # --- waiting

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Waits for a condition, on every side the same."""
        self.place.until(what, holds)

    def states(self, broker_id: int, alias: str) -> dict[int, Any]:
        """Partitions of a topic as one broker knows them: by index, of Metadata's answer."""
        asked = [{"name": self.name(alias)}]
        (topic,) = self.look(
            broker_id, "Metadata", 9, topics=asked, allow_auto_topic_creation=False
        ).topics
        return {p.partition_index: p for p in topic.partitions} if topic.error_code == 0 else {}

    def known(self, what: str, alias: str, fits: Callable[[dict[int, Any]], bool]) -> None:
        """Waits until every broker that runs knows a topic so."""
        self.until(
            f"{alias}: {what}", lambda: all(fits(self.states(i, alias)) for i in self.place.live)
        )

    def led(self, alias: str, *leaders: int) -> None:
        """Waits until every broker knows these leaders, by partition."""
        wanted = dict(enumerate(leaders))
        self.known(
            f"led by {leaders}", alias, lambda s: {i: p.leader_id for i, p in s.items()} == wanted
        )

    def in_sync(self, *aliases: str) -> None:
        """Waits until every broker knows all replicas of these topics to be in sync."""
        for alias in aliases:
            self.known(
                "in sync",
                alias,
                lambda s: (
                    bool(s) and all(set(p.isr_nodes) == set(p.replica_nodes) for p in s.values())
                ),
            )

    def shrunk(self, alias: str, *isrs: Sequence[int]) -> None:
        """Waits until every broker knows these ISRs, by partition."""
        wanted = {index: set(isr) for index, isr in enumerate(isrs)}
        self.known(
            f"ISR {isrs}", alias, lambda s: {i: set(p.isr_nodes) for i, p in s.items()} == wanted
        )

    def acquainted(self) -> None:
        """Waits until all brokers that run know those and no others."""
        live = set(self.place.live)
        self.until(
            f"{live} know each other",
            lambda: all(
                {b.node_id for b in self.look(i, "Metadata", 9, topics=[]).brokers} == live
                for i in live
            ),
        )

    @property
    def controller(self) -> int:
        """Who is the controller, of those that run; waits until there is one."""
        found: list[int] = []

        def told() -> bool:
            said = {self.look(i, "Metadata", 9, topics=[]).controller_id for i in self.place.live}
            found[:] = said
            return len(said) == 1 and found[0] in self.place.live

        self.until("one controller", told)
        return found[0]

    def replicated(self, alias: str, index: int, offset: int, *followers: int) -> None:
        """Waits until these replicas know this high watermark."""
        entry = {"partition": index, "fetch_offset": offset, "partition_max_bytes": 1 << 16}
        topics = [{"topic": self.name(alias), "partitions": [entry]}]

        def reached(broker_id: int) -> bool:
            told = self.look(
                broker_id, "Fetch", 11, max_wait_ms=0, min_bytes=0, max_bytes=1 << 16, topics=topics
            )
            part = told.responses[0].partitions[0]
            return bool(part.error_code == 0 and part.high_watermark == offset)

        for broker_id in followers:
            self.until(f"{alias}-{index} at {broker_id}", lambda b=broker_id: reached(b))  # type: ignore[misc]

    # --- what many scenarios do

    def create(self, alias: str, assignments: Sequence[Sequence[int]], **configs: str) -> None:
        """Creates a topic with these replicas; returns when every broker knows all of it."""
        name = self.name(alias)
        topic = {
            "name": name,
            "num_partitions": -1,
            "replication_factor": -1,
            "assignments": [
                {"partition_index": index, "broker_ids": list(replicas)}
                for index, replicas in enumerate(assignments)
            ],
            "configs": [{"name": k.replace("_", "."), "value": v} for k, v in configs.items()],
        }
        controller = self.controller
        answer = self.ask_at(
            controller, "CreateTopics", 7, f"create {alias}", topics=[topic], timeout_ms=20_000
        )
        if answer is None or answer.topics[0].error_code:
            raise Stopped(f"{name} was not created: {answer}")
        self.side.topic_ids[name] = bytes(answer.topics[0].topic_id)
        self.aliases.seed("topic id", bytes(answer.topics[0].topic_id), f"<id of {alias}>")
        self.led(alias, *(replicas[0] for replicas in assignments))

    def produce_at(
        self,
        broker_id: int,
        alias: str,
        records: bytes,
        index: int = 0,
        *,
        version: int = 9,
        acks: int = -1,
        what: str = "produce",
        timeout_ms: int = 10_000,
    ) -> Any:
        """Produces to one partition."""
        data = [{"index": index, "records": records}]
        topic = {"name": self.name(alias), "partition_data": data}
        return self.ask_at(
            broker_id,
            "Produce",
            version,
            f"{what}, acks {acks}",
            acks=acks,
            timeout_ms=timeout_ms,
            topic_data=[topic],
        )

    def tree(self, what: str, *, whole: bool = False) -> None:
        """Writes down what has changed in ZooKeeper since the last time in this scenario; the
        first time only remembers, or, if `whole`, writes down everything."""
        label = f"tree: {what}"
        before, self._tree = self._tree, self._settled(label)
        if before is not None or whole:
            answer = changes(before or {}, self._tree)
            self.steps.append(Step(label, "ZooKeeper", 0, ANSWERED, answer))

    def _settled(self, label: str) -> Tree:
        """The tree when it is as the judge's, or has not changed for a moment. What comes later is
        seen the next time."""
        before = self._tree or {}
        seen, since = self.place.tree(), time.monotonic()
        end = since + 2 * LATE_S
        while time.monotonic() < end:
            agreed = self._agrees(label, changes(before, seen))
            patience = SETTLED_S if agreed is None else LATE_S
            if agreed or time.monotonic() - since > patience:
                break
            time.sleep(0.05)
            now = self.place.tree()
            if now != seen:
                seen, since = now, time.monotonic()
        return seen

    # --- brokers

    def stop(self, broker_id: int) -> None:
        """A controlled shutdown, known to all others."""
        self._drop_links(broker_id)
        self.place.stop(broker_id)
        self.acquainted()

    def kill(self, broker_id: int) -> None:
        """The broker's process is gone; nobody is told before `expire`."""
        self._drop_links(broker_id)
        self.place.kill(broker_id)

    def expire(self, broker_id: int) -> None:
        """The session of a broker that was killed is over, known to all others."""
        self.place.expire(broker_id)
        self.acquainted()

    def start(self, broker_id: int) -> None:
        """The broker is back, known to all others."""
        self.place.start(broker_id)
        self.acquainted()

    def start_missing(self) -> None:
        """All brokers run again."""
        for broker_id in self.place.brokers:
            self.place.resume(broker_id)
            if broker_id not in self.place.live:
                self.place.start(broker_id)
        self.acquainted()

    def _drop_links(self, broker_id: int) -> None:
        for name in [n for n in self._links if n.split("/")[0] == str(broker_id)]:
            self._links.pop(name).close()


_NUMBERED = re.compile(r"\d{10}$")


def changes(before: Tree, after: Tree) -> dict[str, Any]:
    """What became of each znode between two trees. Versions are told as growth: what other
    scenarios did before does not count. Sequential znodes are numbered from one change to the
    next."""
    out: dict[str, Any] = {}
    count = 0
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        name = path
        if _NUMBERED.search(path) and "/changes/" in path:
            count += 1
            name = _NUMBERED.sub(f"<{count}>", path)
        if new is None:
            out[name] = "gone"
        elif old is None:
            out[name] = new
        else:
            told = {key: new[key] for key in ("data", "ephemeral") if new[key] != old[key]}
            for key in ("version", "cversion"):
                if new[key] != old[key]:
                    told[key] = f"{new[key] - old[key]:+d}"
            out[name] = told
    return out


def play(place: Place, scenario_: Scenario, agrees: Agrees | None = None) -> list[Step]:
    """Plays one scenario; its transcript. Whatever it trips over is its outcome. Raises NotReady
    when the cluster does not become whole before."""
    run = ClusterRun(place, scenario_.case, agrees)
    whole(run)
    try:
        scenario_.case.act(run)
        tidy(run)
    except (Stopped, NotReady, AssertionError, OSError, LookupError) as error:
        kind = f"stopped by {type(error).__name__}: {error}"
        run.steps.append(Step("end", scenario_.case.api, 0, kind))
    finally:
        run.close()
    return run.steps


def tidy(run: ClusterRun) -> None:
    """Deletes the scenario's topics: what comes next has nothing to do with them."""
    run.start_missing()
    prefix = run.name("")
    told = run.look(run.controller, "Metadata", 9, topics=None).topics
    named = [{"name": topic.name} for topic in told if topic.name.startswith(prefix)]
    answer = run.look(run.controller, "DeleteTopics", 6, topics=named, timeout_ms=30_000)
    assert not any(topic.error_code for topic in answer.responses), answer
    places = ("/brokers/topics", "/admin/delete_topics", "/config/topics")
    run.until(
        "no topic is left",
        lambda: (
            not any(
                path.startswith(f"{place}/{prefix}")
                for path in run.place.tree()
                for place in places
            )
        ),
    )


INTERNAL = ("__consumer_offsets", "__transaction_state")
TURNS = ([0, 1, 2], [1, 2, 0], [2, 0, 1])
"""Each broker leads one partition."""


def whole(run: ClusterRun) -> None:
    """All brokers run, know each other, and every partition has its replicas in sync. Internal
    topics are made by hand, so that who coordinates what is no accident."""
    place = run.place
    run.start_missing()
    there = place.tree()
    for name in INTERNAL:
        if f"/brokers/topics/{name}" not in there:
            run.create(name, TURNS, cleanup_policy="compact")
            run.steps.pop()

    def in_sync(broker_id: int) -> bool:
        told = run.look(broker_id, "Metadata", 9, topics=None)
        return all(
            p.leader_id >= 0 and set(p.isr_nodes) == set(p.replica_nodes)
            for topic in told.topics
            for p in topic.partitions
        )

    run.until("everything is in sync", lambda: all(in_sync(i) for i in place.live))
