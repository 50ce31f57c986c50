"""One broker process for all client tests of a run (a worker of its own when the tests run in
parallel).
"""

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.settings import arguments
from tests.kit.server import Server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server | None]:
    """The broker process, or None when `ODRADEK_BOOTSTRAP` names a running one."""
    if "ODRADEK_BOOTSTRAP" in os.environ:
        yield None
        return
    with Server(tmp_path_factory.mktemp("broker") / "data", arguments=arguments()) as broker:
        yield broker
        assert broker.running, f"the broker died during the tests:\n{broker.log_text()[-4000:]}"


@pytest.fixture(scope="session")
def bootstrap(server: Server | None) -> str:
    """`host:port` of the broker under test."""
    return os.environ["ODRADEK_BOOTSTRAP"] if server is None else server.bootstrap


@pytest.fixture
def new_name(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes topic names that no other test uses, also over several runs against one broker."""
    word = "".join(c if c.isalnum() else "-" for c in request.node.name)[:80]
    return lambda: f"{word}-{os.getpid()}-{next(_numbers)}"
