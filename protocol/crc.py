"""CRC-32C (Castagnoli), the checksum of record batches and producer snapshots.

The C extension inside the PyPI package ``crc32c`` is loaded by its file: importing the package
itself pulls in ``importlib.metadata`` and costs some 50 ms of a start. Without the extension the
package is tried (it may have another shape), and without the package a table does the same work
slowly.
"""

from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import Any

from protocol.wire import Buffer

__all__ = ["crc32c", "table_crc32c"]

_POLYNOMIAL = 0x82F63B78  # reflected

_table: list[int] = []


def _fill_table() -> None:
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        _table.append(crc)


def table_crc32c(data: Buffer, value: int = 0) -> int:
    """CRC-32C of ``data`` continued from ``value``, without any extension (some 100 ns a byte)."""
    if not _table:
        _fill_table()
    crc = value ^ 0xFFFFFFFF
    for byte in memoryview(data).cast("B"):
        crc = _table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _from_extension() -> Callable[..., int] | None:
    """The function of the C extension, loaded past its package, or None where there is none."""
    package = PathFinder.find_spec("crc32c")
    if package is None or package.submodule_search_locations is None:
        return None
    spec = PathFinder.find_spec("crc32c._crc32c", package.submodule_search_locations)
    if spec is None or spec.loader is None:
        return None
    try:
        module: Any = spec.loader.create_module(spec)
        if module is None:
            return None
        spec.loader.exec_module(module)
        function: Callable[..., int] = module.crc32c
    except (ImportError, AttributeError):
        return None
    return function


def _from_package() -> Callable[..., int] | None:
    try:
        import crc32c as package
    except ImportError:
        return None
    function: Callable[..., int] = package.crc32c
    return function


crc32c: Callable[..., int] = _from_extension() or _from_package() or table_crc32c
"""``crc32c(data, value=0) -> int``: CRC-32C of any contiguous buffer (memoryviews are not
copied)."""
