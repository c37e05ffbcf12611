"""What the output topics still tell of assets whose state was lost: their threshold versions and open incidents.

A rebuild rewinds over windows and averages only. Limits that have moved since training, and incidents that were open,
come from the events that told of them. Incidents are taken as they stood where the asset's rewound stretch begins: what
happened in that stretch happens again, under the same ids. Versions are taken as they stood last: a re-estimation
rests on more than the stretch, and a number that was used must not be used for another limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from monitor.alerting.alerts import parse_alert, parse_threshold, threshold_id
from monitor.alerting.incidents import Episode, EventName, Kind
from monitor.quantities import Instant
from monitor.thresholds.adaptation_events import ThresholdVersion

_MOST_EPISODES = 200
"""Events of incidents that are kept per asset, the newest: far more than a rewound stretch can have."""
_MOST_VERSIONS = 32
_HELD = frozenset({Kind.ANOMALY, Kind.SENSOR_FAULT, Kind.DATA_GAP, Kind.DRIFT, Kind.MODEL_STALE})


class _Told(NamedTuple):
    """One event of an incident."""

    at_ns: int
    open: bool
    incident: str
    episode: Episode


class Recollection:
    """Events by asset.

    Args:
        source: CloudEvents source of this monitor; events of others are passed over.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._versions: dict[str, list[tuple[str, ThresholdVersion]]] = {}
        self._told: dict[str, list[_Told]] = {}

    def note_thresholds(self, values: Iterable[bytes]) -> None:
        """Take what the thresholds channel holds; what is no threshold version is passed over."""
        for value in values:
            try:
                event = parse_threshold(value)
                version = _version_of(msgspec.to_builtins(event.data))
            except (msgspec.DecodeError, ValueError):
                continue
            if event.source == self._source:
                kept = self._versions.setdefault(event.subject, [])
                kept.append((event.id, version))
                del kept[:-_MOST_VERSIONS]

    def note_alerts(self, values: Iterable[bytes]) -> None:
        """Take what the alerts channel holds; what is no alert of the fold is passed over."""
        for value in values:
            try:
                event = parse_alert(value)
            except (msgspec.DecodeError, ValueError):
                continue
            alert = event.data
            if event.source != self._source or alert.kind not in _HELD:
                continue
            at = int(Instant.parse(alert.updated_at))
            ratio = alert.worst_ratio if isinstance(alert.worst_ratio, float) else float("nan")
            episode = Episode(
                Kind(alert.kind),
                alert.subject if isinstance(alert.subject, str) else "",
                int(Instant.parse(str(alert.started_at))),
                int(Instant.parse(alert.raised_at)),
                int(event.sequence),
                alert.severity,
                ratio,
                at,
            )
            kept = self._told.setdefault(event.subject, [])
            kept.append(_Told(at, alert.event != EventName.CLEARED, alert.incident_id, episode))
            del kept[:-_MOST_EPISODES]

    def versions(self, asset: str, bundle: str) -> list[ThresholdVersion]:
        """The versions of an asset's limit under a bundle, by number, the last one in force."""
        found = {
            version.version: version
            for name, version in self._versions.get(asset, [])
            if name == threshold_id(self._source, asset, bundle, version.version)
        }
        return [found[number] for number in sorted(found)]

    def episodes(self, asset: str, at_ns: int) -> list[Episode]:
        """The incidents of an asset that were open at a time, as their last event until then told of them."""
        last: dict[str, _Told] = {}
        for told in self._told.get(asset, []):
            if told.at_ns <= at_ns and (
                told.incident not in last or told.episode.sequence > last[told.incident].episode.sequence
            ):
                last[told.incident] = told
        return [told.episode for told in last.values() if told.open]


def _version_of(fields: dict[str, object]) -> ThresholdVersion:
    """A version as the topic has it, as the fold has it."""
    plain = {name: value for name, value in fields.items() if name != "truncated"}
    for name in ("start", "end"):
        text = plain.pop(name)
        plain[f"{name}_ns"] = None if text is None else int(Instant.parse(str(text)))
    return msgspec.convert(plain, ThresholdVersion)
