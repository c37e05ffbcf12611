"""The configuration that a user would get: the defaults, with sensors and sampling as `nuwatch init` proposes them.

Nothing is taken for a fault of a sensor, because nobody says what the instruments can show or when they hold still: a
guessed range, or a stand-still, would mask what the process does. (When Tennessee Eastman's fault 6 shuts the process
down, half of its channels stop.) Sensors that look like set-points or states are context, as `init` takes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.data import Model, Series, Split
from monitor.proposal_rules import event_time, names_of, role_of, sampling_of, window_length
from monitor.quantities import NS_PER_S, Duration
from monitor.settings import SCORED_ROLES, AssetClass, Calibration, Role, Scoring, Sensor, Window

Scorers = Mapping[str, Mapping[str, Any]]
"""Options by scorer; empty: the default configuration's."""


def asset_class_of(model: Model, scorers: Scorers, seed: int) -> AssetClass:
    """The settings of a model's asset class.

    Args:
        model: its series; only rows before the test are looked at.
        scorers: options by scorer; empty: the default's.
        seed: of training.
    """
    base = model.template or _proposed(model)
    scoring = msgspec.structs.replace(base.scoring, seed=seed)
    if scorers:
        scoring = msgspec.structs.replace(scoring, scorers={name: dict(o) for name, o in scorers.items()})
    return msgspec.structs.replace(base, scoring=scoring)


def roles_of(model: Model) -> dict[str, Role]:
    """Role of each sensor by its name and what it shows before the test; if none were scored, all are."""
    if not model.learn:
        return dict.fromkeys(model.sensors, "pv")
    rows = np.concatenate([series.values[series.split != Split.TEST] for series in model.learn])
    fits = np.concatenate([_fitting(series) for series in model.learn])
    seen = np.isfinite(fits).any(axis=0)
    roles: dict[str, Role] = {}
    for column, name in enumerate(model.sensors):
        values = rows[:, column]
        roles[name] = role_of(name, values[np.isfinite(values)]) if seen[column] else "discrete"
    if not SCORED_ROLES.intersection(roles.values()):
        return {name: "pv" if seen[c] else roles[name] for c, name in enumerate(model.sensors)}
    return roles


def _fitting(series: Series) -> NDArray[np.float64]:
    """Rows that will fit the scaling for sure: a sensor without a reading there cannot be scored."""
    rows = series.values[series.split != Split.TEST]
    return rows[: int(len(rows) * (1.0 - Calibration().holdout))]


def description(model: Model) -> str:
    """What a model's settings came to, for people."""
    settings = asset_class_of(model, {}, 0)
    context = [f"{s.tag} ({s.role})" for s in settings.sensors.values() if s.role not in SCORED_ROLES]
    rows = sum(int(np.count_nonzero(series.split != Split.TEST)) for series in model.learn)
    told = (
        f"{model.name}: {rows} rows to learn from, one every {settings.sampling}; windows of "
        f"{settings.window.length}; {len(settings.sensors) - len(context)} sensors scored"
    )
    return told + (f"; context, not scored: {', '.join(context)}" if context else "")


def sampling(series: Sequence[Series]) -> Duration:
    """Median step between rows of series; a second where nothing can be said."""
    steps = np.concatenate([np.diff(one.time) for one in series]) if series else np.zeros(0, np.int64)
    return sampling_of(steps) or Duration(NS_PER_S)


def _proposed(model: Model) -> AssetClass:
    period = sampling(model.learn)
    roles = roles_of(model)
    names = names_of(model.sensors)
    rows = sum(int(np.count_nonzero(series.split != Split.TEST)) for series in model.learn)
    return AssetClass(
        assets=("*",),
        sampling=period,
        sensors={
            name: Sensor(unit="1", tag=column, role=roles[column])
            for name, column in zip(names, model.sensors, strict=True)
        },
        time=event_time(period),
        window=Window(length=window_length(rows)),
        scoring=Scoring(),
        calibration=_calibration(model),
    )


def _calibration(model: Model) -> Calibration:
    """Where rows are marked for calibration, they and no others are held out."""
    train, calib = (
        sum(int(np.count_nonzero(series.split == kind)) for series in model.learn)
        for kind in (Split.TRAIN, Split.CALIB)
    )
    if not calib or not train:
        return Calibration()
    return Calibration(holdout=calib / (train + calib))
