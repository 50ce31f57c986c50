"""Fixtures of tests of the broker's parts."""

from collections.abc import AsyncIterator

import pytest

from broker.cluster.local import LocalStore
from tests.kit.nodes import MetadataNode


@pytest.fixture
async def node() -> AsyncIterator[MetadataNode]:
    """A broker's metadata and controller, alone on an embedded store."""
    made = MetadataNode(LocalStore())
    await made.start()
    yield made
    await made.stop()
