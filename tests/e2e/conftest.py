"""The brokers of all client tests of a run (of each worker when the tests run in parallel).

`ODRADEK_CLUSTER` says which kind of cluster they are (`tests.e2e.clusters`), one broker if it says
nothing. `ODRADEK_BOOTSTRAP` names brokers that run already.
"""

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.clusters import KINDS, SINGLE, cluster

_numbers = itertools.count()


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port`, or several with commas between, of the brokers under test."""
    running = os.environ.get("ODRADEK_BOOTSTRAP")
    if running is not None:
        yield running
        return
    kind = os.environ.get("ODRADEK_CLUSTER", SINGLE)
    assert kind in KINDS, f"ODRADEK_CLUSTER is {kind}, not one of {KINDS}"
    with cluster(kind, tmp_path_factory.mktemp("brokers")) as address:
        yield address


@pytest.fixture
def new_name(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes topic names that no other test uses, also over several runs against one broker."""
    word = "".join(c if c.isalnum() else "-" for c in request.node.name)[:80]
    return lambda: f"{word}-{os.getpid()}-{next(_numbers)}"
