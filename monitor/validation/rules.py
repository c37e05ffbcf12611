"""Rules of one asset class that types cannot say."""

from __future__ import annotations

import math
from collections.abc import Mapping

from connectors.units import UnitError, conversion, known
from monitor.settings import SCORED_ROLES, AssetClass, Sensor, Tracking
from monitor.thresholds.recentring import MOST, refusal
from monitor.validation.finding import Findings
from monitor.yaml_lines import Path

MOST_FOLDS = 20
"""Each fold costs a fit of every scorer."""
_STATES = frozenset({"mode", "discrete"})


def check_class(asset_class: AssetClass, at: Path, findings: Findings) -> None:
    """Everything about one class that needs nothing but the class.

    Args:
        asset_class: its settings.
        at: where they stand.
        findings: take what is wrong.
    """
    _check_assets(asset_class, at, findings)
    for name, sensor in asset_class.sensors.items():
        _check_sensor(sensor, asset_class, (*at, "sensors", name), findings)
    _check_tags(asset_class.sensors, (*at, "sensors"), findings)
    _check_roles(asset_class.sensors, (*at, "sensors"), findings)
    _check_event_time(asset_class, at, findings)
    _check_window(asset_class, (*at, "window"), findings)
    _check_shares(asset_class, at, findings)
    _check_adaptation(asset_class, at, findings)
    _check_recentring(asset_class, at, findings)


def _check_assets(asset_class: AssetClass, at: Path, findings: Findings) -> None:
    findings.require(
        bool(asset_class.assets), (*at, "assets"), "no assets", "names or patterns such as 'poly2/*'"
    )
    findings.require(
        asset_class.sampling > 0, (*at, "sampling"), f"got {asset_class.sampling}", "a period above 0s"
    )


def _check_sensor(sensor: Sensor, asset_class: AssetClass, at: Path, findings: Findings) -> None:
    _check_unit(sensor, at, findings)
    _check_range(sensor, at, findings)
    _check_reporting(sensor, asset_class, at, findings)
    if sensor.aggregate == "mean" and sensor.role in _STATES:
        findings.error(
            (*at, "aggregate"),
            f"mean of a {sensor.role} sensor",
            "last or max: between two states is no state",
        )
    for name in ("deadband", "sigma_floor"):
        value = getattr(sensor, name)
        findings.require(
            0 <= value < math.inf, (*at, name), f"got {value:g}", "0 or more, in the sensor's unit"
        )


def _check_recentring(asset_class: AssetClass, at: Path, findings: Findings) -> None:
    sensors = asset_class.sensors
    for name, sensor in sensors.items():
        others = [other for each, other in sensors.items() if each != name]
        why = refusal(sensor, others) if sensor.recentre else ""
        if why:
            hint = (
                "only ambient sensors and measurements that nothing controls: a controller hides what drifts"
            )
            findings.error((*at, "sensors", name, "recentre"), why, hint)
    place, settings = (*at, "drift", "recentring"), asset_class.drift.recentring
    least = asset_class.window.length
    findings.require(
        settings.epoch >= least,
        (*place, "epoch"),
        f"got {settings.epoch}",
        f"a window's length ({least}) or more",
    )
    findings.require(
        0.0 < settings.rate <= 1.0, (*place, "rate"), f"got {settings.rate:g}", "above 0, up to 1"
    )
    findings.require(
        0.0 < settings.max_total <= MOST,
        (*place, "max_total"),
        f"got {settings.max_total:g}",
        f"up to {MOST:g} standard deviations: further off a sensor is at fault, or the model is stale",
    )


def _check_unit(sensor: Sensor, at: Path, findings: Findings) -> None:
    if not known(sensor.unit):
        findings.error((*at, "unit"), *_unit_problem(sensor.unit, "1"))
    elif sensor.derive is not None:
        try:
            conversion("s", sensor.unit)
        except UnitError:
            findings.error(
                (*at, "unit"), f"got {sensor.unit!r} for a derived time", "a unit of time: s, min or h"
            )


def _unit_problem(unit: str, target: str) -> tuple[str, str]:
    try:
        conversion(unit, target)
    except UnitError as error:
        message, _, hint = str(error).partition("; hint: ")
        return message, hint
    return f"unit {unit!r}", ""


def _check_range(sensor: Sensor, at: Path, findings: Findings) -> None:
    if sensor.range is None:
        if sensor.role in SCORED_ROLES and sensor.derive is None:
            findings.hint(
                at, "no engineering range", "range: [low, high], or no reading is ever out of range"
            )
        return
    low, high = sensor.range
    if not (math.isfinite(low) and math.isfinite(high)):
        findings.error((*at, "range"), f"got [{low}, {high}]", "finite numbers")
    elif low >= high:
        findings.error((*at, "range"), f"got [{low:g}, {high:g}], which is reversed or empty", "[low, high]")


def _check_reporting(sensor: Sensor, asset_class: AssetClass, at: Path, findings: Findings) -> None:
    if sensor.reporting == "on_change" and sensor.heartbeat is None and sensor.dead_after is None:
        findings.warning(
            at,
            "reports on change without a heartbeat: when it is dead cannot be told",
            "heartbeat: the longest normal time between two readings, or dead_after",
        )
    if sensor.reporting == "periodic" and sensor.heartbeat is not None:
        findings.warning((*at, "heartbeat"), "has no meaning for a periodic sensor", "reporting: on_change")
    for name in ("heartbeat", "stuck_after", "dead_after"):
        value = getattr(sensor, name)
        if value is not None and value < asset_class.sampling:
            findings.error(
                (*at, name),
                f"got {value}, less than one sampling period",
                f"at least sampling: {asset_class.sampling}",
            )


def _check_tags(sensors: Mapping[str, Sensor], at: Path, findings: Findings) -> None:
    first: dict[str, str] = {}
    for name, sensor in sensors.items():
        tag = sensor.tag or name
        if tag in first:
            findings.error(
                (*at, name, "tag"),
                f"tag {tag!r} is already that of sensor {first[tag]!r}",
                "a tag of its own",
            )
        first.setdefault(tag, name)


def _check_roles(sensors: Mapping[str, Sensor], at: Path, findings: Findings) -> None:
    roles = {sensor.role for sensor in sensors.values()}
    if not roles & SCORED_ROLES:
        wanted = ", ".join(sorted(SCORED_ROLES))
        findings.error(at, "no sensor is scored", f"at least one with a role of {wanted}")
    if "setpoint" in roles and "pv" in roles and "output" not in roles:
        name = next(name for name, sensor in sensors.items() if sensor.role == "setpoint")
        findings.warning(
            (*at, name),
            "a set-point says that a pv is controlled, but no sensor has role: output: "
            "the controller hides a fault in its valve by moving the valve",
            "the controller's output beside the pv, with role: output",
        )


def _check_event_time(asset_class: AssetClass, at: Path, findings: Findings) -> None:
    time, sampling = asset_class.time, asset_class.sampling
    at = (*at, "time")
    at_least = f"at least sampling: {sampling}"
    if time.max_age < sampling:
        message = (
            f"{time.max_age} is less than the sampling period: nothing would be carried over one late reading"
        )
        findings.error((*at, "max_age"), message, at_least)
    findings.require(time.slot_rows >= 1, (*at, "slot_rows"), f"got {time.slot_rows}", "1 row or more")
    findings.require(time.max_future >= sampling, (*at, "max_future"), f"got {time.max_future}", at_least)
    if time.silence < sampling:
        findings.error((*at, "silence"), f"{time.silence}: every pause between two readings is one", at_least)
    elif time.silence < 2 * sampling:
        findings.warning(
            (*at, "silence"), f"{time.silence}: one lost reading is already a silence", "some samplings"
        )
    span = asset_class.window.length * sampling
    if time.lateness > span:
        findings.warning(
            (*at, "lateness"),
            f"{time.lateness} is longer than a window: alerts come that much later where a sensor is missing",
            "about as long as readings are really late",
        )


def _check_window(asset_class: AssetClass, at: Path, findings: Findings) -> None:
    window = asset_class.window
    findings.require(window.length >= 2, (*at, "length"), f"got {window.length}", "2 samples or more")
    if window.stride < 1:
        findings.error((*at, "stride"), f"got {window.stride}", "1 sample or more")
    elif window.stride > window.length:
        findings.error(
            (*at, "stride"),
            f"{window.stride} is more than the window's length: readings between two windows are never seen",
            f"at most length: {window.length}",
        )
    for name in ("min_coverage", "min_maturity"):
        value = getattr(window, name)
        findings.require(0 <= value <= 1, (*at, name), f"got {value:g}", "a share from 0 to 1")


def _check_shares(asset_class: AssetClass, at: Path, findings: Findings) -> None:
    scoring, calibration = asset_class.scoring, asset_class.calibration
    findings.require(
        0 < scoring.smoothing <= 1,
        (*at, "scoring", "smoothing"),
        f"got {scoring.smoothing:g}",
        "above 0, at most 1",
    )
    findings.require(
        scoring.fit_windows >= 1, (*at, "scoring", "fit_windows"), f"got {scoring.fit_windows}", "1 or more"
    )
    findings.require(
        0.0 <= scoring.trim < 0.5,
        (*at, "scoring", "trim"),
        f"got {scoring.trim:g}",
        "0 or more, and less than 0.5",
    )
    at = (*at, "calibration")
    findings.require(0 < calibration.nu < 0.5, (*at, "nu"), f"got {calibration.nu:g}", "between 0 and 0.5")
    findings.require(
        0 < calibration.holdout < 1, (*at, "holdout"), f"got {calibration.holdout:g}", "between 0 and 1"
    )
    folds = calibration.folds
    findings.require(
        folds is None or 2 <= folds <= MOST_FOLDS,
        (*at, "folds"),
        f"got {folds}",
        f"2 to {MOST_FOLDS}, or null",
    )
    findings.require(calibration.enough > 0, (*at, "enough"), f"got {calibration.enough:g}", "above 0")
    findings.require(
        calibration.budget is None or calibration.budget > 0,
        (*at, "budget"),
        f"got {calibration.budget}",
        "incidents per asset and week, above 0, or null",
    )


def _check_tracking(tracking: Tracking, place: Path, findings: Findings) -> None:
    got = f"got {tracking.rate:g}"
    findings.require(0 < tracking.rate <= 1, (*place, "rate"), got, "above 0 and at most 1")
    got = f"got {tracking.max_total:g}"
    findings.require(tracking.max_total >= 1, (*place, "max_total"), got, "a factor of 1 or more")
    findings.require(tracking.publish > 0, (*place, "publish"), f"got {tracking.publish:g}", "above 0")


def _check_adaptation(asset_class: AssetClass, at: Path, findings: Findings) -> None:
    drift, alerting = asset_class.drift, asset_class.alerting
    place = (*at, "drift")
    findings.require(0 < drift.delta < 1, (*place, "delta"), f"got {drift.delta:g}", "between 0 and 1")
    findings.require(
        drift.max_step >= 1, (*place, "max_step"), f"got {drift.max_step:g}", "a factor of 1 or more"
    )
    findings.require(
        drift.max_total >= drift.max_step,
        (*place, "max_total"),
        f"{drift.max_total:g} is less than one step",
        f"at least max_step: {drift.max_step:g}",
    )
    findings.require(
        drift.max_declared >= drift.max_total,
        (*place, "max_declared"),
        f"{drift.max_declared:g} is less than max_total",
        f"at least max_total: {drift.max_total:g}",
    )
    _check_tracking(drift.tracking, (*place, "tracking"), findings)
    findings.require(
        drift.samples is None or drift.samples > 0,
        (*place, "samples"),
        f"got {drift.samples}",
        "1 or more, or null",
    )
    place = (*at, "alerting")
    findings.require(
        0 <= alerting.deadband < 1,
        (*place, "deadband"),
        f"got {alerting.deadband:g}",
        "a share from 0, below 1",
    )
    findings.require(
        0 <= alerting.criticality <= 1, (*place, "criticality"), f"got {alerting.criticality:g}", "0 to 1"
    )
    findings.require(
        alerting.realert is None or alerting.realert > 0,
        (*place, "realert"),
        "got 0s",
        "a time, or null for never",
    )
