"""From known-good history to a bundle: split in time, scale, fit, calibrate on what fitted nothing.

The history is cut in time into three parts: `fit` (scaling and scorers), `scale` (each scorer's median and limit),
`limit` (the limit of the combined, smoothed ratio). A batch belongs to one part as a whole. What is calibrated goes
through the very grid, checks, windows and program that run live.

Shape letters: M slots, W windows, S scorers, C sensors, D scored sensors, K maturity classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.records import Batch
from models.bundle import Bundle, TrainedScorer, build_spec
from models.imputation import fit_imputation
from models.program import compile_program
from models.registry import get_scorer
from models.scorer import FitRefused, Params, Scorer, Windows
from monitor import __version__
from monitor.event_time.checks import Fault
from monitor.model import Group, Grouping, calibrated_with, scored_columns
from monitor.quantities import iso_time
from monitor.settings import AssetClass
from monitor.thresholds.declared import TrainedContexts
from monitor.thresholds.threshold import (
    Estimate,
    ThresholdRefused,
)
from monitor.training.calibration import Scored, TrainingProgress, calibrate, score_held_out
from monitor.training.history import (
    FIT,
    LIMIT,
    SCALE,
    Normal,
    Rows,
    TrainingRefused,
    collect,
    groups_of,
    scaled,
    windows_of,
)


class Trained(NamedTuple):
    """A bundle, and what a training report tells of it.

    Attributes:
        bundle: the artefact.
        estimate: of the limit of the combined, smoothed ratio.
        scorer_estimates: of each scorer's own limit, by name.
        curves: per scorer, its training curves.
        limit_ratios: [n] final ratios of the limit part, in time order per asset.
        counts: slots and windows of each part, and what was left out, by name.
        warnings: what a person should know.
    """

    bundle: Bundle
    estimate: Estimate
    scorer_estimates: dict[str, Estimate]
    curves: dict[str, Mapping[str, tuple[float, ...]]]
    limit_ratios: NDArray[np.float64]
    counts: dict[str, int]
    warnings: list[str]


def train(
    asset_class: AssetClass,
    name: str,
    batches: Iterable[Batch],
    *,
    config_hash: str,
    progress: TrainingProgress | None = None,
) -> Trained:
    """Train the bundle of one asset class.

    Args:
        asset_class: its settings.
        name: its name.
        batches: known-good history, in stream order; batches of other classes are passed over.
        config_hash: SHA-256 of the configuration, for the manifest.
        progress: told of stages and epochs.

    Raises:
        TrainingRefused: too little or unusable history, or a scorer that must not be used.
    """
    told = progress or TrainingProgress()
    told.stage("reading history")
    rows = collect(asset_class, (batch for batch in batches if batch.asset_class == name))
    try:
        return _train(asset_class, name, rows, config_hash, told)
    except (FitRefused, ThresholdRefused, ValueError) as error:
        raise TrainingRefused(f"asset class {name!r}: {error}") from error


def _train(
    asset_class: AssetClass, name: str, rows: Rows, config_hash: str, told: TrainingProgress
) -> Trained:
    groups = groups_of(asset_class, rows)
    grouping = Grouping(groups)
    normal, trajectory, plain = scaled(asset_class, rows, grouping)
    fit_rows = normal.part == FIT
    imputation = fit_imputation(
        jax.numpy.asarray(normal.z[fit_rows]), jax.numpy.asarray(normal.usable[fit_rows])
    )
    scorers, curves = _fit_scorers(asset_class, rows, normal, told)
    columns = scored_columns(asset_class)
    sensors = list(asset_class.sensors)
    draft = Bundle(
        sensors=tuple(sensors[c] for c in columns),
        length=asset_class.window.length,
        block=asset_class.scoring.block,
        scaling=plain,
        imputation=imputation,
        scorers=scorers,
    )
    program = compile_program(draft)
    told.stage("calibrating")
    scored = score_held_out(asset_class, rows, normal, program, told)
    scales, overall, each, ratios = calibrate(asset_class, scored, program)
    fields = _fields(asset_class, name, rows, groups, overall, config_hash)
    arrays = scales.to_arrays() | {
        "trajectory_mean": trajectory.mean,
        "trajectory_std": trajectory.std,
        "stuck_slots": rows.stuck_slots,
    }
    bundle = _completed(draft, arrays, fields)
    counts = _counts(normal, scored)
    return Trained(
        bundle, overall, each, curves, ratios, counts, _warnings(asset_class, rows, normal, overall)
    )


def _completed(draft: Bundle, arrays: Mapping[str, NDArray[Any]], fields: Mapping[str, Any]) -> Bundle:
    return Bundle(
        draft.sensors,
        draft.length,
        draft.block,
        draft.scaling,
        draft.imputation,
        draft.scorers,
        arrays,
        fields,
    )


def _fit_scorers(
    asset_class: AssetClass, rows: Rows, normal: Normal, told: TrainingProgress
) -> tuple[tuple[TrainedScorer, ...], dict[str, Mapping[str, tuple[float, ...]]]]:
    windows = _fit_windows(asset_class, rows, normal)
    keys = jax.random.split(jax.random.key(asset_class.scoring.seed), len(asset_class.scoring.scorers))
    fitted: list[TrainedScorer] = []
    curves: dict[str, Mapping[str, tuple[float, ...]]] = {}
    for key, (name, options) in zip(keys, asset_class.scoring.scorers.items(), strict=True):
        told.stage(f"fitting {name}")
        scorer = get_scorer(name)
        spec = build_spec(scorer.spec, options)
        result = scorer.fit(key, windows, spec, told.step, **_started(scorer, spec, fitted))
        fitted.append(TrainedScorer(name, spec, result.params))
        curves[name] = result.curves
    return tuple(fitted), curves


def _started(scorer: Scorer, spec: Any, fitted: Sequence[TrainedScorer]) -> dict[str, Params]:
    """What a scorer can start from: another one of the same size that is fitted already."""
    for one in fitted:
        same = all(getattr(one.spec, name, None) == getattr(spec, name, None) for name in ("hidden", "tail"))
        if one.name == scorer.starts_from and same:
            return {"pretrained": one.params}
    return {}


def _fit_windows(asset_class: AssetClass, rows: Rows, normal: Normal) -> Windows:
    """Windows of the FIT part in order of time, evenly thinned to `scoring.fit_windows`."""
    wanted = asset_class.scoring.fit_windows
    every = max(1, int(np.count_nonzero(normal.part == FIT) // (wanted * asset_class.window.stride)))
    values: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.bool_]] = []
    ends: list[NDArray[np.int64]] = []
    for chunk in windows_of(asset_class, rows, normal):
        turn = rows.slots.slot[chunk.closing] // asset_class.window.stride
        kept = (normal.part[chunk.closing] == FIT) & (turn % every == 0)
        values.append(chunk.values[kept])
        masks.append(chunk.mask[kept])
        ends.append(rows.slots.end[chunk.closing[kept]])
    order = np.argsort(np.concatenate(ends), kind="stable")
    if not len(order):
        raise FitRefused(
            f"got no window of {asset_class.window.length} samples in the first "
            f"{1 - asset_class.calibration.holdout:.0%} of the history; hint: give a longer history or a "
            "shorter `window.length`"
        )
    return Windows(np.concatenate(values)[order], np.concatenate(masks)[order])  # type: ignore[arg-type] # NumPy until the scorer takes them


def _trained_contexts(asset_class: AssetClass, rows: Rows) -> TrainedContexts:
    used = [rows.contexts[c] for c in np.unique(rows.slots.context)]
    setpoints: dict[str, tuple[float, float]] = {}
    for column, (name, sensor) in enumerate(asset_class.sensors.items()):
        values = rows.slots.values[:, column]
        if sensor.role == "setpoint" and np.isfinite(values).any():
            setpoints[name] = (float(np.nanmin(values)), float(np.nanmax(values)))
    return TrainedContexts(
        frozenset(c.recipe for c in used if c.recipe is not None),
        frozenset(c.phase for c in used if c.phase is not None),
        setpoints,
    )


def _fields(
    asset_class: AssetClass,
    name: str,
    rows: Rows,
    groups: Sequence[Group] | None,
    overall: Estimate,
    config_hash: str,
) -> dict[str, Any]:
    sensors = list(asset_class.sensors)
    return {
        "asset_class": name,
        "all_sensors": sensors,
        "units": [asset_class.sensors[sensors[c]].unit for c in scored_columns(asset_class)],
        "sampling_ns": int(asset_class.sampling),
        "calibrated_with": calibrated_with(asset_class),
        "groups": None if groups is None else [list(group) for group in groups],
        "contexts": _trained_contexts(asset_class, rows).to_json(),
        "trained_from": iso_time(int(rows.slots.end.min())),
        "trained_to": iso_time(int(rows.slots.end.max())),
        "assets": sorted(rows.assets),
        "calibration": msgspec.to_builtins(overall),
        "config": config_hash,
        "nuwatch": __version__,
    }


def _counts(normal: Normal, scored: Mapping[int, Scored]) -> dict[str, int]:
    return {
        "slots": len(normal.part),
        "slots_fit": int(np.count_nonzero(normal.part == FIT)),
        "windows_scale": len(scored[SCALE].row),
        "windows_limit": len(scored[LIMIT].row),
    }


def _warnings(asset_class: AssetClass, rows: Rows, normal: Normal, overall: Estimate) -> list[str]:
    found: list[str] = []
    if not overall.enough:
        found.append(
            f"UNCALIBRATED: {overall.n} held-out windows hold {overall.n_eff:.0f} independent ones; "
            f"nu {overall.nu:g} needs {overall.missing} more windows of the same kind"
        )
    for number, asset in enumerate(rows.assets):
        parts = set(normal.part[rows.slots.row == number].tolist())
        if FIT in parts and len(parts) == 1:
            found.append(f"asset {asset}: all its history fits the models, none of it is held out")
        elif FIT not in parts:
            found.append(f"asset {asset}: all its history is held out, none of it fits the models")
    for column, name in enumerate(asset_class.sensors):
        share = float(np.mean(rows.faults[:, column] != Fault.NONE))
        if share > 0.01:
            found.append(f"sensor {name}: {share:.1%} of the history is faulty and was left out")
    return found


def configuration_hash(text: str) -> str:
    """SHA-256 of a configuration's text."""
    return hashlib.sha256(text.encode()).hexdigest()
