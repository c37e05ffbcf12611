"""Which changes of a configuration a running daemon can take up, and which need a restart or a new state.

Live is what acts behind the decoder and keeps the shape of the state: limits, delays, drift, lateness, ranges, and
other bundles. What reads (source, times, tags, units, names of assets) or where to (sink, state) is built at the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from monitor.errors import ConfigurationError
from monitor.settings import Settings

_AT_START = frozenset(
    {
        "site",
        "source",
        "sink",
        "recordings",
        "times",
        "unknown_sensors",
        "max_record",
        "state",
        "health",
        "control",
    }
)
_AT_START_OF_CLASS = frozenset({"assets", "sampling"})
_LIVE_OF_SENSOR = frozenset({"range", "deadband", "stuck_after", "dead_after", "heartbeat", "sigma_floor"})


def check_live(old: Settings, new: Settings) -> None:
    """Refuse a configuration that cannot be taken up by a running daemon.

    Raises:
        ConfigurationError: the settings that differ and need a restart.
    """
    needing = sorted(_needing_a_restart(_plain(old), _plain(new)))
    if needing:
        raise ConfigurationError(
            f"these settings cannot change while the daemon runs: {', '.join(needing)}; hint: restart it; "
            "docs/daemon.md says what a restart keeps"
        )


def _needing_a_restart(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name in _AT_START if old.get(name) != new.get(name))
    before, after = old["asset_classes"], new["asset_classes"]
    if list(before) != list(after):
        yield "asset_classes (which there are, and their order)"
        return
    for name, its in before.items():
        path = f"asset_classes.{name}"
        yield from (f"{path}.{key}" for key in _AT_START_OF_CLASS if its[key] != after[name][key])
        if list(its["sensors"]) != list(after[name]["sensors"]):
            yield f"{path}.sensors (which there are, and their order)"
            continue
        for sensor, fields in its["sensors"].items():
            others = after[name]["sensors"][sensor]
            changed = {key for key in fields if fields[key] != others[key]} - _LIVE_OF_SENSOR
            yield from (f"{path}.sensors.{sensor}.{key}" for key in changed)


def _plain(settings: Settings) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", msgspec.to_builtins(settings, enc_hook=str))
