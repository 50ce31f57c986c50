"""CRC-32C: the extension, what stands in for it, and how it is found."""

import subprocess
import sys
from importlib.machinery import PathFinder
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import crc

VECTORS = [
    (b"", 0),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
]


@pytest.mark.parametrize(("data", "expected"), VECTORS)
def test_known_checksums(data: bytes, expected: int) -> None:
    assert crc.crc32c(data) == expected
    assert crc.table_crc32c(data) == expected


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 0xFFFFFFFF))
def test_any_buffer_in_pieces_and_both_ways(data: bytes, cut: int, start: int) -> None:
    for function in (crc.crc32c, crc.table_crc32c):
        whole = function(data, start)
        assert function(data[cut:], function(data[:cut], start)) == whole
        assert function(memoryview(data)[cut:], function(bytearray(data[:cut]), start)) == whole
    assert crc.crc32c(data, start) == crc.table_crc32c(data, start)


def test_the_package_itself_is_not_imported() -> None:
    """That would cost tens of milliseconds of every start."""
    check = (
        "import sys, protocol.crc; "
        "print('crc32c' in sys.modules, 'importlib.metadata' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=30
    )
    assert answer.stdout == "False False\n"


def test_the_extension_is_in_use() -> None:
    assert crc.crc32c is not crc.table_crc32c
    assert type(crc.crc32c).__name__ == "builtin_function_or_method"


@pytest.mark.parametrize("missing", ["crc32c", "crc32c._crc32c"])
def test_without_the_extension_another_way_is_taken(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    find = PathFinder.find_spec

    def without(name: str, path: Any = None, target: Any = None) -> Any:
        return None if name == missing else find(name, path, target)

    monkeypatch.setattr(PathFinder, "find_spec", without)
    assert crc._from_extension() is None
    monkeypatch.undo()
    package = crc._from_package()
    assert package is not None
    assert package(b"123456789") == 0xE3069283


def test_a_broken_extension_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    find = PathFinder.find_spec

    class Broken:
        def create_module(self, spec: Any) -> Any:
            raise ImportError("built for another Python")

    class Nothing:
        def create_module(self, spec: Any) -> Any:
            return None

    for loader in (Broken(), Nothing()):

        def spoiled(name: str, path: Any = None, target: Any = None, loader: Any = loader) -> Any:
            spec = find(name, path, target)
            if name == "crc32c._crc32c" and spec is not None:
                spec.loader = loader
            return spec

        monkeypatch.setattr(PathFinder, "find_spec", spoiled)
        assert crc._from_extension() is None


def test_without_the_package_the_table_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crc32c", None)
    assert crc._from_package() is None
