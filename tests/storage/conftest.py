"""Fixtures of tests of the storage."""

import pytest

from storage.filesystem import MemoryFileSystem


@pytest.fixture
def fs() -> MemoryFileSystem:
    """An empty file system."""
    return MemoryFileSystem()
