"""A broker process that the whole folder sends its rubbish to."""

import os
from collections.abc import Iterator

import pytest

from tests.fuzz.frames import ARGUMENTS
from tests.kit.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server | None]:
    """The broker process, or None when `ODRADEK_BOOTSTRAP` names a running one."""
    if "ODRADEK_BOOTSTRAP" in os.environ:
        yield None
        return
    with Server(tmp_path_factory.mktemp("broker") / "data", arguments=ARGUMENTS) as broker:
        yield broker
        assert broker.running, f"the broker died:\n{broker.log_text()[-4000:]}"
        assert "Traceback" not in broker.log_text()


@pytest.fixture(scope="module")
def bootstrap(server: Server | None) -> str:
    """`host:port` of the broker under test."""
    return os.environ["ODRADEK_BOOTSTRAP"] if server is None else server.bootstrap
