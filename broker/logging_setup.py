"""Log lines on standard error, in the manner of Kafka's: `[time] LEVEL text (logger)`.

Also the levels by logger that the broker-logger resource of DescribeConfigs and
IncrementalAlterConfigs shows and changes (KIP-412); a restart forgets such changes, as in Kafka.
"""

import logging
import sys

ROOT = "root"
"""How the root logger is called towards clients."""

LEVELS = {
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": 5,
}
"""Kafka's names of levels."""


def configure(level: int = logging.INFO) -> None:
    """Send log lines to standard error. Called once, before the broker is built."""
    for name, number in LEVELS.items():
        logging.addLevelName(number, name)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)s %(message)s (%(name)s)"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Lines do not say where in the source they come from: to find out costs most of a line.
    vars(logging)["_srcfile"] = None
    # A client's mistake must not print tracebacks of the logging machinery.
    logging.raiseExceptions = False
    # asyncio tells of its selector at DEBUG and of slow callbacks only in debug mode.
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def levels() -> dict[str, str]:
    """The level in force of every logger of this process, by name."""
    found = {ROOT: _level_name(logging.getLogger().getEffectiveLevel())}
    for name, logger in sorted(logging.Logger.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger):
            found[name] = _level_name(logger.getEffectiveLevel())
    return found


def exists(name: str) -> bool:
    """Whether there is a logger of that name."""
    return name == ROOT or isinstance(logging.Logger.manager.loggerDict.get(name), logging.Logger)


def set_level(name: str, level: str) -> None:
    """Give a logger a level of its own; `level` is a key of LEVELS."""
    logging.getLogger(None if name == ROOT else name).setLevel(LEVELS[level])


def unset_level(name: str) -> None:
    """Let a logger take its parent's level again."""
    logging.getLogger(name).setLevel(logging.NOTSET)


def _level_name(number: int) -> str:
    """The coarsest of Kafka's levels that shows what `number` shows."""
    for name, level in LEVELS.items():
        if number >= level:
            return name
    return "TRACE"
