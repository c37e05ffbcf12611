"""What is known when an incident's event happens, read off the pass in which it happened."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from connectors.records import NO_CONTEXT, Context
from monitor.alerting import alert_data
from monitor.alerting.alerts import Facts, Readings, contributions_of
from monitor.alerting.incidents import Kind
from monitor.event_time.checks import Fault, untrusted
from monitor.excursions import INSIDE
from monitor.fold import Fold
from monitor.passes import Happening, Pass
from monitor.quantities import iso_time
from monitor.thresholds.adaptation import State
from monitor.thresholds.adaptation_events import AwaitingApproval, Recentred, Refused
from monitor.thresholds.threshold import p_value
from monitor.thresholds.tracking import Gate


class Identity(NamedTuple):
    """What judged: the same for all alerts of one run.

    Attributes:
        bundle: content hash of the bundle.
        trained_to: end of the training history, ISO 8601.
        config: SHA-256 of the configuration.
    """

    bundle: str
    trained_to: str | None
    config: str


def facts_of(fold: Fold, done: Pass, happening: Happening, identity: Identity) -> Facts:
    """The facts of one event; what does not belong to its kind stays None."""
    batch = _batch(done.contexts[int(done.slots.context[happening.slot])])
    if happening.track.kind is Kind.SENSOR_FAULT:
        return Facts(fault=_fault(fold, done, happening), batch=batch)
    if happening.window < 0:
        return Facts(
            batch=batch, model=alert_data.Model(identity.bundle, identity.trained_to, identity.config)
        )
    window = _window(fold, done, happening)
    model = alert_data.Model(identity.bundle, identity.trained_to, identity.config)
    drift = alert_data.Drift(
        state=State(int(done.rated.drift[happening.window])).name,
        gate=Gate(int(done.rated.gate[happening.window])).name,
        over=int(done.rated.recent[happening.window]),
    )
    if happening.track.kind is Kind.DATA_GAP:
        return Facts(window=window, batch=batch)
    if happening.track.kind is not Kind.ANOMALY:
        return Facts(window=window, drift=drift, model=model, batch=batch)
    return Facts(
        window=window,
        score=_score(fold, done, happening),
        contributions=_contributions(fold, done, happening),
        first_moved=_first_moved(fold, done, happening),
        drift=drift,
        model=model,
        batch=batch,
    )


def decision_of(event: AwaitingApproval | Refused, version: int) -> alert_data.Decision:
    """What a person is told of a decision that is wanted, or of something that was not carried out.

    Args:
        event: of the threshold's life.
        version: in force.
    """
    if isinstance(event, Refused):
        return alert_data.Decision("REFUSED", event.why, version, None, None)
    proposed = event.proposed
    if proposed is None:
        return alert_data.Decision("WANTED", event.reason, version, None, None)
    return alert_data.Decision("WANTED", event.reason, version, proposed.version, proposed.new_limit)


def recentring_of(event: Recentred) -> alert_data.Recentring:
    """What is told of centres that have moved."""
    return alert_data.Recentring(
        tuple(
            alert_data.Recentred(sensor, before=before, after=after)
            for sensor, (before, after) in event.moved.items()
        )
    )


def _window(fold: Fold, done: Pass, happening: Happening) -> alert_data.Window:
    settings = fold.settings
    end = int(done.slots.end[happening.slot])
    start = end - (settings.window.length - 1) * settings.sampling
    coverage = float(done.rated.coverage[happening.window])
    return alert_data.Window(
        start=iso_time(start), end=iso_time(end), length=settings.window.length, coverage=coverage
    )


def _score(fold: Fold, done: Pass, happening: Happening) -> alert_data.Score:
    rated, w = done.rated, happening.window
    scales, limits = fold.model.scales, rated.scorer_limit[w]
    kind = int(scales.kind(rated.maturity[w : w + 1])[0])
    shift, stretch = rated.mask_shift[w], rated.mask_stretch[w]
    factor = np.maximum(
        rated.verdict_factor[w], 1e-9
    )  # a score that no verdict counts has no limit to speak of
    per_scorer: dict[str, alert_data.ScorerScore] = {}
    for s, name in enumerate(fold.model.program.scorers):
        median, limit = scales.median[s, kind], scales.limit[s, kind]
        per_scorer[name] = alert_data.ScorerScore(
            value=float(rated.score[w, s]),
            threshold=float(median + (limit - median) * (shift[s] + stretch[s] * limits[s] / factor[s])),
            ratio=float(rated.scorer_ratio[w, s]),
            p_value=float(p_value(scales.scores[s], rated.on_scale[w, s])),
        )
    return alert_data.Score(
        ratio=float(rated.ratio[w]),
        threshold=float(rated.final_limit[w]),
        threshold_version=int(rated.version[w]),
        p_value=float(p_value(scales.final_scores, rated.ratio[w])),
        nu=fold.model.nu,
        per_scorer=per_scorer,
    )


def _contributions(fold: Fold, done: Pass, happening: Happening) -> tuple[alert_data.Contribution, ...]:
    rated, w, at = done.rated, happening.window, happening.slot
    model = fold.model
    group, index = np.maximum(done.group[at : at + 1], 0), done.age[at : at + 1]
    expected, low, high = (
        model.trajectory.inverse(z[w : w + 1], group, index)[0]
        for z in (rated.expected, rated.low, rated.high)
    )
    masked = untrusted(done.faults[at : at + 1])[0, model.columns]
    return contributions_of(
        model.sensors,
        [fold.settings.sensors[name].unit for name in model.sensors],
        rated.share[w],
        Readings(
            observed=np.where(masked, np.nan, done.slots.values[at, model.columns]),
            expected=expected,
            low=low,
            high=high,
            sigma=model.trajectory.at(group, index)[1][0] * rated.sigma[w],
            quality=done.slots.quality[at, model.columns],
        ),
    )


def _first_moved(fold: Fold, done: Pass, happening: Happening) -> tuple[alert_data.FirstMoved, ...]:
    """Sensors that have left their bands in order of time; of those that left together the larger share first."""
    left, share = done.rated.left[happening.window], done.rated.share[happening.window]
    order = np.lexsort((-share, left))[: alert_data.MAX_CONTRIBUTIONS]
    return tuple(
        alert_data.FirstMoved(sensor=fold.model.sensors[d], at=iso_time(int(left[d])))
        for d in order.tolist()
        if left[d] != INSIDE
    )


def _fault(fold: Fold, done: Pass, happening: Happening) -> alert_data.Fault | None:
    name = happening.track.subject
    column = list(fold.settings.sensors).index(name)
    code = Fault(int(done.faults[happening.slot, column]))
    if code is Fault.NONE:
        return None
    sensor = fold.settings.sensors[name]
    low, high = sensor.range or (None, None)
    value = float(done.slots.values[happening.slot, column])
    return alert_data.Fault(
        code=code.name, unit=sensor.unit, value=value if np.isfinite(value) else None, low=low, high=high
    )


def _batch(context: Context) -> alert_data.Batch | None:
    if context == NO_CONTEXT:
        return None
    return alert_data.Batch(
        batch_id=context.batch_id, lot=context.lot, recipe=context.recipe, phase=context.phase
    )
