"""The comparison of two clusters: `python -m compat.differential --cluster`."""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from typing import Any

from compat.cluster import corpus
from compat.cluster.place import VERSION, KafkaPlace, OdradekPlace, Place
from compat.cluster.script import SCENARIOS, Agrees, Scenario, play
from compat.compare import Difference, Explained, compare
from compat.play import Item, Report
from compat.recording import Recording, write_recordings
from compat.script import Step
from compat.wire_client import ANSWERED

JUDGE = f"cluster-{VERSION}"
"""What DIFFERENCES.md and the file of recorded answers call the judge."""


def run(arguments: argparse.Namespace) -> tuple[Report, list[Difference], list[Difference]]:
    """Plays what the command line asks for: a report, explained differences, unexplained ones."""
    corpus.load()
    chosen = [s for s in SCENARIOS if fnmatchcase(s.case.name, arguments.case or "*")]
    if not arguments.record:
        chosen = [s for s in chosen if s.playable]
    report = Report()
    items = [(scenario, Item(scenario.case, 0, JUDGE)) for scenario in chosen]
    known_steps: dict[str, list[Step]] = {}
    if arguments.recorded:
        recording = Recording(JUDGE)
        known_steps = {item.key: recording.transcript(item) for _, item in items}
    places: list[Place] = [] if arguments.recorded else [KafkaPlace()]
    places += [] if arguments.record else [OdradekPlace(arguments.log)]
    with ThreadPoolExecutor(2) as pool:
        stories = [pool.submit(_story, place, items, known_steps) for place in places]
        told = [story.result() for story in stories]
    judged, subject = known_steps or told[0], told[-1]
    for _, item in items:
        report.add(item, judged[item.key], subject[item.key])
    if arguments.record:
        write_recordings(report, keep=bool(arguments.case))
    explained = Explained.load()
    known, unknown = explained.split(report.differences)
    if not (arguments.case or arguments.record):
        report.faults += [
            f"DIFFERENCES.md: {entry.id} did not occur any more."
            for entry in explained.stale()
            if entry.judge == JUDGE
        ]
    return report, known, unknown


def _story(
    place: Place, items: Sequence[tuple[Scenario, Item]], expected: Mapping[str, Sequence[Step]]
) -> dict[str, list[Step]]:
    """All on one side, in one thread: processes may end with the thread that started them."""
    out = {}
    with place:
        for scenario, item in items:
            began = time.monotonic()
            known = expected.get(item.key)
            agrees = None if known is None else _agreement(item, known)
            steps = out[item.key] = play(place, scenario, agrees)
            spent = time.monotonic() - began
            print(f"{place.name}: {item.key} {spent:.1f} s, {len(steps)} steps", file=sys.stderr)
    return out


def _agreement(item: Item, known: Sequence[Step]) -> Agrees:
    """Whether an answer is as the judge's, but for what DIFFERENCES.md lists."""
    theirs = {step.label: step for step in known}
    listed = Explained.load()

    def agrees(label: str, answer: Any) -> bool | None:
        if label not in theirs:
            return None
        step = theirs[label]
        ours = Step(label, step.api, step.version, ANSWERED, answer)
        case = item.case
        found = compare(case.name, case.api, item.version, item.judge, [step], [ours])
        return not listed.split(found)[1]

    return agrees
