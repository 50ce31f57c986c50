"""Old pinned clients and kafkajs, each by its script under compat/."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from compat.clients.run import CLIENTS, NotInstallable, Outcome, run


@pytest.fixture(scope="module")
def outcomes(bootstrap: str) -> Iterator[dict[str, Future[Outcome]]]:
    """All scripts at once: they mostly wait for time-outs of their own."""
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        yield {client.name: pool.submit(run, client, bootstrap) for client in CLIENTS}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [client.name for client in CLIENTS])
def test_pinned_client(outcomes: dict[str, Future[Outcome]], name: str) -> None:
    try:
        outcome = outcomes[name].result()
    except NotInstallable as error:
        pytest.skip(f"{name} cannot be installed here: {error}")
    features = outcome.features()
    failed = {feature: said for feature, said in features.items() if said.startswith("FAILED")}
    assert outcome.status == 0 and not failed, outcome.text
    assert len(features) > 15, outcome.text
