"""From known-good history to a bundle: split in time, scale, fit, calibrate on what fitted nothing.

The history is cut in time into three parts: `fit` (scaling and scorers), `scale` (each scorer's median and limit),
`limit` (the limit of the combined, smoothed ratio). Where that leaves too few windows for nu, it is cut into
contiguous folds: all of it fits the models, and each fold is scored by models fitted without it. A batch belongs to
one part or fold as a whole. What is calibrated goes through the very grid, checks, windows and program that run live.

Shape letters: M slots, W windows, S scorers, C sensors, D scored sensors, K maturity classes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.records import Batch
from models.bundle import Bundle
from models.program import compile_program
from models.scorer import FitRefused
from monitor import __version__
from monitor.evaluation.realised import Counted, Realised, realised
from monitor.event_time.checks import Fault
from monitor.model import Group, Grouping, calibrated_with, scored_columns
from monitor.quantities import Duration, iso_time
from monitor.settings import AssetClass
from monitor.thresholds.declared import TrainedContexts
from monitor.thresholds.threshold import Estimate, ThresholdRefused
from monitor.training.bands import normal_bands
from monitor.training.budget import Budget, shortfall, window_period, within_reach, would_raise
from monitor.training.calibration import Calibrated, Evidence, from_folds, from_parts, runs_of
from monitor.training.centre import centre_limits
from monitor.training.choice import Choice, resolve
from monitor.training.embedding import Embedding, Look, embed, unseen_text
from monitor.training.fit import Curves, Fit, FitScorer, fit, fit_anew
from monitor.training.history import (
    FIT,
    LIMIT,
    SCALE,
    Normal,
    Rows,
    TrainingRefused,
    collect,
    groups_of,
    parts_of,
)
from monitor.training.masking import Missing, study
from monitor.training.progress import TrainingProgress
from monitor.training.scores import Scored, held_out, out_of_fold
from monitor.training.trimming import Trimming, capped_text, trim


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
        choice: with `scorers: auto`, what was chosen and why.
        budget: what came of a budget in incidents; None without one.
        realised: what became of nu in the windows that set the limit, by asset, recipe and phase.
        limit_runs: lengths of the unbroken runs that ``limit_ratios`` is made of.
        trimming: what of the history was left out as unlike the rest; None where nothing may be.
        embedding: windows as the scorers see them; None where nobody asked, or where they are too few.
    """

    bundle: Bundle
    estimate: Estimate
    scorer_estimates: dict[str, Estimate]
    curves: dict[str, Mapping[str, tuple[float, ...]]]
    limit_ratios: NDArray[np.float64]
    counts: dict[str, int]
    warnings: list[str]
    choice: Choice | None = None
    budget: Budget | None = None
    realised: tuple[Realised, ...] = ()
    limit_runs: tuple[int, ...] = ()
    trimming: Trimming | None = None
    embedding: Embedding | None = None


def train(
    asset_class: AssetClass,
    name: str,
    batches: Iterable[Batch],
    *,
    config_hash: str,
    progress: TrainingProgress | None = None,
    fit_scorer: FitScorer = fit_anew,
    look: Look | None = None,
) -> Trained:
    """Train the bundle of one asset class.

    Args:
        asset_class: its settings.
        name: its name.
        batches: known-good history, in stream order; batches of other classes are passed over.
        config_hash: SHA-256 of the configuration, for the manifest.
        progress: told of stages and epochs.
        fit_scorer: fits each scorer; who trains much that is alike may remember fits.
        look: lay out windows as the scorers see them, which takes seconds; None: no.

    Raises:
        TrainingRefused: too little or unusable history, or a scorer that must not be used.
    """
    told = progress or TrainingProgress()
    told.stage("reading history")
    rows = collect(asset_class, (batch for batch in batches if batch.asset_class == name))
    try:
        if asset_class.scoring.trim:
            told.stage("trimming")
        rows, trimming = trim(asset_class, rows)
        settled, choice = resolve(asset_class, rows, told)
        found = _train(settled, name, rows, config_hash, told, fit_scorer, look)
        trained = _explained(found, choice)
        return _trimmed(trained, trimming)
    except (FitRefused, ThresholdRefused, ValueError) as error:
        raise TrainingRefused(f"asset class {name!r}: {error}") from error


def _train(
    asset_class: AssetClass,
    name: str,
    rows: Rows,
    config_hash: str,
    told: TrainingProgress,
    fit_scorer: FitScorer,
    look: Look | None,
) -> Trained:
    groups = groups_of(asset_class, rows)
    fit_of = _Fitting(asset_class, rows, Grouping(groups), fit_scorer)
    learnt = _learn(asset_class, rows, fit_of, told)
    scales, overall, each, ratios, windows, budget = learnt.calibrated
    fitted = learnt.fit
    bands = normal_bands(fitted.normal, fitted.draft.imputation)
    arrays = (
        scales.to_arrays()
        | bands.to_arrays()
        | {
            "trajectory_mean": fitted.trajectory.mean,
            "trajectory_std": fitted.trajectory.std,
            "stuck_slots": rows.stuck_slots,
            "centre_limits": centre_limits(asset_class, rows, fitted.normal),
        }
    )
    fields = _fields(asset_class, name, rows, groups, overall, config_hash)
    fields |= {} if budget is None else {"budget": msgspec.to_builtins(budget)}
    bundle = _completed(fitted.draft, arrays, fields)
    warnings = _warnings(asset_class, rows, fitted.normal, learnt.calibrated)
    embedding = None
    if look is not None:
        embedding = embed(asset_class, bundle, (rows, fitted.normal), (windows, ratios), look, told)
        warnings += unseen_text(look, embedding)
    return Trained(
        bundle,
        overall,
        each,
        dict(fitted.curves),
        ratios,
        learnt.counts,
        warnings,
        budget=budget,
        realised=realised(_counted(asset_class, rows, windows, ratios), overall.nu),
        limit_runs=tuple(runs_of(windows)),
        embedding=embedding,
    )


def _counted(asset_class: AssetClass, rows: Rows, windows: Scored, final: NDArray[np.float64]) -> Counted:
    """The calibration windows with the incidents that their limit would have raised."""
    began = np.zeros(len(final), np.bool_)
    began[would_raise(asset_class, windows.row, windows.end, final)] = True
    return Counted(
        assets=rows.assets,
        asset=windows.row,
        contexts=rows.contexts,
        context=rows.slots.context[windows.closing],
        over=final > 1.0,
        began=began,
        period=np.full(len(final), window_period(asset_class), np.int64),
    )


class _Learnt(NamedTuple):
    fit: Fit
    calibrated: Calibrated
    counts: dict[str, int]


class _Fitting:
    """Fits of one history; those without a fold go through no more epochs than the one of all of it."""

    def __init__(
        self, asset_class: AssetClass, rows: Rows, grouping: Grouping, fit_scorer: FitScorer
    ) -> None:
        self._fixed = (asset_class, rows, grouping)
        self._fit_scorer = fit_scorer
        self._like: Curves = {}

    def __call__(self, part: NDArray[np.int8], told: TrainingProgress) -> Fit:
        return fit(*self._fixed, part, told, self._like, self._fit_scorer)

    def whole(self, told: TrainingProgress) -> Fit:
        """Fit all the history."""
        rows = self._fixed[1]
        fitted = self(np.full(len(rows.slots.row), FIT, np.int8), told)
        self._like = fitted.curves
        return fitted


def _learn(asset_class: AssetClass, rows: Rows, fit_of: _Fitting, told: TrainingProgress) -> _Learnt:
    """By held-out parts or by folds, as `calibration.method` says; 'auto' prefers parts, if they are enough."""
    settings = asset_class.calibration
    if settings.method == "folds":
        return _by_folds(asset_class, rows, fit_of, told)
    part = parts_of(asset_class, rows.slots)
    most = np.count_nonzero(part == LIMIT) / asset_class.window.stride
    hopeful = most * settings.nu >= settings.enough and within_reach(asset_class, math.ceil(most))
    if settings.method == "auto" and not hopeful:
        return _by_folds(asset_class, rows, fit_of, told)
    learnt = _by_parts(asset_class, rows, part, fit_of, told)
    if settings.method == "holdout" or learnt.calibrated.estimate.enough:
        return learnt
    return _by_folds(asset_class, rows, fit_of, told)


def _by_parts(
    asset_class: AssetClass,
    rows: Rows,
    part: NDArray[np.int8],
    fit_of: _Fitting,
    told: TrainingProgress,
) -> _Learnt:
    fitted = fit_of(part, told)
    program = compile_program(fitted.draft)
    told.stage("calibrating")
    scored = held_out(asset_class, rows, fitted.normal, program, told)
    studies = [study(asset_class, rows, fitted.normal, program, SCALE)]
    evidence = Evidence(studies, Missing(asset_class, rows, fitted.normal), program.scorers)
    calibrated = from_parts(asset_class, scored[SCALE], scored[LIMIT], evidence)
    counts = {
        "slots": len(part),
        "slots_fit": int(np.count_nonzero(fitted.normal.fits)),
        "windows_scale": len(scored[SCALE].row),
        "windows_limit": len(scored[LIMIT].row),
    }
    return _Learnt(fitted, calibrated, counts)


def _by_folds(asset_class: AssetClass, rows: Rows, fit_of: _Fitting, told: TrainingProgress) -> _Learnt:
    fitted = fit_of.whole(told)
    scored, studies, folds = out_of_fold(asset_class, rows, fitted, fit_of, told)
    told.stage("calibrating")
    names = [scorer.name for scorer in fitted.draft.scorers]
    missing = Missing(asset_class, rows, fitted.normal._replace(part=folds))
    counts = {
        "slots": len(fitted.normal.part),
        "slots_fit": len(fitted.normal.part),
        "folds": len(np.unique(scored.fold)),
        "windows_folds": len(scored.row),
    }
    calibrated = from_folds(asset_class, scored, Evidence(studies, missing, names))
    return _Learnt(fitted, calibrated, counts)


def _explained(trained: Trained, choice: Choice | None) -> Trained:
    """With what was chosen and why, in the bundle too."""
    if choice is None:
        return trained
    fields = {**trained.bundle.fields, "chosen": choice.to_json()}
    return trained._replace(bundle=dataclasses.replace(trained.bundle, fields=fields), choice=choice)


def _trimmed(trained: Trained, trimming: Trimming | None) -> Trained:
    """With what was left out, in the bundle and its warnings too."""
    if trimming is None:
        return trained
    fields = {**trained.bundle.fields, "trimmed": msgspec.to_builtins(trimming)}
    return trained._replace(
        bundle=dataclasses.replace(trained.bundle, fields=fields),
        trimming=trimming,
        warnings=[*trained.warnings, *capped_text(trimming)],
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


def _warnings(asset_class: AssetClass, rows: Rows, normal: Normal, calibrated: Calibrated) -> list[str]:
    found: list[str] = []
    overall, budget = calibrated.estimate, calibrated.budget
    if budget is not None and not budget.supported:
        found.append(f"UNCALIBRATED: {shortfall(budget)}")
    elif not overall.enough:
        found.append(
            f"UNCALIBRATED: {overall.n} {overall.source.split()[0]} windows hold {overall.n_eff:.0f} independent ones; "
            f"nu {overall.nu:g} needs {overall.missing} more windows of the same kind, {_history(asset_class, overall)}"
        )
    for number, asset in enumerate(rows.assets if LIMIT in normal.part else ()):
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


def _history(asset_class: AssetClass, overall: Estimate) -> str:
    """The further history that the missing windows are: of one that is held out, only a share sets the limit."""
    share = asset_class.calibration.holdout / 2 if overall.source.startswith("held-out") else 1.0
    windows = math.ceil(overall.missing / share)
    return f"about {Duration(windows * window_period(asset_class))} of one asset"


def configuration_hash(text: str) -> str:
    """SHA-256 of a configuration's text."""
    return hashlib.sha256(text.encode()).hexdigest()
