"""Transcripts of share groups: see `share_script`."""

from pathlib import Path

import pytest

from tests.broker.groups import script
from tests.broker.groups.share_script import ShareScript

TRANSCRIPTS = sorted((Path(__file__).parent / "share_transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    script.check(path, ShareScript)
