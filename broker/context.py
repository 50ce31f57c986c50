"""What a handler is given beside the request: who asked (`Context`) and what it may use
(`Node`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.clock import Clock
    from broker.cluster.configs import ConfigStore
    from broker.cluster.features import FeatureCache
    from broker.cluster.old_offsets import OldOffsets
    from broker.cluster.view import MetadataCache
    from broker.config import BrokerConfig
    from broker.control import ControlPlane
    from broker.controller.run import Controller
    from broker.coordinator import Coordinator
    from broker.groups.machine import GroupMachine
    from broker.log_dir_moves import LogDirMoves
    from broker.producer_ids import ProducerIds
    from broker.replicas import ReplicaManager
    from broker.replication import Replication
    from broker.sessions import FetchSessions
    from broker.shares.manager import ShareManager
    from broker.shares.state import ShareStates
    from broker.transactions.machine import TransactionMachine
    from broker.transactions.network import TransactionLink
    from storage.manager import LogManager


class ApiError(Exception):
    """A refusal of the whole request: the API's error answer carries the code, and the sentence
    where it has room.
    """

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Context:
    """The connection a request came on, and the request's header.

    A connection has one request in hand at a time and keeps one context: a handler that waits must
    copy what it needs of the request's part before it returns.
    """

    __slots__ = (
        "api_key",
        "client_host",
        "client_id",
        "closing",
        "connection_id",
        "correlation_id",
        "listener",
        "principal",
        "software_name",
        "software_version",
        "version",
    )

    def __init__(self, connection_id: str, listener: str, client_host: str) -> None:
        # Per connection.
        self.connection_id = connection_id
        self.listener = listener
        self.client_host = client_host
        self.principal = "User:ANONYMOUS"
        self.software_name = ""
        self.software_version = ""
        self.closing: dict[object, Callable[[], None]] | None = None
        """What to do when the connection ends, by whatever the handlers know it by."""
        # Per request.
        self.api_key = -1
        self.version = -1
        self.correlation_id = 0
        self.client_id: str | None = None


class Node:
    """The parts of this broker that handlers may use. Built by `broker.server`, which fills every
    attribute.
    """

    __slots__ = (
        "broker_id",
        "clock",
        "cluster_id",
        "config",
        "configs",
        "control",
        "controller",
        "features",
        "groups",
        "log_dir_moves",
        "logs",
        "metadata",
        "old_offsets",
        "producer_ids",
        "replicas",
        "replication",
        "sessions",
        "share_manager",
        "share_states",
        "transaction_link_made",
        "transactions",
    )

    broker_id: int
    cluster_id: str
    config: BrokerConfig
    clock: Clock
    metadata: MetadataCache
    control: ControlPlane
    controller: Controller
    features: FeatureCache
    groups: Coordinator[GroupMachine]
    old_offsets: OldOffsets
    configs: ConfigStore
    replicas: ReplicaManager
    replication: Replication
    log_dir_moves: LogDirMoves | None
    """None until a replica is moved to another directory; `dir_moves` makes it."""
    logs: LogManager
    sessions: FetchSessions
    share_states: Coordinator[ShareStates]
    share_manager: ShareManager | None
    """None until share groups are used; `shares` makes it."""
    producer_ids: ProducerIds
    transactions: Coordinator[TransactionMachine]
    transaction_link_made: TransactionLink | None
    """None until a coordinator elsewhere is asked; `transaction_link` makes it."""

    def __init__(self) -> None:
        self.transaction_link_made = None

    @property
    def transaction_link(self) -> TransactionLink:
        """The way to transaction coordinators on other brokers."""
        if self.transaction_link_made is None:
            from broker.transactions.network import TransactionLink

            self.transaction_link_made = TransactionLink(self)
        return self.transaction_link_made

    @property
    def shares(self) -> ShareManager:
        """Share partitions and share sessions of this broker."""
        if self.share_manager is None:
            from broker.shares.manager import ShareManager

            self.share_manager = ShareManager(self)
        return self.share_manager

    @property
    def dir_moves(self) -> LogDirMoves:
        """Replicas of this broker on their way to another of its log directories."""
        if self.log_dir_moves is None:
            from broker.log_dir_moves import LogDirMoves

            self.log_dir_moves = LogDirMoves(self.replicas, self.config, self.clock)
        return self.log_dir_moves
