"""Transcripts of share partitions: see `script`."""

from pathlib import Path

import pytest

from tests.broker.groups.script import check
from tests.broker.shares.script import PartitionScript

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    check(path, PartitionScript)  # type: ignore[arg-type]
