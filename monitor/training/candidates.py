"""Candidates of `scoring.scorers: auto`, each fitted once, and what they say of one and the same held-out windows.

Shape letters: W held-out windows, C cases, Z sizes, F windows of a fault.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from models.bundle import Bundle, TrainedScorer, build_spec
from models.imputation import fit_imputation
from models.program import Program, compile_program
from models.registry import candidate_names, get_scorer
from models.scorer import FitRefused, Windows
from monitor.model import Grouping, scored_columns
from monitor.settings import AssetClass, Scoring
from monitor.thresholds.threshold import ThresholdRefused
from monitor.training.fit import fit_windows, started
from monitor.training.history import Rows, groups_of, parts_of, scaled
from monitor.training.planting import KINDS, Case, Held, Planting, cases_of, held_windows, span_of
from monitor.training.progress import TrainingProgress
from monitor.training.sensitivity import Scores, Sensitivity, comparable_nu, on_scale, sensitivity

_AT_ONCE = 1024
"""Held-out windows that are scored in one call."""


class Candidate(Struct, frozen=True):
    """What one scorer does by itself.

    Attributes:
        sensitivity: to planted faults.
        learnt: numbers that it has learnt; ties go to the fewest.
        distinct: share of its scores of normal windows that differ from one another.
        fit_seconds: for the comparison, on this machine.
        window_us: to score one window, on this machine.
    """

    sensitivity: Sensitivity
    learnt: int
    distinct: float
    fit_seconds: float
    window_us: float


class Comparison:
    """Candidates on one and the same windows.

    Attributes:
        options: hyperparameters of every candidate, by name.
        candidates: those that can be used, by name.
        refused: the others, and why.
        nu: that they are compared at.
        windows: held-out windows.
        faults: planted, of all kinds and sizes.
        span: windows that a fault lasts.
    """

    def __init__(self, asset_class: AssetClass, held: Held, cases: Sequence[Case], span: int) -> None:
        self.options = dict(asset_class.scoring.auto.candidates) or {name: {} for name in candidate_names()}
        self.candidates: dict[str, Candidate] = {}
        self.refused: dict[str, str] = {}
        self.nu = comparable_nu(asset_class.calibration.nu, held)
        self.windows, self.span = len(held.closing), span
        self.faults = sum(len(KINDS[case.kind][1]) for case in cases)
        self._scoring, self._held, self._cases = asset_class.scoring, held, cases
        self._ratios: dict[str, Scores] = {}
        self._judged: dict[frozenset[str], Sensitivity] = {}

    def judge(self, names: Sequence[str]) -> Sensitivity:
        """What candidates see together."""
        key = frozenset(names)
        if key not in self._judged:
            ratios = [self._ratios[name] for name in sorted(key)]
            self._judged[key] = sensitivity(ratios, self._held, self._cases, self._scoring, self.nu)
        return self._judged[key]

    def add(self, name: str, scores: Scores, learnt: int, fit_seconds: float, window_us: float) -> None:
        """Take a candidate.

        Raises:
            ThresholdRefused: its scores hardly differ.
            FitRefused: a score is not a number.
        """
        if not (np.isfinite(scores.normal).all() and np.isfinite(scores.planted).all()):
            raise FitRefused("a held-out window got a score that is not a number")
        self._ratios[name] = on_scale(scores, self._held, self.nu)
        distinct = len(np.unique(scores.normal)) / len(scores.normal)
        self.candidates[name] = Candidate(self.judge((name,)), learnt, distinct, fit_seconds, window_us)


class Ground(NamedTuple):
    """What all candidates share.

    Attributes:
        draft: the bundle without scorers.
        windows: [N, T, D] that fit them.
        planting: makes the windows that they are compared on.
        held: the held-out windows.
        cases: the faults.
        span: F, windows that a fault lasts.
        scoring: the class's, with the seed.
        nu: that they are compared at.
    """

    draft: Bundle
    windows: Windows
    planting: Planting
    held: Held
    cases: list[Case]
    span: int
    scoring: Scoring
    nu: float


class Tried(NamedTuple):
    """A scorer that was fitted to the ground's windows.

    Attributes:
        trained: the scorer.
        scores: of held-out windows and of those with faults.
        fit_seconds: on this machine.
        window_us: to score one window, on this machine.
    """

    trained: TrainedScorer
    scores: Scores
    fit_seconds: float
    window_us: float


def compare(asset_class: AssetClass, rows: Rows, told: TrainingProgress) -> Comparison:
    """Fit every candidate, and measure what it sees.

    Raises:
        ThresholdRefused: the held-out parts are too short.
    """
    told.stage("auto: planting faults")
    ground = prepared(asset_class, rows)
    comparison = Comparison(asset_class, ground.held, ground.cases, ground.span)
    fitted: list[TrainedScorer] = []
    for name, options in comparison.options.items():
        try:
            found = tried(name, options, ground, told, fitted)
            fitted.append(found.trained)
            comparison.add(name, found.scores, learnt(found.trained), found.fit_seconds, found.window_us)
        except (FitRefused, ThresholdRefused, ValueError) as refused:
            comparison.refused[name] = str(refused)
    return comparison


def prepared(asset_class: AssetClass, rows: Rows) -> Ground:
    """Scale the history, keep its end from the fit, and plan the faults.

    Raises:
        ThresholdRefused: the held-out parts are too short.
        FitRefused: no window is left to fit.
    """
    scoring = asset_class.scoring
    grouping = Grouping(groups_of(asset_class, rows))
    normal, _, plain = scaled(asset_class, rows, grouping, parts_of(asset_class, rows.slots))
    z, usable = normal.z[normal.fits], normal.usable[normal.fits]
    sensors = list(asset_class.sensors)
    draft = Bundle(
        sensors=tuple(sensors[c] for c in scored_columns(asset_class)),
        length=asset_class.window.length,
        block=scoring.block,
        scaling=plain,
        imputation=fit_imputation(jax.numpy.asarray(z), jax.numpy.asarray(usable)),
        scorers=(),
    )
    fewer = replace(scoring, fit_windows=min(scoring.fit_windows, scoring.auto.fit_windows))
    windows, _ = fit_windows(replace(asset_class, scoring=fewer), rows, normal)
    held = held_windows(asset_class, rows, normal)
    span = span_of(held, scoring.smoothing)
    cases = cases_of(held, span, len(draft.sensors), scoring.auto.faults, scoring.seed)
    planting = Planting(asset_class, rows, normal, held, span, scoring.seed)
    nu = comparable_nu(asset_class.calibration.nu, held)
    return Ground(draft, windows, planting, held, cases, span, scoring, nu)


def tried(
    name: str,
    options: Mapping[str, Any],
    ground: Ground,
    told: TrainingProgress,
    fitted: Sequence[TrainedScorer] = (),
) -> Tried:
    """Fit a scorer, and score what it is compared on.

    Args:
        name: the scorer.
        options: its hyperparameters.
        ground: what it is compared on.
        told: of stages and epochs.
        fitted: scorers that it may start from.

    Raises:
        FitRefused: it must not be used.
        ValueError: an option is not of it.
    """
    began = time.perf_counter()
    trained = _fit(name, options, ground, fitted, told)
    seconds = time.perf_counter() - began
    told.stage(f"auto: trying {name}")
    program = compile_program(with_scorer(ground.draft, trained))
    program.warm_up()
    scores, window_us = _scores(program, ground, told)
    return Tried(trained, scores, seconds, window_us)


def _fit(
    name: str,
    options: Mapping[str, Any],
    ground: Ground,
    fitted: Sequence[TrainedScorer],
    told: TrainingProgress,
) -> TrainedScorer:
    """A candidate, fitted with a seed of its own: the others have no part in it."""
    told.stage(f"auto: fitting {name}")
    scorer = get_scorer(name)
    spec = build_spec(scorer.spec, dict(options))
    key = jax.random.fold_in(jax.random.key(ground.scoring.seed), zlib.crc32(name.encode()))
    result = scorer.fit(key, ground.windows, spec, told.step, **started(scorer, spec, fitted))
    return TrainedScorer(name, spec, result.params)


def with_scorer(draft: Bundle, scorer: TrainedScorer) -> Bundle:
    """The bundle with one scorer, its limits still missing."""
    return Bundle(draft.sensors, draft.length, draft.block, draft.scaling, draft.imputation, (scorer,))


def _scores(program: Program, ground: Ground, told: TrainingProgress) -> tuple[Scores, float]:
    """Scores of all windows, and the microseconds that one took."""
    seconds, count = 0.0, len(ground.held.closing)
    normal: list[np.ndarray] = []
    for low in range(0, count, _AT_ONCE):
        values, mask = ground.planting.normal(np.arange(low, min(low + _AT_ONCE, count)))
        began = time.perf_counter()
        normal.append(program(values, mask).score.astype(np.float64))
        seconds += time.perf_counter() - began
    planted: list[np.ndarray] = []
    for done, case in enumerate(ground.cases, 1):
        score = program(*ground.planting.planted(case)).score.astype(np.float64)
        planted.append(score.reshape(len(KINDS[case.kind][1]), -1, 1))
        told.step(done, len(ground.cases), {})
    return Scores(np.concatenate(normal), np.stack(planted)), 1e6 * seconds / count


def learnt(scorer: TrainedScorer) -> int:
    """Numbers that a scorer has learnt."""
    return sum(int(np.size(leaf)) for leaf in jax.tree_util.tree_leaves(scorer.params))
