"""The judges' transcripts in a file, so that a machine without Java can judge too.

Written by `python -m compat.differential --record`, read by `--recorded`. A recording holds the
answers in comparable form (ids and addresses are symbols already), one JSON line a case.
"""

import gzip
import json
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from compat.script import Step, Topic
from compat.sides import NotReady

if TYPE_CHECKING:
    from compat.play import Item, Report

FOLDER = pathlib.Path(__file__).parent.parent / "tests" / "compat" / "recorded"


class Recording:
    """A judge that only remembers."""

    def __init__(self, name: str, folder: pathlib.Path = FOLDER) -> None:
        self.name = name
        self._steps: dict[str, list[list[object]]] = {}
        with gzip.open(folder / f"{name}.jsonl.gz", "rt") as lines:
            for line in lines:
                key, steps = json.loads(line)
                self._steps[key] = steps

    def prepare(self, topics: Mapping[str, Topic]) -> None:
        """Nothing to prepare."""

    def knows(self, item: "Item") -> bool:
        return item.key in self._steps

    def transcript(self, item: "Item") -> list[Step]:
        if not self.knows(item):
            raise NotReady(
                f"{item.key} is not among the recorded answers of {self.name}; "
                "record them anew: python -m compat.differential --record --ci"
            )
        return [
            Step(label, api, version, kind, answer, errors=errors)  # type: ignore[arg-type]
            for label, api, version, kind, answer, errors in self._steps[item.key]
        ]


def write_recordings(
    report: "Report", folder: pathlib.Path = FOLDER, *, keep: bool = False
) -> None:
    """Writes one file for each judge of a run; with `keep`, cases that were not played stay."""
    folder.mkdir(parents=True, exist_ok=True)
    judges = sorted({key.split(" ", 1)[0] for key in report.transcripts})
    for judge in judges:
        path = folder / f"{judge}.jsonl.gz"
        lines: dict[str, str] = {}
        if keep and path.exists():
            with gzip.open(path, "rt") as before:
                lines = {json.loads(line)[0]: line.rstrip("\n") for line in before}
        for key, steps in report.transcripts.items():
            name, case = key.split(" ", 1)
            if name == judge:
                told = [[s.label, s.api, s.version, s.kind, s.answer, s.errors] for s in steps]
                lines[case] = json.dumps([case, told], separators=(",", ":"))
        with (
            open(path, "wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as packed,
        ):
            packed.writelines(lines[case].encode() + b"\n" for case in sorted(lines))
