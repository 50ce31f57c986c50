"""`python -m tests.sim --seeds N [--seed S]`: run N simulated clusters, from seed S on.

A failing seed is printed with the run's story; the same seed gives the same run again. With
`--planted` bugs are planted into the broker, and each must be found within N seeds (500).
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable
from itertools import chain

HASH_SEED = "0"


WITHIN = 500
"""Seeds among which a planted bug must be found."""


def first_found(name: str, seeds: Iterable[int]) -> bool:
    """Whether a run with that planted bug fails; says which does."""
    from tests.sim.planted import planted
    from tests.sim.run import run

    tried = 0
    for seed in seeds:
        tried += 1
        with planted(name):
            outcome = run(seed)
        if outcome.failure is not None:
            print(f"{name}: seed {seed}, {outcome.failure}", flush=True)
            return True
    print(f"{name}: NOT FOUND in {tried} seeds", flush=True)
    return False


def find_planted(names: list[str], seeds: range, *, known: bool) -> int:
    """Look for planted bugs, all where none is named; how many were not found. `known`: first by
    the seeds that are known to find them; what a seed does is another thing after most changes of
    the broker, and then the bug is looked for as ever.
    """
    from tests.sim.planted import BUGS

    return sum(
        not first_found(name, chain([BUGS[name].seed] if known else [], seeds))
        for name in names or BUGS
    )


def main() -> int:
    """The number of seeds that failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, help="how many runs")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--story", action="store_true", help="print every run's story")
    parser.add_argument("--keep-going", action="store_true", help="after a failure")
    parser.add_argument("--planted", nargs="*", metavar="BUG", help="find planted bugs")
    parser.add_argument("--known", action="store_true", help="planted bugs: known seeds first")
    args = parser.parse_args()
    if args.planted is not None:
        seeds = range(args.seed, args.seed + (args.seeds or WITHIN))
        return find_planted(args.planted, seeds, known=args.known)
    from tests.sim.run import run

    failed, started = 0, time.monotonic()
    count = args.seeds or 1
    for seed in range(args.seed, args.seed + count):
        began = time.process_time()
        outcome = run(seed)
        spent = time.process_time() - began
        if args.story or outcome.failure is not None:
            print("\n".join(outcome.notes))
        if args.story or outcome.failure is not None or count <= 50:
            print(f"seed {seed}: {outcome.told}; {spent:.2f} s, digest {outcome.digest}")
        if outcome.failure is not None:
            failed += 1
            print(f"seed {seed} FAILED: {outcome.failure}", flush=True)
            print(f"again by: python -m tests.sim --seed {seed}", flush=True)
            if not args.keep_going:
                break
    print(f"{failed} failed; {time.monotonic() - started:.0f} s")
    return min(failed, 100)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        # Sets of texts are walked in an order that depends on it.
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]])
    sys.exit(main())
