"""`python -m tests.bench [--runs N] [--only NAME]...`: run the benchmarks and print their table.

Starts a broker of this repository; `--bootstrap HOST:PORT --pid N` measures a running one instead
(its process must be on this machine; start-up and topic counts are then left out).
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import network
from tests.bench.cases import OWN_BROKER, UNDER_LOAD
from tests.bench.figures import Figure, Target, touch_pages
from tests.kit.server import Server


def main() -> int:
    """Exit status 1 with `--check` when a budget is missed."""
    names = [*OWN_BROKER, *UNDER_LOAD]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs a figure (default 5)")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=str(names))
    parser.add_argument("--check", action="store_true", help="status 1 when a budget is missed")
    parser.add_argument("--bootstrap", help="measure a running broker")
    parser.add_argument("--pid", type=int, help="its process id")
    options = parser.parse_args()
    if (options.bootstrap is None) != (options.pid is None):
        parser.error("--bootstrap and --pid go together")
    if options.bootstrap is None:
        network.enter("tests.bench", sys.argv[1:])
    print(f"network: {network.prepare()}")
    print(f"medians of {options.runs} runs; load generator and broker share this machine's cores")
    print("page cache: memory touched before, files deleted after each run\n")
    chosen = options.only or names
    print(f"{'name':40} {'median':>9} {'min':>9} {'budget':>9}  unit", flush=True)
    missed = sum(not _print(figure) for figure in _figures(chosen, options))
    return 1 if options.check and missed else 0


def _figures(chosen: list[str], options: argparse.Namespace) -> Iterator[Figure]:
    if options.bootstrap is None:
        for name, case in OWN_BROKER.items():
            if name in chosen:
                yield from case(options.runs)
    for name, load in UNDER_LOAD.items():
        if name in chosen:
            with _target(options) as target:
                yield from load(target, options.runs)


@contextmanager
def _target(options: argparse.Namespace) -> Iterator[Target]:
    """The broker to load: the given one, or a fresh one for each case."""
    if options.bootstrap is not None:
        yield Target(options.bootstrap, options.pid)
        return
    with (
        tempfile.TemporaryDirectory(prefix="odradek-bench-") as folder,
        Server(Path(folder) / "data") as server,
    ):
        touch_pages(Path(folder))
        yield Target(server.bootstrap, server.pid)


def _print(figure: Figure) -> bool:
    budget = "-" if figure.budget is None else f"{figure.budget:9.3g}"
    verdict = "" if figure.budget is None else ("ok" if figure.ok else "OVER")
    print(
        f"{figure.name:40} {figure.median:9.3g} {min(figure.values):9.3g} {budget:>9}  "
        f"{figure.unit:16} {verdict}",
        flush=True,
    )
    return figure.ok


sys.exit(main())
