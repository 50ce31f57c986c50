"""A bounded run of the frame fuzzer; `python -m tests.fuzz.frames` is the long one."""

from tests.fuzz import frames
from tests.kit.server import Server

COUNT = 50_000
SEED = 20240704


def test_mutated_frames(bootstrap: str, server: Server | None) -> None:
    report = frames.run(bootstrap, COUNT, SEED, server)
    assert report.frames == COUNT
    assert report.answers > COUNT // 10 and report.closed > COUNT // 10
