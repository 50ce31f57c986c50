"""The comparison of two clusters: `python -m compat.differential --cluster`."""

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase

from compat.cluster import corpus
from compat.cluster.place import VERSION, KafkaPlace, OdradekPlace, Place
from compat.cluster.script import SCENARIOS, Scenario, play
from compat.compare import Difference, Explained
from compat.play import Item, Report
from compat.recording import Recording, write_recordings
from compat.script import Step

JUDGE = f"cluster-{VERSION}"
"""What DIFFERENCES.md and the file of recorded answers call the judge."""


def run(arguments: argparse.Namespace) -> tuple[Report, list[Difference], list[Difference]]:
    """Plays what the command line asks for: a report, explained differences, unexplained ones."""
    corpus.load()
    chosen = [s for s in SCENARIOS if fnmatchcase(s.case.name, arguments.case or "*")]
    if not arguments.record:
        chosen = [s for s in chosen if s.playable]
    report = Report()
    judge = None if arguments.recorded else KafkaPlace()
    subject = None if arguments.record else OdradekPlace(arguments.log)
    with ThreadPoolExecutor(2) as pool:
        stories = {
            place: pool.submit(_story, place, chosen)
            for place in (judge, subject)
            if place is not None
        }
        told = {place: story.result() for place, story in stories.items()}
    recording = Recording(JUDGE) if judge is None else None
    for scenario in chosen:
        item = Item(scenario.case, 0, JUDGE)
        name = scenario.case.name
        theirs = recording.transcript(item) if recording else told[judge][name]
        report.add(item, theirs, told[subject][name] if subject else theirs)
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


def _story(place: Place, scenarios: Sequence[Scenario]) -> dict[str, list[Step]]:
    """All on one side, in one thread: processes may end with the thread that started them."""
    out = {}
    with place:
        for scenario in scenarios:
            began = time.monotonic()
            name = scenario.case.name
            out[name] = play(place, scenario)
            spent = time.monotonic() - began
            print(f"{place.name}: {name} {spent:.1f} s, {len(out[name])} steps", file=sys.stderr)
    return out
