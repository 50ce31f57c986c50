"""Writes the report card into compat/README.md: client by feature, and peer by workload.

    python -m compat.report [--clients] [--workloads] [--runs N]

Clients are those of tests/e2e and of `compat.clients`, against a broker of this repository. The
workloads are those of `make bench` about records; Apache Kafka is started from its jars and
measured in the same run. Without an option both halves are written.
"""

import argparse
import contextlib
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from compat.clients.run import CLIENTS, NotInstallable, run
from compat.reference import VERSIONS, Reference, jars, missing
from compat.sides import Side
from tests.bench import network
from tests.bench.cases import UNDER_LOAD, Target, tiny
from tests.e2e.clients import ADAPTERS
from tests.e2e.clusters import FILES
from tests.kit.server import Server

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "compat" / "README.md"
TESTS = ROOT / "tests" / "e2e"
PINNED = "test_pinned_clients.py"
"""Runs scripts that are asked here by themselves."""
CASE = re.compile(r"test_(?P<feature>\w+)(?:\[(?P<words>.*)\])?$")

WORKLOADS = ("tiny", "produce", "fetch", "librdkafka", "latency")
"""Groups of 10,000 members are Odradek's own measure."""
WARM_UP = 3
"""Uncounted runs before the counted ones: a Java broker is compiled meanwhile."""

Cells = dict[tuple[str, str], str]
"""(row, column) -> what stands there."""


def client_cells() -> Cells:
    """Features of the Python clients and kcat, by the tests that run them."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as found:
        tests = [str(TESTS / name) for name in FILES if name != PINNED]
        command = [sys.executable, "-m", "pytest", "-q", *tests, f"--junit-xml={found.name}"]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        cases = list(xml.parse(found.name).iter("testcase"))
    outcomes: dict[tuple[str, str], list[str]] = {}
    for case in cases:
        match = CASE.match(case.get("name", ""))
        client = client_of(match["words"] or "") if match else None
        if match is None or client is None:
            continue
        kind = next((child.tag for child in case if child.tag in ("failure", "error")), "ok")
        if case.find("skipped") is not None:
            kind = "skipped"
        key = (match["feature"].replace("_", " "), client)
        outcomes.setdefault(key, []).append(kind)
    return {key: _verdict(kinds) for key, kinds in outcomes.items()}


def client_of(words: str) -> str | None:
    """The client that a test's parameters name: the longest that fits, `kafka-python` as well."""
    fitting = [name for name in ADAPTERS if re.search(rf"(^|-){re.escape(name)}(-|$)", words)]
    return max(fitting, key=len, default=None)


def _verdict(kinds: Sequence[str]) -> str:
    bad = sum(kind in ("failure", "error") for kind in kinds)
    if bad:
        return f"{bad} of {len(kinds)} fail"
    return "not run" if set(kinds) == {"skipped"} else f"ok ({len(kinds)})"


def pinned_cells() -> Cells:
    """Features of the pinned clients, by what their scripts say."""
    cells: Cells = {}
    with _server() as server:
        for client in CLIENTS:
            try:
                features = run(client, server.bootstrap).features()
            except NotInstallable as error:
                features = {"install": f"missing: {error}"}
            for feature, said in features.items():
                cells[feature, client.name] = said.split(":", 1)[0].replace("FAILED", "fails")
    return cells


def workload_cells(runs: int) -> Cells:
    """Cost of the workloads at Odradek and at the peers; ratios to Odradek in brackets."""
    figures: dict[tuple[str, str], float] = {}
    for name, target in _targets():
        for _ in tiny(target, WARM_UP):
            pass
        for load in WORKLOADS:
            for figure in UNDER_LOAD[load](target, runs):
                figures[f"{figure.name}, {figure.unit}", name] = figure.median
    cells: Cells = {}
    for (row, name), value in figures.items():
        ratio = value / (figures[row, "Odradek"] or 1)
        cells[row, name] = f"{value:.3g}" + ("" if name == "Odradek" else f" ({ratio:.1f} x)")
    return cells


def _targets() -> Iterator[tuple[str, Target]]:
    with _server() as server:
        yield "Odradek", Target(server.bootstrap, server.pid)
    for version in VERSIONS:
        if missing(version) is None:
            with Reference(version, lean=False) as kafka:
                Side(version, "127.0.0.1", kafka.port).warm_up()
                yield f"Apache Kafka {version}", Target(kafka.address, kafka.processes[-1].pid)


@contextlib.contextmanager
def _server() -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="odradek-report-") as folder,
        Server(pathlib.Path(folder) / "data") as server,
    ):
        yield server


def table(cells: Mapping[tuple[str, str], str], corner: str) -> str:
    """A Markdown table, rows and columns in the order in which they came."""
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    lines = [[corner, *columns], ["---"] * (len(columns) + 1)]
    lines += [[row, *(cells.get((row, column), "-") for column in columns)] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def put(page: str, section: str, text: str) -> str:
    """The page with what lies between the section's two marks replaced."""
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    assert tail or rest.endswith(end), f"the page has no section {section}"
    return f"{head}{begin}\n{text}\n{end}{tail}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m compat.report", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--clients", action="store_true", help="client by feature only")
    parser.add_argument("--workloads", action="store_true", help="peer by workload only")
    parser.add_argument("--runs", type=int, default=3, help="runs of each workload")
    options = parser.parse_args()
    if options.clients == options.workloads:
        for half in ("--clients", "--workloads"):  # each in its own network
            command = [sys.executable, "-m", "compat.report", half, f"--runs={options.runs}"]
            subprocess.run(command, cwd=ROOT, check=True)
        return 0
    told = f"Written on {date.today().isoformat()} by `python -m compat.report`."
    if options.clients:
        section, parts = "clients", [table(client_cells(), "feature")]
        parts.append(table(pinned_cells(), "feature"))
    else:
        for version in VERSIONS:
            if missing(version) is None:
                jars(version)
        network.enter("compat.report", sys.argv[1:])
        told += f" Network: {network.prepare()}."
        section, parts = "workloads", [table(workload_cells(options.runs), "cost")]
    PAGE.write_text(put(PAGE.read_text(), section, "\n\n".join((told, *parts))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
