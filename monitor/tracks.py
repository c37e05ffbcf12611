"""The conditions of an asset of which each has incidents of its own."""

from __future__ import annotations

from monitor.alerting.incidents import Kind, Track
from monitor.settings import AssetClass


def fault_tracks(asset_class: AssetClass) -> list[Track]:
    """A SENSOR_FAULT per sensor."""
    alerting = asset_class.alerting
    return [
        Track(
            Kind.SENSOR_FAULT,
            sensor,
            alerting.fault_on_delay,
            alerting.fault_off_delay,
            alerting.realert,
            alerting.criticality,
        )
        for sensor in asset_class.sensors
    ]


def shift_tracks(asset_class: AssetClass, sensors: tuple[str, ...]) -> list[Track]:
    """A DRIFT per scored sensor, beside those of the scorers."""
    criticality = asset_class.alerting.criticality
    return [Track(Kind.DRIFT, sensor, 0, 0, None, criticality) for sensor in sensors]


def window_tracks(asset_class: AssetClass, scorers: tuple[str, ...]) -> list[Track]:
    """ANOMALY, coverage, then DRIFT and MODEL_STALE per scorer: `Fold._conditions` relies on this order."""
    alerting = asset_class.alerting
    realert, criticality = alerting.realert, alerting.criticality
    return [
        Track(Kind.ANOMALY, "", alerting.on_delay, alerting.off_delay, realert, criticality),
        Track(
            Kind.DATA_GAP, "coverage", alerting.fault_on_delay, alerting.fault_off_delay, realert, criticality
        ),
        *(Track(Kind.DRIFT, scorer, 0, 0, None, criticality) for scorer in scorers),
        *(Track(Kind.MODEL_STALE, scorer, 0, 0, None, criticality) for scorer in scorers),
    ]
