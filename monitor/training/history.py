"""Known-good history as slots, parts, z-scores and windows, through the very stages that run live.

Shape letters: M slots, W windows, C sensors, D scored sensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.records import Batch, Context
from models.registry import get_scorer
from models.scaling import Scaling, fit_scaling
from models.trajectory import Trajectory, fit_trajectory
from monitor.errors import NuwatchError
from monitor.event_time.checks import SensorChecks, normal_stuck_slots, stuck_slots, untrusted
from monitor.event_time.grid import Grid, Slots
from monitor.event_time.history import History
from monitor.model import Group, Grouping, group_of, scored_columns
from monitor.settings import AssetClass
from monitor.thresholds.smoothing import Segments

FIT, SCALE, LIMIT, FIT_AFTER = 0, 1, 2, 3
"""The parts of the history, in order of time: what fits, what sets scales, what sets the limit. Where one of
several folds is held out, the fold is LIMIT, what lies before it FIT and what lies behind it FIT_AFTER."""
_FOLD_WINDOWS = 3
"""A fold is at least so many windows long: the first window of a fold must lie in it as a whole."""
_FOLDS = 5
_FOLDS_OF_FEW = 10
"""Folds where rows are few and scorers are fitted in one go. With 52 sensors, 500 rows and a VAR(2), 5 folds give .3 nu
and 10 folds 1.1 nu: what is left to correct for the fold models' fewer rows is smaller."""
_PLENTY = 40
"""Rows per sensor from which 5 folds are enough, and fewer windows are lost at the cuts."""

_BITS = 6
"""Significant bits of the number of rows or windows that fit."""
CHUNK = 4096
"""Slots that go through the windows at once."""


class TrainingRefused(NuwatchError):  # noqa: N818 - names what happened
    """The history cannot give a monitor whose threshold means anything."""


class Rows(NamedTuple):
    """The whole history as slots sorted by asset and time, with their contexts interned once."""

    slots: Slots
    contexts: list[Context]
    faults: NDArray[np.uint8]
    stuck_slots: NDArray[np.int64]
    assets: tuple[str, ...]


class Normal(NamedTuple):
    """Scaled history.

    Attributes:
        z: [M, D] z-scores, 0 where masked.
        usable: [M, D] True where a value stands.
        weight: [M, D] how much of it is real.
        part: [M] FIT, SCALE, LIMIT or FIT_AFTER.
        segment: [M] slot at which the stretch began.
    """

    z: NDArray[np.float32]
    usable: NDArray[np.bool_]
    weight: NDArray[np.float32]
    part: NDArray[np.int8]
    segment: NDArray[np.int64]

    @property
    def fits(self) -> NDArray[np.bool_]:
        """[M] True where a slot fits the models."""
        return may_fit(self.part)


def may_fit(part: NDArray[np.int8]) -> NDArray[np.bool_]:
    """[M] True where a part fits scaling and scorers."""
    return (part == FIT) | (part == FIT_AFTER)


def collect(
    asset_class: AssetClass, batches: Iterable[Batch], stuck_after: NDArray[np.int64] | None = None
) -> Rows:
    """Run recordings through grid and checks; slots come back sorted by asset and time.

    Args:
        asset_class: its settings.
        batches: in stream order.
        stuck_after: [C] samples without movement that make a sensor stuck, of a trained bundle; None: the recordings
            are known-good history, and say so themselves.

    Raises:
        TrainingRefused: they have no closed slot.
    """
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
    stuck = _stuck_limits(asset_class, slots) if stuck_after is None else stuck_after
    checks = SensorChecks(asset_class, stuck)
    checks.grow(len(numbers))
    return Rows(slots, list(interned), checks.step(slots).code, stuck, tuple(numbers))


def _stuck_limits(asset_class: AssetClass, slots: Slots) -> NDArray[np.int64]:
    """Declared stuck times in samples, else three times the longest normal stand-still."""
    deadband = np.array([sensor.deadband for sensor in asset_class.sensors.values()])
    readings = np.where(slots.real > 0, slots.values, np.nan)
    runs = np.split(readings, np.flatnonzero(np.diff(slots.row)) + 1)
    return stuck_slots(asset_class, normal_stuck_slots(runs, deadband))


def groups_of(asset_class: AssetClass, rows: Rows) -> list[Group] | None:
    """Recipe and phase pairs of the history, sorted; None without alignment."""
    if not asset_class.batches.align:
        return None
    used = {group_of(rows.contexts[c]) for c in np.unique(rows.slots.context)}
    return sorted(used, key=lambda group: (group[0] or "", group[1] or ""))


def scaled(
    asset_class: AssetClass, rows: Rows, grouping: Grouping, part: NDArray[np.int8]
) -> tuple[Normal, Trajectory, Scaling]:
    """The history as z-scores, with the trajectory and the plain scaling of the parts [M] that fit."""
    slots, columns = rows.slots, scored_columns(asset_class)
    values = slots.values[:, columns]
    usable = np.isfinite(values) & ~untrusted(rows.faults)[:, columns]
    fits = may_fit(part)
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
    return _normal(asset_class, rows, trajectory.z(values, group, index), usable, part), trajectory, plain


def as_trained(
    asset_class: AssetClass, rows: Rows, grouping: Grouping, trajectory: Trajectory, part: NDArray[np.int8]
) -> Normal:
    """Rows as z-scores of a scaling that was fitted before; what it does not know is masked."""
    slots, columns = rows.slots, scored_columns(asset_class)
    values = slots.values[:, columns]
    group = grouping.of(rows.contexts, slots.context)
    index = grouping.index(slots.slot, slots.batch_start, slots.phase_start)
    z = trajectory.z(values, group, index)
    usable = np.isfinite(z) & ~untrusted(rows.faults)[:, columns]
    return _normal(asset_class, rows, z, usable, part)


def _normal(
    asset_class: AssetClass,
    rows: Rows,
    z: NDArray[np.float32],
    usable: NDArray[np.bool_],
    part: NDArray[np.int8],
) -> Normal:
    slots, columns = rows.slots, scored_columns(asset_class)
    weight = np.where(usable, slots.real[:, columns], np.float32(0)).astype(np.float32)
    segments = Segments()
    segments.grow(len(rows.assets))
    segment = segments.step(slots.row, slots.slot, slots.fresh)
    return Normal(np.where(usable, z, np.float32(0)).astype(np.float32), usable, weight, part, segment)


def without_rows(rows: Rows, out: NDArray[np.bool_]) -> Rows:
    """The rows that are not ``out`` [M]; windows start anew behind what was left out."""
    if not out.any():
        return rows
    behind = np.concatenate([[False], out[:-1]])
    slots = rows.slots._replace(fresh=rows.slots.fresh | behind)
    columns: list[Any] = [column[~out] for column in slots]
    return rows._replace(slots=Slots(*columns), faults=rows.faults[~out])


def newest_rows(rows: Rows, most: int) -> Rows:
    """The newest rows of all assets, about ``most`` of them."""
    if len(rows.slots.slot) <= most:
        return rows
    return without_rows(rows, rows.slots.slot < np.partition(rows.slots.slot, -most)[-most])


def parts_of(asset_class: AssetClass, slots: Slots) -> NDArray[np.int8]:
    """Part of each slot: cut in time so that the shares of slots are right; a batch goes where it began."""
    holdout = asset_class.calibration.holdout
    return _cut(slots, [1.0 - holdout, 1.0 - holdout / 2.0]).astype(np.int8)


def folds_of(asset_class: AssetClass, slots: Slots) -> NDArray[np.int8]:
    """Contiguous fold of each slot, as many as asked and as are long enough; a batch goes where it began."""
    longest = len(np.unique(slots.slot)) // (_FOLD_WINDOWS * asset_class.window.length)
    count = max(2, min(asset_class.calibration.folds or _folds(asset_class, len(slots.slot)), longest))
    return _cut(slots, [k / count for k in range(1, count)]).astype(np.int8)


def _folds(asset_class: AssetClass, slots: int) -> int:
    epochs = any(hasattr(get_scorer(name).spec, "epochs") for name in asset_class.scoring.scorers)
    plenty = slots >= _PLENTY * len(scored_columns(asset_class))
    return _FOLDS if epochs or plenty else _FOLDS_OF_FEW


def part_without(folds: NDArray[np.int8], held: int) -> NDArray[np.int8]:
    """Parts [M] with one fold held out; no part reaches across it."""
    return np.where(folds == held, LIMIT, np.where(folds < held, FIT, FIT_AFTER)).astype(np.int8)


def _cut(slots: Slots, shares: list[float]) -> NDArray[np.int64]:
    """Number of cuts [M] that lie at or before each slot's anchor: itself, or its batch's start."""
    anchor = np.where(slots.batch_start >= 0, slots.batch_start, slots.slot)
    return np.searchsorted(np.quantile(slots.slot, shares), anchor, side="right")


class Chunk(NamedTuple):
    """Some windows.

    Attributes:
        closing: [W] index of the slot that each ends with.
        values: [W, T, D] z-scores.
        mask: [W, T, D] True where there is a value.
        maturity: [W] samples since the stretch began, at most T.
    """

    closing: NDArray[np.int64]
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    maturity: NDArray[np.int32]


def windows_of(asset_class: AssetClass, rows: Rows, normal: Normal) -> Iterator[Chunk]:
    """Windows that may teach and that lie in one part as a whole, with their closing slot's index.

    Those that end in a slot that is mostly carried forward or masked are scored live, but teach nothing.
    """
    slots, window = rows.slots, asset_class.window
    history = History(window.length, window.stride, normal.z.shape[1])
    history.grow(len(rows.assets))
    for low in range(0, len(slots.row), CHUNK):
        at = slice(low, low + CHUNK)
        ready = history.push(
            slots.row[at], slots.slot[at], slots.fresh[at], normal.z[at], normal.usable[at], normal.weight[at]
        )
        index = ready.last + low
        in_batch = slots.batch_start[index] >= 0
        needed = np.where(in_batch, least_maturity(asset_class), window.length)
        oldest = np.maximum(index - ready.maturity + 1, 0)
        fits = (ready.maturity >= needed) & (ready.coverage >= window.min_coverage)
        fits &= normal.part[oldest] == normal.part[index]
        fits &= normal.weight[index].mean(axis=1) >= window.min_coverage
        yield Chunk(index[fits], ready.values[fits], ready.mask[fits], ready.maturity[fits])


def least_maturity(asset_class: AssetClass) -> int:
    """Samples of a batch that the first scored window needs."""
    return max(1, math.ceil(asset_class.window.min_maturity * asset_class.window.length))


def few_lengths(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """An index [N] without its first entries, so that N keeps its highest bits only: under 1 in 32 is lost.

    XLA compiles a fit anew for every number of rows. So the fits of folds, of candidates and of histories that hardly
    differ in length share what was compiled.
    """
    spare = max(0, len(index).bit_length() - _BITS)
    return index[len(index) - (len(index) >> spare << spare) :]
