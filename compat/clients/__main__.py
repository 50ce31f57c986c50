"""``python -m compat.clients [list | run NAME...|all] [--bootstrap HOST:PORT]``.

Without ``--bootstrap`` a broker of this repository is started for the run.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from compat.clients.run import CLIENTS, NotInstallable, run
from tests.kit.server import Server


def main() -> int:
    """Exit status 1 when any client failed or could not be installed."""
    parser = argparse.ArgumentParser(prog="python -m compat.clients", description=__doc__)
    parser.add_argument("action", choices=("list", "run"), nargs="?", default="list")
    parser.add_argument("names", nargs="*", default=["all"])
    parser.add_argument("--bootstrap", metavar="HOST:PORT")
    options = parser.parse_args()
    if options.action == "list":
        for client in CLIENTS:
            print(f"{client.name:22} {client.language:8} {' '.join(client.packages)}")
        return 0
    names = options.names or ["all"]
    unknown = set(names) - {"all"} - {client.name for client in CLIENTS}
    if unknown:
        parser.error(f"unknown client {', '.join(sorted(unknown))}")
    if options.bootstrap:
        return _run(names, options.bootstrap)
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "data") as server:
        return _run(names, server.bootstrap)


def _run(names: list[str], bootstrap: str) -> int:
    status = 0
    for client in CLIENTS:
        if client.name not in names and "all" not in names:
            continue
        print(f"== {client.name}", flush=True)
        try:
            outcome = run(client, bootstrap)
        except NotInstallable as error:
            print(f"FAILED install: {error}")
            status = 1
            continue
        print(outcome.text, end="", flush=True)
        status = status or outcome.status
    return status


sys.exit(main())
