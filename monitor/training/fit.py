"""Scaling, imputation and scorers from the parts of the history that fit.

Shape letters: M slots, N fitting windows, T samples, D scored sensors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, TrainedScorer, build_spec
from models.imputation import fit_imputation
from models.registry import get_scorer
from models.scorer import FitRefused, Fitted, Params, Progress, Scorer, Windows
from models.trajectory import Trajectory
from monitor.model import Grouping, scored_columns
from monitor.settings import AssetClass
from monitor.training.history import Normal, Rows, few_lengths, may_fit, scaled, windows_of
from monitor.training.progress import TrainingProgress

Curves = Mapping[str, Mapping[str, tuple[float, ...]]]
FitScorer = Callable[..., Fitted]
"""Fits a scorer: called with it and with the arguments of its ``fit``, which it may spare by remembering."""


class Fit(NamedTuple):
    """What a fit gives.

    Attributes:
        normal: the history as this fit scales it, with its parts.
        trajectory: the scaling.
        windows: [N, T, D] the windows that the scorers were fitted to, in order of time.
        available: windows that could have been, before they were thinned.
        draft: the bundle, its limits still missing.
        curves: per scorer, its training curves.
    """

    normal: Normal
    trajectory: Trajectory
    windows: Windows
    available: int
    draft: Bundle
    curves: Curves


def fit_anew(
    scorer: Scorer, key: jax.Array, windows: Windows, spec: Any, progress: Progress, **start: Params
) -> Fitted:
    """Fit a scorer, as it fits itself."""
    return scorer.fit(key, windows, spec, progress, **start)


def fit(
    asset_class: AssetClass,
    rows: Rows,
    grouping: Grouping,
    part: NDArray[np.int8],
    told: TrainingProgress,
    like: Curves | None = None,
    fit_scorer: FitScorer = fit_anew,
) -> Fit:
    """Fit everything that is in front of the limits.

    Args:
        asset_class: its settings.
        rows: the history.
        grouping: its trajectory groups.
        part: [M] what fits, and what is held out.
        told: of stages and epochs.
        like: curves of another fit whose number of epochs is not to be exceeded.
        fit_scorer: fits each scorer.

    Raises:
        FitRefused: too few windows, or a scorer that must not be used.
    """
    normal, trajectory, plain = scaled(asset_class, rows, grouping, part)
    some = few_lengths(np.flatnonzero(normal.fits))
    imputation = fit_imputation(jax.numpy.asarray(normal.z[some]), jax.numpy.asarray(normal.usable[some]))
    windows, available = fit_windows(asset_class, rows, normal)
    scorers, curves = _fit_scorers(asset_class, windows, told, like or {}, fit_scorer)
    sensors = list(asset_class.sensors)
    draft = Bundle(
        sensors=tuple(sensors[c] for c in scored_columns(asset_class)),
        length=asset_class.window.length,
        block=asset_class.scoring.block,
        scaling=plain,
        imputation=imputation,
        scorers=scorers,
    )
    return Fit(normal, trajectory, windows, available, draft, curves)


def _fit_scorers(
    asset_class: AssetClass, windows: Windows, told: TrainingProgress, like: Curves, fit_scorer: FitScorer
) -> tuple[tuple[TrainedScorer, ...], Curves]:
    keys = jax.random.split(jax.random.key(asset_class.scoring.seed), len(asset_class.scoring.named))
    fitted: list[TrainedScorer] = []
    curves: dict[str, Mapping[str, tuple[float, ...]]] = {}
    for key, (name, options) in zip(keys, asset_class.scoring.named.items(), strict=True):
        told.stage(f"fitting {name}")
        scorer = get_scorer(name)
        spec = build_spec(scorer.spec, options)
        shorter = _no_longer(spec, like.get(name, {}))
        result = fit_scorer(scorer, key, windows, shorter, told.step, **started(scorer, spec, fitted))
        fitted.append(TrainedScorer(name, spec, result.params))
        curves[name] = result.curves
    return tuple(fitted), curves


def _no_longer(spec: Any, curves: Mapping[str, tuple[float, ...]]) -> Any:
    """The spec with at most as many epochs as another fit with it went through."""
    most = max((len(curve) for curve in curves.values()), default=0)
    if not most or not hasattr(spec, "epochs"):
        return spec
    return dataclasses.replace(spec, epochs=min(spec.epochs, most))


def started(scorer: Scorer, spec: Any, fitted: Sequence[TrainedScorer]) -> dict[str, Params]:
    """What a scorer can start from: another one of the same size that is fitted already."""
    for one in fitted:
        same = all(getattr(one.spec, name, None) == getattr(spec, name, None) for name in ("hidden", "tail"))
        if one.name == scorer.starts_from and same:
            return {"pretrained": one.params}
    return {}


def fit_windows(asset_class: AssetClass, rows: Rows, normal: Normal) -> tuple[Windows, int]:
    """Windows that fit in order of time, evenly thinned to `scoring.fit_windows`, and how many there are.

    Their number is rounded down, see `few_lengths`.
    """
    wanted = asset_class.scoring.fit_windows
    every = max(1, int(np.count_nonzero(normal.fits) // (wanted * asset_class.window.stride)))
    values: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.bool_]] = []
    ends: list[NDArray[np.int64]] = []
    available = 0
    for chunk in windows_of(asset_class, rows, normal):
        turn = rows.slots.slot[chunk.closing] // asset_class.window.stride
        fits = may_fit(normal.part[chunk.closing])
        available += int(np.count_nonzero(fits))
        kept = fits & (turn % every == 0)
        values.append(chunk.values[kept])
        masks.append(chunk.mask[kept])
        ends.append(rows.slots.end[chunk.closing[kept]])
    order = few_lengths(np.argsort(np.concatenate(ends), kind="stable"))
    if not len(order):
        raise FitRefused(
            f"got no window of {asset_class.window.length} samples in the {np.mean(normal.fits):.0%} of the "
            "history that fit the models; hint: give a longer history or a shorter `window.length`"
        )
    windows = Windows(np.concatenate(values)[order], np.concatenate(masks)[order])  # type: ignore[arg-type] # NumPy until the scorer takes them
    return windows, available
