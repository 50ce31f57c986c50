"""Transcripts of the group machine: see `script`."""

from pathlib import Path

import pytest

from tests.broker.groups import script

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    script.check(path)
