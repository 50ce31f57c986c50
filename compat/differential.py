"""Sends one corpus of requests to a real Apache Kafka and to Odradek and compares the answers.

    python -m compat.differential [--against 3.9.2|4.4.0|both] [--api NAME]... [--generated N]
                                  [--seed S] [--odradek HOST:PORT] [--ci] [--recorded]
                                  [--cluster]

Versions that Apache Kafka 3.9.2 serves are judged by it, newer ones by 4.4.0. Every difference that
compat/DIFFERENCES.md does not list is printed, and the exit status is 1 if there is any.
`--recorded` takes the judges' answers from files instead and needs no Java; `--record` writes
those files.
"""

import argparse
import contextlib
import itertools
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from compat import corpus
from compat.cluster.run import JUDGE as CLUSTER
from compat.cluster.run import run as compare_clusters
from compat.compare import Difference, Entry, Explained, in_span
from compat.generate import generated_items
from compat.offered import (
    COVERED,
    NEVER_GRANTED,
    NEVER_REFUSED,
    NEW,
    OFFERED,
    OLD,
    judge_of,
)
from compat.play import Item, Judge, Live, Player, Report
from compat.recording import Recording, write_recordings
from compat.reference import (
    VERSIONS,
    NoReference,
    Reference,
    ending_on_sigterm,
    free_ports,
    missing,
)
from compat.script import CASES, Case, api_named
from compat.sides import (
    NotReady,
    OdradekProcess,
    Side,
    described,
    reference_side,
    settings_for,
)

CI_GENERATED = 600
_LAUNCHES = itertools.count()
ATTEMPTS = 2
"""How often a case that differs is played again."""


def plan(arguments: argparse.Namespace) -> list[Item]:
    """The cases and versions that the command line asks for."""
    corpus.load()
    items = []
    references_only = arguments.record or arguments.subject
    known = COVERED if references_only else OFFERED
    for case in CASES:
        if case.api not in known:
            continue
        if arguments.api and case.api not in arguments.api:
            continue
        if arguments.case and not fnmatchcase(case.name, arguments.case):
            continue
        for judge, versions in _judged(case):
            if arguments.against in (judge, "both"):
                chosen = _some(case, versions) if arguments.thin else versions
                wanted = [v for v in chosen if in_span(v, arguments.versions)]
                items += [Item(case, version, judge) for version in wanted]
    if arguments.api in ([], ["Generated"]):
        generated = generated_items(arguments.generated, arguments.seed, (OLD, NEW))
        items += [i for i in generated if arguments.against in (i.judge, "both")]
    return items


def _judged(case: Case) -> Iterator[tuple[str, list[int]]]:
    """The versions at which a case is played, by judge."""
    low, high = case.versions
    for judge in (OLD, NEW):
        judges = {v: case.judge or judge_of(case.api, v) for v in range(low, high + 1)}
        versions = [v for v in judges if judges[v] == judge]
        if versions:
            yield judge, versions


def _some(case: Case, versions: list[int]) -> list[int]:
    """The first, the last and one in between."""
    between = versions[zlib.crc32(case.name.encode()) % len(versions)]
    return sorted({versions[0], between, versions[-1]})


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m compat.differential", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--against", choices=(*VERSIONS, "both"), default="both")
    parser.add_argument("--api", action="append", default=[], metavar="NAME")
    parser.add_argument("--case", help="only cases whose name fits this shell pattern")
    parser.add_argument("--versions", default="*", help="only these versions, such as 3-7 or 9+")
    parser.add_argument("--generated", type=int, default=0, help="so many generated requests too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--odradek", metavar="HOST:PORT", help="ask this one instead of starting one"
    )
    parser.add_argument(
        "--subject", choices=VERSIONS, help="compare a reference instead of Odradek"
    )
    parser.add_argument("--ci", action="store_true", help=f"with {CI_GENERATED} generated requests")
    parser.add_argument(
        "--thin", action="store_true", help="each case at three versions, not at all"
    )
    parser.add_argument("--recorded", action="store_true", help="judge by recorded answers")
    parser.add_argument("--record", action="store_true", help="write the recorded answers anew")
    parser.add_argument(
        "--cluster", action="store_true", help="three brokers on one ZooKeeper instead of one alone"
    )
    parser.add_argument("--texts", action="store_true", help="also print how sentences differ")
    parser.add_argument("--each", action="store_true", help="every difference on its own line")
    parser.add_argument("--show-explained", action="store_true")
    parser.add_argument("--log", help="keep Odradek's log in this file")
    parser.add_argument("--keep", metavar="DIR", help="keep the references' directories there")
    parser.add_argument("--progress", action="store_true", help="one line for each chunk of cases")
    return parser


@contextlib.contextmanager
def sides(
    arguments: argparse.Namespace, items: Sequence[Item]
) -> Iterator[tuple[dict[str, Judge], dict[str, Live]]]:
    """The judges that the plan needs, and who is judged by each, all answering."""
    wanted = sorted({i.judge for i in items})
    with contextlib.ExitStack() as stack:
        references = {}
        if not arguments.recorded:
            references = {name: _launched(stack, name, arguments.keep) for name in wanted}
        subjects = {} if arguments.record else _subjects(arguments, stack, wanted)
        judges: dict[str, Judge] = {}
        for name in wanted:
            if arguments.recorded:
                judges[name] = Recording(name)
            else:
                side = stack.enter_context(reference_side(references[name]))
                side.learn_versions()
                side.warm_up()
                judges[name] = Live(side)
        yield judges, subjects


def _launched(stack: contextlib.ExitStack, version: str, keep: str | None) -> Reference:
    lack = missing(version)
    if lack:
        raise NoReference(lack)
    directory = f"{keep}/{version}-{next(_LAUNCHES)}" if keep else None
    reference = Reference(version, settings=settings_for(version), directory=directory)
    stack.callback(reference.close)
    reference.launch()
    return reference


def _subjects(
    arguments: argparse.Namespace, stack: contextlib.ExitStack, judges: Sequence[str]
) -> dict[str, Live]:
    """Who is judged, by judge: the broker that was named, or an Odradek for each, because 3.9.2
    knows no features: its Odradek has none finalized."""
    if arguments.subject or arguments.odradek:
        return dict.fromkeys(judges, _named_subject(arguments, stack))
    subjects = {}
    processes = {judge: OdradekProcess(judge) for judge in judges}
    for process in processes.values():
        stack.callback(process.close, arguments.log)
        process.launch(free_ports(1)[0])
    for judge, process in processes.items():
        process.wait()
        side = Side(f"odradek for {judge}", "127.0.0.1", process.port)
        side.learn_versions()
        if judge == OLD:
            side.without_features()
        side.warm_up()
        subjects[judge] = Live(side)
    return subjects


def _named_subject(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> Live:
    if arguments.subject:
        side = stack.enter_context(
            reference_side(_launched(stack, arguments.subject, arguments.keep))
        )
        side.name = "subject"
    else:
        host, port = arguments.odradek.rsplit(":", 1)
        side = Side("odradek", host, int(port))
    side.learn_versions()
    side.warm_up()
    return Live(side)


def offer_differs(subjects: Iterable[Live]) -> list[str]:
    """Where the judged broker's ApiVersions answer is not what the corpus was made for."""
    subject = next((each for each in subjects if each.side.name != "subject"), None)
    if subject is None:
        return []
    wanted = {api_named(name).key: (name, span) for name, span in OFFERED.items()}
    out = []
    for key in sorted({*wanted, *subject.side.served}):
        name, span = wanted.get(key, (str(key), None))
        told = subject.side.served.get(key)
        if told != span:
            out.append(f"{name}: offered {told}, the corpus covers {span}")
    return out


def print_differences(found: Sequence[Difference], each: bool = False) -> None:
    """Differences of one kind (field and both values) on one line, with an example.

    With `each`, one line for every case and step.
    """
    grouped: dict[tuple[str, ...], list[Difference]] = {}
    for one in found:
        key = (one.judge, one.api, one.plain_path, described(one.theirs), described(one.ours))
        grouped.setdefault((*key, one.case, one.step, one.path) if each else key, []).append(one)
    for (judge, api, path, theirs, ours, *_), ones in sorted(grouped.items()):
        first = ones[0]
        case = f"{first.case_api}/{first.case}" if first.case_api != api else first.case
        times = "" if each else f" {len(ones)} times,"
        where = f"v{spans([o.version for o in ones])},{times} e.g. {case} [{first.step}]"
        full = f" {first.path}" if first.path != path else ""
        print(f"{api} {path}: {judge} {theirs}; Odradek {ours}; {where}{full}")


def spans(versions: Sequence[int]) -> str:
    """Version numbers as ranges: 0-3,7."""
    out: list[list[int]] = []
    for version in sorted(set(versions)):
        if out and version == out[-1][1] + 1:
            out[-1][1] = version
        else:
            out.append([version, version])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in out)


def uncovered(report: Report) -> list[str]:
    """Versions of APIs without one accepted and two refused requests."""
    lacking = []
    for api, (low, high) in OFFERED.items():
        for version in range(low, high + 1):
            good, bad = report.accepted[api, version], report.refused[api, version]
            granted = good or api in NEVER_GRANTED
            if not granted or (bad < 2 and (api, version) not in NEVER_REFUSED):
                lacking.append(f"{api} v{version}: {good} accepted, {bad} refused")
    return lacking


def lasting(
    player: Player, items: Sequence[Item], explained: Explained, unknown: list[Difference]
) -> list[Difference]:
    """Unexplained differences that come again when their cases are played anew and alone: brokers
    that run are late at times, the references too. Recorded answers do not change."""
    mine = {(i.judge, i.case.api, i.case.name, i.version): i for i in items}
    for _ in range(ATTEMPTS):
        places = [(d.judge, d.case_api, d.case, d.case_version) for d in unknown]
        doubtful = {p: mine[p] for p in places if isinstance(player.judges[p[0]], Live)}
        if not doubtful or not player.subjects:
            break
        for place, item in doubtful.items():
            mine[place] = item.again()
        report = player.play_again([mine[place] for place in doubtful])
        still = explained.split(report.differences)[1]
        rest = [d for d, p in zip(unknown, places, strict=True) if p not in doubtful]
        print(f"{len(doubtful)} cases played again: {len(still)} differences left")
        unknown = rest + still
    return unknown


def _conclude(
    report: Report, known: int, unknown: Sequence[Difference], stale: Sequence[Entry], full: bool
) -> int:
    for entry in stale:
        print(f"DIFFERENCES.md: {entry.id} did not occur any more.")
    lacking = uncovered(report) if full else []
    for line in lacking:
        print(f"not covered: {line}")
    for fault in report.faults:
        print(f"fault of the corpus: {fault}")
    print(
        f"{report.cases} cases, {report.requests} requests, {known} explained differences, "
        f"{len(unknown)} unexplained."
    )
    return 1 if unknown or stale or lacking or report.faults else 0


def run(arguments: argparse.Namespace) -> int:
    """The whole command; gives the exit status."""
    if arguments.ci:
        arguments.generated = arguments.generated or CI_GENERATED
    began = time.monotonic()
    items = plan(arguments)
    with sides(arguments, items) as (judges, subjects):
        surprises = offer_differs(subjects.values())
        ready = time.monotonic()
        player = Player(judges, subjects)
        player.chatty = player.chatty or arguments.progress
        report = player.play(items)
        explained = Explained.load() if not arguments.subject else Explained("")
        known, unknown = explained.split(report.differences)
        unknown = lasting(player, items, explained, unknown)
    if arguments.record:
        write_recordings(report, keep=bool(arguments.api or arguments.case))
    if arguments.show_explained:
        print_differences(known, arguments.each)
    print_differences(unknown, arguments.each)
    if arguments.texts:
        for (api, theirs, ours), count in sorted(report.texts.items()):
            print(f"text {api} ({count}): {theirs!r} / {ours!r}")
    full = not (arguments.api or arguments.case) and arguments.against == "both"
    full = full and arguments.versions == "*" and not (arguments.subject or arguments.thin)
    stale = explained.stale() if full and not arguments.record else []
    stale = [entry for entry in stale if entry.judge != CLUSTER]
    status = _conclude(report, len(known), unknown, stale, full)
    for line in surprises:
        print(f"offer: {line}")
        status = 1
    print(f"start {ready - began:.1f} s, comparison {time.monotonic() - ready:.1f} s")
    return status


def run_cluster(arguments: argparse.Namespace) -> int:
    """The same for three brokers on one ZooKeeper."""
    began = time.monotonic()
    report, known, unknown = compare_clusters(arguments)
    if arguments.show_explained:
        print_differences(known, arguments.each)
    print_differences(unknown, arguments.each)
    status = _conclude(report, len(known), unknown, [], False)
    print(f"comparison {time.monotonic() - began:.1f} s")
    return status


def main(words: Sequence[str] | None = None) -> int:
    arguments = _options().parse_args(words)
    try:
        with ending_on_sigterm():
            return run_cluster(arguments) if arguments.cluster else run(arguments)
    except (NoReference, NotReady) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
