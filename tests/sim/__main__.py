"""`python -m tests.sim --seeds N [--seed S]`: run N simulated clusters, from seed S on.

A failing seed is printed with the run's story; the same seed gives the same run again. With
`--planted` bugs are planted into the broker, and each must be found within N seeds (500).
"""

import argparse
import os
import sys
import time

HASH_SEED = "0"


WITHIN = 500
"""Seeds among which a planted bug must be found."""


def find_planted(names: list[str], first: int, seeds: int) -> int:
    """Look for planted bugs, all where none is named; how many were not found."""
    from tests.sim.planted import BUGS, planted
    from tests.sim.run import run

    missed = 0
    for name in names or BUGS:
        for seed in range(first, first + seeds):
            with planted(name):
                outcome = run(seed)
            if outcome.failure is not None:
                print(f"{name}: seed {seed}, {outcome.failure}", flush=True)
                break
        else:
            missed += 1
            print(f"{name}: NOT FOUND in {seeds} seeds", flush=True)
    return missed


def find_again() -> int:
    """Each planted bug by the seed that is known to find it; how many were not found."""
    from tests.sim.planted import BUGS, planted
    from tests.sim.run import run

    missed = 0
    for name, bug in BUGS.items():
        with planted(name):
            outcome = run(bug.seed)
        sound = run(bug.seed)
        missed += outcome.failure is None or sound.failure is not None
        print(f"{name}: seed {bug.seed}, {outcome.failure}; without it: {sound.failure}")
    return missed


def main() -> int:
    """The number of seeds that failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many runs")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--story", action="store_true", help="print every run's story")
    parser.add_argument("--keep-going", action="store_true", help="after a failure")
    parser.add_argument("--planted", nargs="*", metavar="BUG", help="find planted bugs")
    parser.add_argument("--known", action="store_true", help="planted bugs: by known seeds only")
    args = parser.parse_args()
    if args.planted is not None:
        if args.known:
            return find_again()
        return find_planted(args.planted, args.seed, max(args.seeds, WITHIN))
    from tests.sim.run import run

    failed, started = 0, time.monotonic()
    for seed in range(args.seed, args.seed + args.seeds):
        began = time.process_time()
        outcome = run(seed)
        spent = time.process_time() - began
        if args.story or outcome.failure is not None:
            print("\n".join(outcome.notes))
        if args.story or outcome.failure is not None or args.seeds <= 50:
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
