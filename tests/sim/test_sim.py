"""Fifty seeds, the same seed twice, and bugs that were planted and must be found.

They run in a process of their own, whose hashes of texts are the same every time: a seed that fails
here fails again by the command that is printed.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.planted import BUGS, planted

ROOT = Path(__file__).parents[2]
SEEDS = 50
QUICKLY_FOUND = (
    "leader epochs not fenced",
    "high watermark off by one",
    "truncation skipped",
    "ISR not shrunk",
    "epoch not bumped",
    "marker lost",
    "acks=all does not wait",
    "duplicates not recognised",
    "moves end too soon",
)


def simulate(*arguments: str) -> str:
    """What `python -m tests.sim` prints; an AssertionError with it when it finds something."""
    command = [sys.executable, "-m", "tests.sim", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def digests(printed: str) -> list[str]:
    return [line.partition("digest ")[2] for line in printed.splitlines() if "digest " in line]


@pytest.mark.timeout(600)
def test_the_invariants_hold_for_every_seed() -> None:
    assert len(digests(simulate("--seeds", str(SEEDS)))) == SEEDS


@pytest.mark.timeout(300)
def test_a_seed_gives_the_same_run_again() -> None:
    """Whatever ran before it in the process."""
    alone = digests(simulate("--seed", "17"))
    after = digests(simulate("--seed", "15", "--seeds", "3"))
    assert alone == after[-1:]
    assert len(set(after)) == 3


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_fits_the_broker(name: str) -> None:
    with planted(name):
        pass


@pytest.mark.timeout(600)
def test_planted_bugs_are_found() -> None:
    """Each by a seed that is known to find it, or else by one of the first; those that take longer
    are left to `python -m tests.sim --planted`."""
    simulate("--planted", *QUICKLY_FOUND, "--known", "--seeds", "60")
