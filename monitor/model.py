"""A loaded bundle, ready for the pipeline: scaling by group, the compiled program, and calibrated scales.

Shape letters: W windows, S scorers, D scored sensors, K maturity classes of a window, G groups (recipe, phase).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from connectors.records import NO_CONTEXT, Context
from models.bundle import Bundle
from models.program import Program, Scored, compile_program
from models.trajectory import UNTRAINED, Trajectory
from monitor.devices import asked_again
from monitor.errors import ConfigurationError
from monitor.settings import SCORED_ROLES, AssetClass
from monitor.thresholds.ages import Ages
from monitor.thresholds.declared import TrainedContexts
from monitor.thresholds.masks import Masks
from monitor.thresholds.provisional import deciles
from monitor.thresholds.reranking import Reranking
from monitor.thresholds.threshold import rank

Group = tuple[str | None, str | None]
"""Recipe and phase of the rows that share a trajectory."""


class Scales(NamedTuple):
    """Calibrated normal: where each scorer's scores lie, and the limit of the combined, smoothed ratio.

    Attributes:
        maturity: [K] int64 ascending, the smallest maturity of each class, in samples.
        median: [S, K] float64, median of the calibration scores.
        limit: [S, K] float64, their nu-quantile.
        scores: per scorer, the sorted calibration scores on its ratio scale (0 the median, 1 the limit).
        final_median: median of the combined, smoothed ratio.
        final_limit: its nu-quantile: a final ratio of 1.
        final_scores: [n] float64, the sorted calibration values of the final ratio.
        tau: autocorrelation time of exceedances of the final limit, in windows.
        rank_tau: autocorrelation time of the scorers' calibration ranks, the longest of them, in windows.
        ages: median and limit of the combined, smoothed ratio while its average is young; what `ages.steady` gives
            is compared with `final_median` and `final_limit`.
        masks: what masked sensors do to each scorer's ratios; it is taken back from `on_scale`'s ratios
            before they are combined.
        usual: [S, D] > 0, mean contributions in normal operation.
        reranking: what verdicts have left; None without any.
    """

    maturity: NDArray[np.int64]
    median: NDArray[np.float64]
    limit: NDArray[np.float64]
    scores: tuple[NDArray[np.float64], ...]
    final_median: float
    final_limit: float
    final_scores: NDArray[np.float64]
    tau: float
    rank_tau: float
    ages: Ages
    masks: Masks
    usual: NDArray[np.float64]
    reranking: Reranking | None = None

    def on_scale(self, scores: NDArray[np.floating[Any]], maturity: NDArray[np.int32]) -> NDArray[np.float64]:
        """Raw scores [W, S] on each scorer's ratio scale, by the windows' maturity [W]."""
        kind = self.kind(maturity)
        median, limit = self.median.T[kind], self.limit.T[kind]
        return (scores.astype(np.float64) - median) / (limit - median)

    @property
    def spread(self) -> float:
        """Standard deviation of the final ratio in normal, as its quartiles give it: outliers count for nothing."""
        low, high = np.quantile(self.final_scores, [0.25, 0.75])
        return float(high - low) / 1.349

    @property
    def deciles(self) -> NDArray[np.float64]:
        """Deciles .1 to .9 of each scorer's calibration scores on its ratio scale [S, 9]."""
        return np.stack([deciles(scores) for scores in self.scores])

    def kind(self, maturity: NDArray[np.int32]) -> NDArray[np.int64]:
        """Maturity class [W] of windows; immature ones count as the first class."""
        return np.maximum(np.searchsorted(self.maturity, maturity, side="right") - 1, 0)

    def ranks(self, on_scale: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibration ranks [W, S] in [0, 1]."""
        columns = [rank(known, on_scale[:, s]) for s, known in enumerate(self.scores)]
        return np.stack(columns, axis=1)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays for a bundle."""
        return {
            "maturity": self.maturity,
            "median": self.median,
            "limit": self.limit,
            "final_scores": self.final_scores,
            "final": np.array([self.final_median, self.final_limit, self.tau, self.rank_tau]),
            "age_median": self.ages.median,
            "age_limit": self.ages.limit,
            "mask_profile": self.masks.profile,
            "mask_shift": self.masks.shift,
            "mask_stretch": self.masks.stretch,
            "usual": self.usual,
            **({} if self.reranking is None else {"verdict_weights": self.reranking.weights}),
        } | {f"scores_{s}": scores for s, scores in enumerate(self.scores)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Scales:
        """Read what `to_arrays` gave."""
        median, limit, tau, rank_tau = (float(x) for x in arrays["final"])
        return cls(
            maturity=arrays["maturity"],
            median=arrays["median"],
            limit=arrays["limit"],
            scores=tuple(arrays[f"scores_{s}"] for s in range(len(arrays["median"]))),
            final_median=median,
            final_limit=limit,
            final_scores=arrays["final_scores"],
            tau=tau,
            rank_tau=rank_tau,
            ages=Ages(arrays["age_median"], arrays["age_limit"]),
            masks=Masks(arrays["mask_profile"], arrays["mask_shift"], arrays["mask_stretch"]),
            usual=arrays.get("usual", _none_unusual(arrays)),
            reranking=Reranking(arrays["verdict_weights"]) if "verdict_weights" in arrays else None,
        )


def _none_unusual(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """[S, D] of a bundle that was trained before contributions were relative to what is usual."""
    return np.ones(arrays["mask_shift"].shape)


def scored_columns(asset_class: AssetClass) -> NDArray[np.int64]:
    """Columns of the sensors that are scored, in configuration order."""
    roles = [sensor.role in SCORED_ROLES for sensor in asset_class.sensors.values()]
    return np.flatnonzero(roles)


class Grouping:
    """Recipe and phase of slots as group numbers; without alignment every slot is of group 0.

    Args:
        groups: the trained groups, in the order of the trajectory's G axis; None: no alignment.
    """

    def __init__(self, groups: Sequence[Group] | None) -> None:
        self._groups = None if groups is None else {group: i for i, group in enumerate(groups)}

    def of(self, contexts: Sequence[Context], context: NDArray[np.int32]) -> NDArray[np.int32]:
        """Group of each slot [M]; `UNTRAINED` where its recipe and phase were not in training."""
        if self._groups is None:
            return np.zeros(len(context), np.int32)
        known = self._groups
        table = np.array([known.get(group_of(c), UNTRAINED) for c in contexts], np.int32)
        return table[context]

    def index(
        self, slot: NDArray[np.int64], batch_start: NDArray[np.int64], phase_start: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Samples [M] since the phase, or else the batch, began; 0 outside batches or without alignment."""
        if self._groups is None:
            return np.zeros(len(slot), np.int64)
        start = np.where(phase_start >= 0, phase_start, batch_start)
        return np.where(start >= 0, slot - start, 0)


def group_of(context: Context) -> Group:
    """Recipe and phase of a context; rows outside batches share one group."""
    return (
        (None, None) if context == NO_CONTEXT or context.batch_id is None else (context.recipe, context.phase)
    )


class Model:
    """A bundle of one asset class, ready to score.

    Attributes:
        bundle: what was trained.
        bundle_id: its content hash.
        columns: [D] columns of the scored sensors among the class's sensors.
        sensors: their names.
        grouping: slots to trajectory groups.
        trajectory: the scaling.
        scales: calibrated scales and limits.
        nu: the fraction of normal windows allowed over the limit of the combined ratio.
        contexts: recipes, phases and set-points of the training history.
        centre_limits: [D] limits of the sensors' slow CUSUMs, in sigma samples.
        stuck_slots: [all sensors] samples without movement that make a stuck sensor; 0: not judged.
        program: the compiled scorers.
    """

    def __init__(self, bundle: Bundle, asset_class: AssetClass, program: Program | None = None) -> None:
        self.bundle = bundle
        self.bundle_id = bundle.id
        self.columns = scored_columns(asset_class)
        self.sensors = bundle.sensors
        arrays = bundle.calibration
        groups = bundle.fields["groups"]
        self.grouping = Grouping(None if groups is None else [(g[0], g[1]) for g in groups])
        self.trajectory = Trajectory(arrays["trajectory_mean"], arrays["trajectory_std"])  # type: ignore[arg-type] # float64 by its shape check
        self.scales = Scales.from_arrays(arrays)
        self.nu = float(bundle.fields["calibration"]["nu"])
        self.contexts = TrainedContexts.from_json(bundle.fields["contexts"])
        self.stuck_slots: NDArray[np.int64] = np.asarray(arrays["stuck_slots"], np.int64)
        self.centre_limits: NDArray[np.float64] = np.asarray(arrays["centre_limits"], np.float64)
        self.program = program or compile_program(bundle, devices=jax.local_devices())

    def score(self, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> Scored:
        """Score windows [W, T, D] of z-scores.

        Raises:
            DeviceError: the device failed again and again.
        """
        return asked_again(lambda: self.program(values, mask))


def calibrated_with(asset_class: AssetClass) -> dict[str, Any]:
    """The settings that the limits rest on: with others the asked false-alarm rate would not be the one got."""
    alerting = asset_class.alerting
    delays = {
        "alerting.on_delay": int(alerting.on_delay),
        "alerting.off_delay": int(alerting.off_delay),
        "alerting.deadband": alerting.deadband,
    }
    return {
        "calibration.nu": asset_class.calibration.nu,
        "calibration.budget": asset_class.calibration.budget,
        "scoring.combine": asset_class.scoring.combine,
        "scoring.smoothing": asset_class.scoring.smoothing,
        "scoring.scorers": list(asset_class.scoring.named) or "auto",
        "window.stride": asset_class.window.stride,
        "window.min_coverage": asset_class.window.min_coverage,
        "window.min_maturity": asset_class.window.min_maturity,
        "batches.fresh_window": asset_class.batches.fresh_window,
        "batches.align": asset_class.batches.align,
    } | (delays if asset_class.calibration.budget is not None else {})


def check_fit(bundle: Bundle, asset_class: AssetClass, name: str) -> None:
    """Refuse a bundle that was trained for other sensors, windows or sampling, or calibrated otherwise.

    Raises:
        ConfigurationError: what differs, and what to do.
    """
    sensors = list(asset_class.sensors)
    wanted = {
        "sensors": [sensors[c] for c in scored_columns(asset_class)],
        "units": [asset_class.sensors[sensors[c]].unit for c in scored_columns(asset_class)],
        "window.length": asset_class.window.length,
        "sampling_ns": int(asset_class.sampling),
        "all_sensors": sensors,
        **calibrated_with(asset_class),
    }
    got = {
        "sensors": list(bundle.sensors),
        "units": bundle.fields.get("units"),
        "window.length": bundle.length,
        "sampling_ns": bundle.fields.get("sampling_ns"),
        "all_sensors": bundle.fields.get("all_sensors"),
        **bundle.fields.get("calibrated_with", {}),
    }
    if asset_class.scoring.scorers == "auto" and "chosen" in bundle.fields:
        got["scoring.scorers"] = "auto"
    for what, expected in wanted.items():
        if got.get(what) != expected:
            raise ConfigurationError(
                f"asset class {name!r}: the bundle was trained for {what} {got.get(what)}, the configuration says "
                f"{expected}; hint: run `nuwatch train` again, or point `bundle` to the one that fits"
            )
