"""A broker whose settings tests ask about and change, through the handlers of its APIs."""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from broker.cluster.local import LocalStore
from broker.context import Context, Node
from broker.controller.topics import Defaults, TopicWish
from broker.dynamic_configs import DynamicConfigs
from broker.handlers import (
    alter_configs,
    describe_configs,
    incremental_alter_configs,
    list_config_resources,
)
from protocol.messages.alter_configs import (
    AlterableConfig,
    AlterConfigsRequest,
    AlterConfigsResource,
)
from protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from protocol.messages.incremental_alter_configs import (
    AlterableConfig as Entry,
)
from protocol.messages.incremental_alter_configs import (
    AlterConfigsResource as ChangedResource,
)
from protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
)
from protocol.messages.list_config_resources import ListConfigResourcesRequest
from storage.config import LogConfig
from tests.kit.nodes import MetadataNode, handler_node

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)
Change = tuple[str, int, str | None]


@dataclass
class Logs:
    """Stands in for the LogManager: remembers the settings it was given."""

    logs: dict[tuple[str, int], object] = field(default_factory=dict)
    given: list[tuple[str, LogConfig]] = field(default_factory=list)

    def update_config(self, topic: str, config: LogConfig) -> None:
        self.given.append((topic, config))


@dataclass
class Broker:
    part: MetadataNode
    node: Node
    dynamic: DynamicConfigs
    logs: Logs

    async def ask(self, handler: Any, request: Any, version: int = 0) -> Any:
        context = Context("c", "PLAINTEXT", "127.0.0.1")
        context.version = version
        answer = handler.handle(self.node, context, request)
        return await answer if inspect.isawaitable(answer) else answer

    async def change(self, kind: int, name: str, *changes: Change, validate: bool = False) -> int:
        """Error code of an IncrementalAlterConfigs of one resource."""
        answer = await self._change(kind, name, changes, validate)
        return int(answer.error_code)

    async def complaint(self, kind: int, name: str, *changes: Change) -> str | None:
        """What is said of such a change that is refused."""
        message: str | None = (await self._change(kind, name, changes, True)).error_message
        return message

    async def _change(
        self, kind: int, name: str, changes: tuple[Change, ...], validate: bool
    ) -> Any:
        resource = ChangedResource(kind, name, [Entry(*change) for change in changes])
        request = IncrementalAlterConfigsRequest([resource], validate)
        (answer,) = (await self.ask(incremental_alter_configs, request)).responses
        assert (answer.resource_type, answer.resource_name) == (kind, name)
        return answer

    async def replace(
        self, kind: int, name: str, *entries: tuple[str, str | None], validate: bool = False
    ) -> int:
        """Error code of an AlterConfigs of one resource."""
        resource = AlterConfigsResource(kind, name, [AlterableConfig(*e) for e in entries])
        request = AlterConfigsRequest([resource], validate)
        (answer,) = (await self.ask(alter_configs, request)).responses
        return int(answer.error_code)

    async def describe(self, kind: int, name: str, *keys: str) -> Any:
        resource = DescribeConfigsResource(kind, name, list(keys))
        request = DescribeConfigsRequest([resource], include_synonyms=True)
        (result,) = (await self.ask(describe_configs, request)).results
        return result

    async def told(self, kind: int, name: str, *keys: str) -> dict[str, tuple[str | None, int]]:
        """Value and source by name."""
        result = await self.describe(kind, name, *keys)
        return {c.name: (c.value, c.config_source) for c in result.configs}


async def built(store: LocalStore) -> Broker:
    part = MetadataNode(store, 1)
    await part.start()
    node = handler_node(part, {"broker.id": "1", "log.retention.ms": "-1"})
    dynamic = DynamicConfigs(node.config, node.configs)
    dynamic.start()
    logs = Logs()
    dynamic.attach(logs)
    return Broker(part, node, dynamic, logs)


@asynccontextmanager
async def running() -> AsyncIterator[Broker]:
    """With topics t (2 partitions) and u."""
    made = await built(LocalStore())
    await made.part.controller.create_topics(
        [TopicWish("t", 2, 1), TopicWish("u", 1, 1)], Defaults(1, 1)
    )
    await made.part.controller.drained()
    made.logs.logs = {("t", 0): None, ("t", 1): None, ("u", 0): None}
    yield made
    await made.part.stop()


async def names_of(broker: Broker, *kinds: int, version: int = 1) -> list[tuple[str, int]]:
    request = ListConfigResourcesRequest(list(kinds))
    answer = await broker.ask(list_config_resources, request, version)
    assert answer.error_code == 0
    return [(r.resource_name, r.resource_type) for r in answer.config_resources]
