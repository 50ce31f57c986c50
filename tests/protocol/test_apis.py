"""The table of APIs says what the declarations say, and importing it imports none of them."""

import subprocess
import sys

import pytest

from protocol.apis import API_BY_KEY, Api, request_class, response_class
from tests.kit.strategies import message_modules


@pytest.mark.parametrize("api", API_BY_KEY.values(), ids=lambda api: api.stem)
def test_row_agrees_with_the_declarations(api: Api) -> None:
    for cls, name in ((request_class(api.key), "Request"), (response_class(api.key), "Response")):
        assert cls.__name__ == api.name + name
        assert cls.__module__ == f"protocol.messages.{api.stem}"
        assert api.key == cls.API_KEY
        assert api.flexible_since == cls.FLEXIBLE_SINCE
        assert api.max_version == cls.VERSIONS[1]
        assert cls.VERSIONS[0] <= api.min_version <= api.latest_stable <= api.max_version
        assert cls.__doc__
    assert sys.modules[cls.__module__].__doc__


def test_every_module_has_a_row() -> None:
    assert sorted(message_modules()) == sorted(api.stem for api in API_BY_KEY.values())
    assert [key for key, api in API_BY_KEY.items() if key != api.key] == []


def test_unstable_versions_are_above_the_stable_ones() -> None:
    unstable = {api.name for api in API_BY_KEY.values() if api.latest_stable != api.max_version}
    assert unstable == {"InitProducerId"}


def test_the_table_imports_no_message() -> None:
    code = "import sys, protocol.apis, protocol.header; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = [name for name in done.stdout.split() if name.startswith("protocol.")]
    assert "protocol.apis" in loaded
    assert not [name for name in loaded if name.startswith("protocol.messages")]


def test_unknown_keys() -> None:
    with pytest.raises(KeyError):
        request_class(999)
    with pytest.raises(KeyError):
        response_class(-1)
