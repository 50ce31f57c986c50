"""The scenarios, in the order in which they are played: the one that has another controller in the
end is the last."""

import importlib

from compat import corpus as single

MODULES = ("meeting", "wrong_broker", "alter_partition", "reassignment", "coordinators", "down")


def load() -> None:
    """Imports every module, so that `compat.cluster.script.SCENARIOS` is complete."""
    single.load()
    for name in MODULES:
        importlib.import_module(f"{__name__}.{name}")
