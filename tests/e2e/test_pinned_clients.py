"""Old pinned clients and kafkajs, each by its script under compat/."""

import pytest

from compat.clients.run import CLIENTS, Client, NotInstallable, install, run


@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_pinned_client(client: Client, bootstrap: str) -> None:
    try:
        install(client)
    except NotInstallable as error:
        pytest.skip(f"{client.name} cannot be installed here: {error}")
    outcome = run(client, bootstrap)
    failed = {name: said for name, said in outcome.features().items() if said.startswith("FAILED")}
    assert outcome.status == 0 and not failed, outcome.text
    assert len(outcome.features()) > 15, outcome.text
