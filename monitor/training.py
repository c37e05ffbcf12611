"""From known-good history to a bundle: split in time, scale, fit, calibrate on what fitted nothing.

The history is cut in time into three parts: `fit` (scaling and scorers), `scale` (each scorer's median and limit),
`limit` (the limit of the combined, smoothed ratio). A batch belongs to one part as a whole. What is calibrated goes
through the very grid, checks, windows and program that run live.

Shape letters: M slots, W windows, S scorers, C sensors, D scored sensors, K maturity classes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.records import Batch, Context
from models.bundle import Bundle, TrainedScorer, build_spec
from models.imputation import fit_imputation
from models.program import Program, compile_program
from models.registry import get_scorer
from models.scaling import fit_scaling
from models.scorer import FitRefused, Params, Scorer, Windows
from models.trajectory import Trajectory, fit_trajectory
from monitor import __version__
from monitor.errors import NuwatchError
from monitor.event_time.checks import Fault, SensorChecks, normal_stuck_slots, stuck_slots
from monitor.event_time.grid import Grid, Slots
from monitor.event_time.history import History
from monitor.model import Group, Grouping, Scales, calibrated_with, group_of, scored_columns
from monitor.quantities import iso_time
from monitor.settings import AssetClass
from monitor.thresholds.declared import TrainedContexts
from monitor.thresholds.reestimate import combine
from monitor.thresholds.smoothing import Segments, Smoother
from monitor.thresholds.threshold import (
    Estimate,
    ThresholdRefused,
    autocorrelation_time,
    estimate,
    nu_quantile,
    ratio,
)

FIT, SCALE, LIMIT = 0, 1, 2
_CHUNK = 4096
_MAX_KEPT = 65_536
"""Calibration scores kept in a bundle per scorer; more are thinned to evenly spaced order statistics."""


class TrainingRefused(NuwatchError):  # noqa: N818 - names what happened
    """The history cannot give a monitor whose threshold means anything."""


class TrainingProgress:
    """What is told while training; the default tells nothing."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        """Progress within the stage."""


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


class _Rows(NamedTuple):
    """The whole history as slots sorted by asset and time, with their contexts interned once."""

    slots: Slots
    contexts: list[Context]
    faults: NDArray[np.uint8]
    stuck_slots: NDArray[np.int64]
    assets: tuple[str, ...]


class _Normal(NamedTuple):
    """Scaled history.

    Attributes:
        z: [M, D] z-scores, 0 where masked.
        usable: [M, D] True where a value stands.
        weight: [M, D] how much of it is real.
        part: [M] FIT, SCALE or LIMIT.
        segment: [M] slot at which the stretch began.
    """

    z: NDArray[np.float32]
    usable: NDArray[np.bool_]
    weight: NDArray[np.float32]
    part: NDArray[np.int8]
    segment: NDArray[np.int64]


class _Scored(NamedTuple):
    """Scored windows of one part, sorted by asset and time."""

    row: NDArray[np.int32]
    slot: NDArray[np.int64]
    segment: NDArray[np.int64]
    end: NDArray[np.int64]
    maturity: NDArray[np.int32]
    score: NDArray[np.float32]


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
    rows = _collect(asset_class, (batch for batch in batches if batch.asset_class == name))
    try:
        return _train(asset_class, name, rows, config_hash, told)
    except (FitRefused, ThresholdRefused, ValueError) as error:
        raise TrainingRefused(f"asset class {name!r}: {error}") from error


def _train(
    asset_class: AssetClass, name: str, rows: _Rows, config_hash: str, told: TrainingProgress
) -> Trained:
    groups = _groups(asset_class, rows)
    grouping = Grouping(groups)
    normal, trajectory, plain = _scaled(asset_class, rows, grouping)
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
    scored = _score(asset_class, rows, normal, program, told)
    scales, overall, each, ratios = _calibrate(asset_class, scored, program)
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


def _collect(asset_class: AssetClass, batches: Iterable[Batch]) -> _Rows:
    """Run the history through grid and checks; slots come back sorted by asset and time."""
    grid = Grid(asset_class)
    numbers: dict[str, int] = {}
    interned: dict[Context, int] = {}
    parts: list[Slots] = []
    for batch in batches:
        known = np.array([numbers.setdefault(asset, len(numbers)) for asset in batch.assets], np.int32)
        grid.grow(len(numbers))
        result = grid.push(known[batch.asset], batch)
        table = np.array([interned.setdefault(c, len(interned)) for c in result.contexts], np.int32)
        parts.append(result.slots._replace(context=table[result.slots.context]))
    if not parts or not sum(len(p.row) for p in parts):
        raise TrainingRefused(
            "got no closed slot, expected history of this asset class; "
            "hint: check `assets`, the time range and, for files, the column mapping"
        )
    joined: list[Any] = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    order = np.lexsort((joined[1], joined[0]))
    slots = Slots(*(column[order] for column in joined))
    stuck = _stuck_limits(asset_class, slots)
    checks = SensorChecks(asset_class, stuck)
    checks.grow(len(numbers))
    return _Rows(slots, list(interned), checks.step(slots).code, stuck, tuple(numbers))


def _stuck_limits(asset_class: AssetClass, slots: Slots) -> NDArray[np.int64]:
    """Declared stuck times in samples, else three times the longest normal stand-still."""
    deadband = np.array([sensor.deadband for sensor in asset_class.sensors.values()])
    readings = np.where(slots.real > 0, slots.values, np.nan)
    runs = np.split(readings, np.flatnonzero(np.diff(slots.row)) + 1)
    return stuck_slots(asset_class, normal_stuck_slots(runs, deadband))


def _groups(asset_class: AssetClass, rows: _Rows) -> list[Group] | None:
    if not asset_class.batches.align:
        return None
    used = {group_of(rows.contexts[c]) for c in np.unique(rows.slots.context)}
    return sorted(used, key=lambda group: (group[0] or "", group[1] or ""))


def _scaled(asset_class: AssetClass, rows: _Rows, grouping: Grouping) -> tuple[_Normal, Trajectory, Any]:
    slots, columns = rows.slots, scored_columns(asset_class)
    values = slots.values[:, columns]
    usable = np.isfinite(values) & (rows.faults[:, columns] == Fault.NONE)
    part = _parts(asset_class, slots)
    fits = part == FIT
    real = usable & (slots.real[:, columns] > 0)
    sensors = [list(asset_class.sensors.values())[c] for c in columns]
    floor = np.array([sensor.sigma_floor for sensor in sensors]) * np.sqrt(12.0)
    span = np.array([0.0 if s.range is None else s.range[1] - s.range[0] for s in sensors])
    plain = fit_scaling(values[fits], real[fits], floor, span)
    group = grouping.of(rows.contexts, slots.context)
    index = grouping.index(slots.slot, slots.batch_start, slots.phase_start)
    trajectory = Trajectory(plain.mean[None, None], plain.std[None, None])
    if asset_class.batches.align:
        trajectory = fit_trajectory(values[fits], real[fits], group[fits], index[fits], plain)
    z = np.where(usable, trajectory.z(values, group, index), np.float32(0)).astype(np.float32)
    weight = np.where(usable, slots.real[:, columns], np.float32(0)).astype(np.float32)
    segments = Segments()
    segments.grow(len(rows.assets))
    segment = segments.step(slots.row, slots.slot, slots.fresh)
    return _Normal(z, usable, weight, part, segment), trajectory, plain


def _parts(asset_class: AssetClass, slots: Slots) -> NDArray[np.int8]:
    """Part of each slot: cut in time so that the shares of slots are right; a batch goes where it began."""
    holdout = asset_class.calibration.holdout
    anchor = np.where(slots.batch_start >= 0, slots.batch_start, slots.slot)
    first, second = np.quantile(slots.slot, [1.0 - holdout, 1.0 - holdout / 2.0])
    return ((anchor >= first).astype(np.int8) + (anchor >= second).astype(np.int8)).astype(np.int8)


class _Chunk(NamedTuple):
    closing: NDArray[np.int64]
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    maturity: NDArray[np.int32]


def _windows(asset_class: AssetClass, rows: _Rows, normal: _Normal) -> Iterator[_Chunk]:
    """Windows that may be scored and that lie in one part as a whole, with their closing slot's index."""
    slots, window = rows.slots, asset_class.window
    history = History(window.length, window.stride, normal.z.shape[1])
    history.grow(len(rows.assets))
    for low in range(0, len(slots.row), _CHUNK):
        at = slice(low, low + _CHUNK)
        ready = history.push(
            slots.row[at], slots.slot[at], slots.fresh[at], normal.z[at], normal.usable[at], normal.weight[at]
        )
        index = ready.last + low
        in_batch = slots.batch_start[index] >= 0
        needed = np.where(in_batch, least_maturity(asset_class), window.length)
        oldest = np.maximum(index - ready.maturity + 1, 0)
        fits = (ready.maturity >= needed) & (ready.coverage >= window.min_coverage)
        fits &= normal.part[oldest] == normal.part[index]
        yield _Chunk(index[fits], ready.values[fits], ready.mask[fits], ready.maturity[fits])


def least_maturity(asset_class: AssetClass) -> int:
    """Samples of a batch that the first scored window needs."""
    return max(1, math.ceil(asset_class.window.min_maturity * asset_class.window.length))


def _fit_scorers(
    asset_class: AssetClass, rows: _Rows, normal: _Normal, told: TrainingProgress
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


def _fit_windows(asset_class: AssetClass, rows: _Rows, normal: _Normal) -> Windows:
    """Windows of the FIT part in order of time, evenly thinned to `scoring.fit_windows`."""
    wanted = asset_class.scoring.fit_windows
    every = max(1, int(np.count_nonzero(normal.part == FIT) // (wanted * asset_class.window.stride)))
    values: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.bool_]] = []
    ends: list[NDArray[np.int64]] = []
    for chunk in _windows(asset_class, rows, normal):
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


def _score(
    asset_class: AssetClass, rows: _Rows, normal: _Normal, program: Program, told: TrainingProgress
) -> dict[int, _Scored]:
    """Scores of the held-out windows, by part."""
    found: dict[int, list[_Scored]] = {SCALE: [], LIMIT: []}
    done = 0
    for chunk in _windows(asset_class, rows, normal):
        for part in (SCALE, LIMIT):
            mine = normal.part[chunk.closing] == part
            if not mine.any():
                continue
            index = chunk.closing[mine]
            score = program(chunk.values[mine], chunk.mask[mine]).score
            slots = rows.slots
            found[part].append(
                _Scored(
                    slots.row[index],
                    slots.slot[index],
                    normal.segment[index],
                    slots.end[index],
                    chunk.maturity[mine],
                    score,
                )
            )
        done += _CHUNK
        told.step(min(done, len(normal.part)), len(normal.part), {})
    return {part: _joined(part, parts) for part, parts in found.items()}


def _joined(part: int, parts: list[_Scored]) -> _Scored:
    if not parts:
        where = {SCALE: "scale", LIMIT: "limit"}[part]
        raise ThresholdRefused(
            f"got no held-out window in the {where} part; hint: give a longer history or a larger "
            "`calibration.holdout`"
        )
    columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
    joined = _Scored(*columns)
    finite = np.isfinite(joined.score).all(axis=1)
    if not finite.all():
        raise FitRefused(f"{np.count_nonzero(~finite)} held-out windows got a score that is not a number")
    return joined


def _calibrate(
    asset_class: AssetClass, scored: Mapping[int, _Scored], program: Program
) -> tuple[Scales, Estimate, dict[str, Estimate], NDArray[np.float64]]:
    settings, scale, limit = asset_class.calibration, scored[SCALE], scored[LIMIT]
    maturity = _maturity_classes(asset_class, scale)
    median, limits = _scorer_limits(settings.nu, scale, maturity)
    blank = Scales(maturity, median, limits, (), 0.0, 1.0, np.zeros(0), 1.0, 1.0)
    on_scale = blank.on_scale(limit.score, limit.maturity)
    smooth = smoothed(asset_class, limit.row, limit.slot, limit.segment, on_scale)
    overall = _estimate(asset_class, smooth, limit, "held-out combined, smoothed ratios")
    both = np.concatenate([blank.on_scale(scale.score, scale.maturity), on_scale])
    final = ratio(smooth, overall.median, overall.threshold)
    scales = blank._replace(
        scores=tuple(_kept(both[:, s]) for s in range(both.shape[1])),
        final_median=overall.median,
        final_limit=overall.threshold,
        final_scores=_kept(final),
        tau=overall.tau,
    )
    scales = scales._replace(rank_tau=_rank_tau(scales.ranks(on_scale), limit))
    each = {
        name: _estimate(
            asset_class, scale.score[:, s].astype(np.float64), scale, f"held-out scores of {name}"
        )
        for s, name in enumerate(program.scorers)
    }
    return scales, overall, each, final


def smoothed(
    asset_class: AssetClass,
    row: NDArray[np.int32],
    slot: NDArray[np.int64],
    segment: NDArray[np.int64],
    ratios: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Combined, smoothed ratios [W] of windows sorted by asset and time, by the stage that runs live."""
    smoother = Smoother(asset_class.scoring.smoothing, asset_class.window.length)
    smoother.grow(int(row.max()) + 1)
    combined = combine(ratios, asset_class.scoring.combine)
    out = np.empty(len(row))
    for w in range(len(row)):
        one = slice(w, w + 1)
        out[one] = smoother.step(row[one], slot[one], segment[one], combined[one])
    return out


def _maturity_classes(asset_class: AssetClass, scored: _Scored) -> NDArray[np.int64]:
    """Smallest maturity of each class: young, half grown, full; classes too small for nu join their elders."""
    length = asset_class.window.length
    edges = [length]
    for edge in (math.ceil(length / 2), least_maturity(asset_class)):
        members = np.count_nonzero((scored.maturity >= edge) & (scored.maturity < edges[0]))
        if edge < edges[0] and members * asset_class.calibration.nu >= 2.0:
            edges.insert(0, edge)
    if (scored.maturity < edges[0]).any():
        edges[0] = least_maturity(asset_class)
    return np.array(edges, np.int64)


def _scorer_limits(
    nu: float, scored: _Scored, maturity: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kind = np.searchsorted(maturity, scored.maturity, side="right") - 1
    scores = scored.score.astype(np.float64)
    shape = (scores.shape[1], len(maturity))
    median, limit = np.empty(shape), np.empty(shape)
    for s in range(shape[0]):
        for k in range(shape[1]):
            mine = scores[kind == k, s]
            median[s, k], limit[s, k] = float(np.median(mine)), nu_quantile(mine, nu)
            if limit[s, k] <= median[s, k]:
                raise ThresholdRefused(
                    f"scorer {s}: its limit is not above its median: the scorer has collapsed"
                )
    return median, limit


def _estimate(asset_class: AssetClass, scores: NDArray[np.float64], scored: _Scored, source: str) -> Estimate:
    settings = asset_class.calibration
    return estimate(
        scores,
        settings.nu,
        rng=np.random.default_rng(asset_class.scoring.seed),
        enough=settings.enough,
        runs=_runs(scored),
        source=source,
        start_ns=int(scored.end.min()),
        end_ns=int(scored.end.max()),
    )


def _rank_tau(ranks: NDArray[np.float64], scored: _Scored) -> float:
    """The longest autocorrelation time of the scorers' ranks [W, S]: what drift detectors see is thinned to it."""
    return max(autocorrelation_time(ranks[:, s], _runs(scored)) for s in range(ranks.shape[1]))


def _runs(scored: _Scored) -> list[int]:
    """Lengths of the unbroken runs of windows."""
    breaks = np.flatnonzero((np.diff(scored.row) != 0) | (np.diff(scored.segment) != 0)) + 1
    return np.diff(np.concatenate([[0], breaks, [len(scored.row)]])).tolist()


def _kept(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(scores)
    if len(ordered) <= _MAX_KEPT:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, _MAX_KEPT).round().astype(np.int64)]


def _trained_contexts(asset_class: AssetClass, rows: _Rows) -> TrainedContexts:
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
    rows: _Rows,
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


def _counts(normal: _Normal, scored: Mapping[int, _Scored]) -> dict[str, int]:
    return {
        "slots": len(normal.part),
        "slots_fit": int(np.count_nonzero(normal.part == FIT)),
        "windows_scale": len(scored[SCALE].row),
        "windows_limit": len(scored[LIMIT].row),
    }


def _warnings(asset_class: AssetClass, rows: _Rows, normal: _Normal, overall: Estimate) -> list[str]:
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
