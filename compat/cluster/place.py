"""A cluster of three brokers, 0 to 2, on a ZooKeeper of its own, of either kind.

Broker 0 is started first and so becomes the controller. What is done to a broker here returns when
it is done as far as processes and registrations go; what the brokers then know of each other is for
scenarios to wait for.
"""

import contextlib
import pathlib
import shutil
import signal
import struct
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from kazoo.client import KazooClient

from compat.member import Member
from compat.reference import SMALL, NoReference, missing
from compat.sides import SETTINGS, NotReady
from compat.trees import Tree, read_tree
from tests.kit.server import Server, StartFailed
from tests.kit.zookeeper import ZooKeeper, end_session

BROKERS = (0, 1, 2)
VERSION = "3.9.2"
HOST = "127.0.0.1"
WAIT_S = 60.0

CLUSTER_SETTINGS: Mapping[str, str] = {
    **SETTINGS,
    **SMALL,
    "offsets.topic.num.partitions": "3",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.num.partitions": "3",
    "transaction.state.log.replication.factor": "3",
    "auto.create.topics.enable": "false",
    "auto.leader.rebalance.enable": "false",
    "replica.lag.time.max.ms": "60000",
    "replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector",
    "zookeeper.session.timeout.ms": "30000",
    "controlled.shutdown.retry.backoff.ms": "200",
    "delete.topic.enable": "true",
}
"""The same on both sides. ISRs shrink only with brokers that go, and brokers go only when they are
told to: nothing depends on how busy the machine is."""


class Place(ABC):
    """`with Place(...) as place:` three brokers that run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"cluster-{name}-"))
        self.zookeeper = ZooKeeper(self.directory / "zookeeper")
        self.brokers = {broker_id: self._broker(broker_id) for broker_id in BROKERS}
        self._client: KazooClient | None = None
        self._paused: set[int] = set()

    def _settings(self, broker_id: int) -> dict[str, str]:
        return {
            "broker.id": str(broker_id),
            "broker.rack": f"rack-{broker_id}",
            "zookeeper.connect": self.zookeeper.address,
            **CLUSTER_SETTINGS,
        }

    @abstractmethod
    def _broker(self, broker_id: int) -> Member | Server:
        """One that is not started yet."""

    def __enter__(self) -> "Place":
        try:
            self.zookeeper.start()
            self._client = KazooClient(self.zookeeper.address)
            self._client.start()
            self.start(0)
            self.until("broker 0 is the controller", lambda: "/controller" in self.tree())
            self.start_all(BROKERS[1:])
        except (AssertionError, StartFailed) as error:
            self.close()
            raise NotReady(f"{self.name}: {error}") from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything at once: nothing is kept."""
        for broker_id, broker in self.brokers.items():
            with contextlib.suppress(ProcessLookupError):
                self.resume(broker_id)
            broker.kill()
        if self._client is not None:
            self._client.stop()
            self._client.close()
            self._client = None
        self.zookeeper.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- looking

    @property
    def live(self) -> list[int]:
        """Ids of the brokers that run and are not paused."""
        running = [broker_id for broker_id, broker in self.brokers.items() if broker.running]
        return [broker_id for broker_id in running if broker_id not in self._paused]

    def port(self, broker_id: int) -> int:
        """Where it listens, also when it does not run."""
        return self.brokers[broker_id].port

    def tree(self) -> Tree:
        """What is in ZooKeeper; see `compat.trees`."""
        assert self._client is not None
        return read_tree(self._client)

    def broker_epoch(self, broker_id: int) -> int:
        """Of a broker that is registered; -1 of others."""
        assert self._client is not None
        stat = self._client.exists(f"/brokers/ids/{broker_id}")
        return -1 if stat is None else int(stat.czxid)

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Waits; raises NotReady when it takes too long."""
        end = time.monotonic() + WAIT_S
        while not holds():
            if time.monotonic() > end:
                raise NotReady(f"{self.name}: not in {WAIT_S:.0f} s: {what}")
            time.sleep(0.03)

    # --- doing

    def start(self, broker_id: int) -> None:
        """Returns when it answers."""
        self.brokers[broker_id].start()

    @abstractmethod
    def start_all(self, broker_ids: Sequence[int]) -> None:
        """Several at once."""

    def stop(self, broker_id: int) -> None:
        """A controlled shutdown; its registration is gone with it."""
        self.brokers[broker_id].stop()
        self._gone(broker_id)

    def kill(self, broker_id: int) -> None:
        """SIGKILL. Its ZooKeeper session goes on until `expire` or the session's time-out."""
        self.brokers[broker_id].kill()

    def expire(self, broker_id: int) -> None:
        """The session of a broker that was killed ends at once."""
        assert self._client is not None
        stat = self._client.exists(f"/brokers/ids/{broker_id}")
        if stat is not None:
            session = stat.ephemeralOwner
            end_session(self.zookeeper, session, session_password(session))
        self._gone(broker_id)

    def write(self, path: str, data: str) -> None:
        """Makes a znode by hand."""
        assert self._client is not None
        self._client.create(path, data.encode())

    def _gone(self, broker_id: int) -> None:
        client = self._client
        assert client is not None
        self.until(
            f"broker {broker_id} is not registered",
            lambda: client.exists(f"/brokers/ids/{broker_id}") is None,
        )

    def pause(self, broker_id: int) -> None:
        """SIGSTOP: it keeps its session for `zookeeper.session.timeout.ms` and fetches nothing."""
        self._signal(broker_id, signal.SIGSTOP)
        self._paused.add(broker_id)

    def resume(self, broker_id: int) -> None:
        """SIGCONT."""
        self._signal(broker_id, signal.SIGCONT)
        self._paused.discard(broker_id)

    def _signal(self, broker_id: int, number: signal.Signals) -> None:
        process = self.brokers[broker_id].process
        if process is not None and process.poll() is None:
            process.send_signal(number)


class KafkaPlace(Place):
    """Three brokers of Apache Kafka. Raises NoReference where they cannot be had."""

    def __init__(self) -> None:
        lack = missing(VERSION)
        if lack:
            raise NoReference(lack)
        super().__init__(VERSION)

    def _broker(self, broker_id: int) -> Member:
        return Member(VERSION, self.directory / f"broker-{broker_id}", self._settings(broker_id))

    def start_all(self, broker_ids: Sequence[int]) -> None:
        # Not in threads of their own: such a process ends with the thread that started it.
        members = [m for i in broker_ids if isinstance(m := self.brokers[i], Member)]
        for member in members:
            member.launch()
        for member in members:
            member.wait()


class OdradekPlace(Place):
    """Three brokers from this working tree. `keep_logs`: where to copy what they print."""

    def __init__(self, keep_logs: str | None = None) -> None:
        super().__init__("odradek")
        self._keep = keep_logs

    def _broker(self, broker_id: int) -> Server:
        settings = self._settings(broker_id)
        arguments = [word for item in settings.items() for word in ("--set", "=".join(item))]
        return Server(self.directory / f"broker-{broker_id}", arguments=arguments)

    def start_all(self, broker_ids: Sequence[int]) -> None:
        with ThreadPoolExecutor(len(broker_ids)) as pool:
            list(pool.map(self.start, broker_ids))

    def close(self) -> None:
        if self._keep is not None:
            texts = [f"--- {i}\n{b.log_text()}" for i, b in self.brokers.items()]
            pathlib.Path(self._keep).write_text("\n".join(texts))
        super().close()


# --- ZooKeeper's passwords ------------------------------------------------------------------------

_SECRET = 0xB3415C00
"""What ZooKeeper's server mixes into the seed of each session's password."""
_MULTIPLIER, _INCREMENT, _MASK = 0x5DEECE66D, 0xB, (1 << 48) - 1
_PASSWORD_LENGTH = 16


def session_password(session_id: int) -> bytes:
    """The password of a session, which ZooKeeper's server makes from the id (java.util.Random)."""
    seed = ((session_id ^ _SECRET) ^ _MULTIPLIER) & _MASK
    out = b""
    while len(out) < _PASSWORD_LENGTH:
        seed = (seed * _MULTIPLIER + _INCREMENT) & _MASK
        out += struct.pack("<I", seed >> 16)
    return out
