"""Odradek against recorded answers of Apache Kafka, and, where Java is, against the real ones (each
case at three versions only: the recorded answers have all of them).
"""

import subprocess
import sys
from pathlib import Path

import pytest

from compat.reference import VERSIONS, missing

ROOT = Path(__file__).parents[2]


def differential(*words: str) -> str:
    command = [sys.executable, "-m", "compat.differential", *words]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=540, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.timeout(300)
def test_recorded_answers() -> None:
    assert " 0 unexplained" in differential("--recorded", "--ci")


@pytest.mark.java
@pytest.mark.timeout(600)
def test_real_answers() -> None:
    lacking = [sentence for version in VERSIONS if (sentence := missing(version))]
    if lacking:
        pytest.skip(lacking[0])
    assert " 0 unexplained" in differential("--ci", "--thin")
