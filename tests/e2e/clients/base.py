"""What the tests ask of a client."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from tests.e2e.corpus import Item

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
DEADLINE = 30.0
"""Seconds that any single call may take."""
DEFAULT_REPLICATION = -1
"""As many replicas as the brokers make by default: one on a broker alone, three in a cluster."""


class Adapter(ABC):
    """A client bound to a bootstrap address. Every call opens its own connections and closes
    them.
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    @classmethod
    def fit(cls, item: Item) -> Item:
        """The nearest record that this client lets its user send."""
        return item

    @abstractmethod
    def produce(
        self,
        topic: str,
        items: Sequence[Item],
        codec: str = "none",
        *,
        idempotent: bool = False,
        acks: str = "all",
    ) -> list[int] | None:
        """Send all in order; returns the acknowledged offsets in the order of `items` where the
        client tells them.
        """

    @abstractmethod
    def consume(
        self, topic: str, starts: Mapping[int, int], count: int, *, committed: bool = False
    ) -> list[Item]:
        """Assign the partitions at the given offsets (-2 = the beginning) and read exactly `count`
        records; `committed` reads those of committed transactions only.
        """

    @abstractmethod
    def offsets_for_time(
        self, topic: str, partitions: Sequence[int], timestamp: int
    ) -> dict[int, int]:
        """First offset at or after the timestamp, -1 where there is none."""

    @abstractmethod
    def ends(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Log start and end of each partition."""

    @abstractmethod
    def partitions(self, topic: str) -> int | None:
        """Number of partitions, None when the topic does not exist."""


class Library(Adapter):
    """A client with an administrator: everything but a command line's."""

    @abstractmethod
    def create_topic(
        self, topic: str, partitions: int, configs: Mapping[str, str] | None = None
    ) -> None:
        """Create a topic with as many replicas as the brokers make by default."""

    @abstractmethod
    def delete_topic(self, topic: str) -> None:
        """Delete a topic."""

    @abstractmethod
    def read_configs(self, topic: str) -> dict[str, str | None]:
        """All configs of a topic."""

    @abstractmethod
    def alter_configs(self, topic: str, configs: Mapping[str, str]) -> None:
        """Set configs of a topic (replacing or incremental, whichever the client has)."""

    @abstractmethod
    def add_partitions(self, topic: str, total: int) -> None:
        """Grow a topic to `total` partitions."""

    @abstractmethod
    def delete_records(self, topic: str, partition: int, before: int) -> int:
        """Delete records below an offset; returns the low watermark."""

    # Groups. What a member owns is told by its client id.

    @abstractmethod
    def group_state(self, group: str) -> str:
        """Kafka's name of the group's state, in lower case."""

    @abstractmethod
    def group_members(self, group: str) -> dict[str, set[tuple[str, int]]]:
        """Client id -> topics and partitions assigned, of every member."""

    @abstractmethod
    def groups(self) -> set[str]:
        """The ids of all groups."""

    @abstractmethod
    def group_offsets(self, group: str) -> dict[tuple[str, int], int]:
        """Everything committed."""


class GroupEditor(Library):
    """A client that can also change groups from outside."""

    @abstractmethod
    def alter_group_offsets(self, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
        """Commit for a group from outside; raises where it is refused."""

    @abstractmethod
    def delete_group(self, group: str) -> str:
        """Delete a group; the name of the error, "" when it is deleted."""
