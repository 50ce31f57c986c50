"""Config resources, and how their settings are read back."""

from typing import Any

from compat.script import Run

UNKNOWN, TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 0, 2, 4, 8, 16, 32
THIS_BROKER = "1"


def told(run: Run, kind: int, name: str, *keys: str, expect: dict[str, str] | None = None) -> Any:
    """DescribeConfigs of some keys; waits for expected values, as settings travel slowly."""
    resource = {
        "resource_type": kind,
        "resource_name": name,
        "configuration_keys": list(keys) or None,
    }

    def there(answer: Any) -> bool:
        values = {c.name: c.value for r in answer.results for c in r.configs}
        return all(values.get(k) == v for k, v in (expect or {}).items())

    fields = {"resources": [resource], "include_synonyms": True}
    return run.ask_until(there, "DescribeConfigs", 1, **fields)
