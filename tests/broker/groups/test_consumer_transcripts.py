"""Transcripts of consumer groups: see `consumer_script`."""

from pathlib import Path

import pytest

from tests.broker.groups import script
from tests.broker.groups.consumer_script import ConsumerScript

TRANSCRIPTS = sorted((Path(__file__).parent / "consumer_transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    script.check(path, ConsumerScript)
