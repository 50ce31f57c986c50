"""Starts three brokers, prints where they and their ZooKeeper are; SIGINT or SIGTERM ends them.

python -m compat.cluster kafka|odradek
"""

import argparse
import signal
import sys

from compat.cluster.place import KafkaPlace, OdradekPlace, Place
from compat.reference import NoReference, ending_on_sigterm
from compat.sides import NotReady

KINDS = {"kafka": KafkaPlace, "odradek": OdradekPlace}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m compat.cluster", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("kind", choices=KINDS)
    try:
        with ending_on_sigterm():
            place: Place = KINDS[parser.parse_args().kind]()
            with place:
                brokers = ",".join(broker.bootstrap for broker in place.brokers.values())
                print(f"ready: {brokers}, ZooKeeper at {place.zookeeper.address}", flush=True)
                signal.pause()
    except (NoReference, NotReady) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
