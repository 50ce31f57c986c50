"""What a handler is given beside the request: who asked (`Context`) and what it may use
(`Node`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.clock import Clock
    from broker.cluster.configs import ConfigStore
    from broker.cluster.view import MetadataCache
    from broker.config import BrokerConfig
    from broker.control import ControlPlane
    from broker.controller.run import Controller
    from broker.coordinator import Coordinator
    from broker.groups.machine import GroupMachine
    from broker.producer_ids import ProducerIds
    from broker.replicas import ReplicaManager
    from broker.replication import Replication
    from broker.sessions import FetchSessions
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
        "groups",
        "logs",
        "metadata",
        "producer_ids",
        "replicas",
        "replication",
        "sessions",
    )

    broker_id: int
    cluster_id: str
    config: BrokerConfig
    clock: Clock
    metadata: MetadataCache
    control: ControlPlane
    controller: Controller
    groups: Coordinator[GroupMachine]
    configs: ConfigStore
    replicas: ReplicaManager
    replication: Replication
    logs: LogManager
    sessions: FetchSessions
    producer_ids: ProducerIds
