"""Any scorers side by side on one history: what each sees of planted faults, what it costs, and settings that see more.

Every scorer is fitted by itself, to `scoring.fit_windows` windows: times are those of a training that knows no other
scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct, structs

from models.registry import BrokenScorerError, built_in_names
from models.scorer import FitRefused
from monitor.evaluation.detection import Detection
from monitor.settings import AssetClass
from monitor.thresholds.threshold import ThresholdRefused
from monitor.training.candidates import Candidate, Comparison, Ground, learnt, prepared, tried, with_scorer
from monitor.training.history import Rows
from monitor.training.progress import TrainingProgress
from monitor.training.tuning import Tuned, tune


class Contestant(Struct, frozen=True, kw_only=True):
    """One scorer of a contest.

    Attributes:
        scorer: its name.
        options: its hyperparameters: of the configuration, or tuned.
        quality: on held-out normal data with planted faults; None where refused.
        bundle_bytes: of a bundle with this scorer alone, before its limits.
        refused: why it cannot be used.
        tuned: what a search of its hyperparameters found; None without one.
        detection: against labels; None without them.
        trained_seconds: with scales and limit, where there are labels.
    """

    scorer: str
    options: Mapping[str, Any]
    quality: Candidate | None = None
    bundle_bytes: int = 0
    refused: str = ""
    tuned: Tuned | None = None
    detection: Detection | None = None
    trained_seconds: float | None = None


class Contest(Struct, frozen=True, kw_only=True):
    """What scorers do on one history.

    Attributes:
        contestants: those that see most first, refused ones last.
        nu: that they were compared at.
        windows: held-out windows that were looked at.
        faults: planted, of all kinds and sizes.
        span: windows that a fault lasts.
        fit_windows: windows that fitted each.
        seed: of training, and of the search.
    """

    contestants: tuple[Contestant, ...]
    nu: float
    windows: int
    faults: int
    span: int
    fit_windows: int
    seed: int


Told = Callable[[str], TrainingProgress]
"""Gives what is told of one scorer."""
Judge = Callable[[Contestant, TrainingProgress], Contestant]
"""Adds what labels say."""


def contest(
    asset_class: AssetClass,
    rows: Rows,
    scorers: Mapping[str, Mapping[str, Any]],
    *,
    tries: int,
    told: Told,
    judge: Judge | None = None,
) -> Contest:
    """Compare scorers.

    Args:
        asset_class: its settings.
        rows: the history.
        scorers: hyperparameters by name.
        tries: settings that are drawn for each; 0: none.
        told: of each scorer's stages.
        judge: adds what labels say; None without labels.

    Raises:
        ThresholdRefused: the held-out parts are too short.
        FitRefused: no window is left to fit.
    """
    auto = structs.replace(asset_class.scoring.auto, fit_windows=asset_class.scoring.fit_windows)
    asset_class = structs.replace(asset_class, scoring=structs.replace(asset_class.scoring, auto=auto))
    ground = prepared(asset_class, rows)
    compared = Comparison(asset_class, ground.held, ground.cases, ground.span)
    found: list[Contestant] = []
    for name, options in scorers.items():
        progress = told(name)
        one = _contestant(Contestant(scorer=name, options=options), ground, compared, tries, progress)
        if judge is not None and one.quality is not None:
            one = judge(one, progress)
        found.append(one)
    return Contest(
        contestants=tuple(_ordered(found)),
        nu=compared.nu,
        windows=compared.windows,
        faults=compared.faults,
        span=compared.span,
        fit_windows=len(ground.windows.values),
        seed=asset_class.scoring.seed,
    )


def _contestant(
    one: Contestant, ground: Ground, compared: Comparison, tries: int, told: TrainingProgress
) -> Contestant:
    try:
        if tries:
            tuned = tune(one.scorer, one.options, tries, ground, told)
            one = structs.replace(one, tuned=tuned, options=tuned.options)
        result = tried(one.scorer, one.options, ground, told)
        cost = learnt(result.trained)
        compared.add(one.scorer, result.scores, cost, result.fit_seconds, result.window_us)
    except (FitRefused, ThresholdRefused, BrokenScorerError, ValueError) as refused:
        return structs.replace(one, refused=str(refused))
    except Exception as error:
        if one.scorer in built_in_names():  # ours: a defect, that must be seen
            raise
        return structs.replace(one, refused=f"it failed with {type(error).__name__}: {error}")
    files = with_scorer(ground.draft, result.trained).to_files()
    size = sum(len(content) for content in files.values())
    return structs.replace(one, quality=compared.candidates[one.scorer], bundle_bytes=size)


def _ordered(found: Sequence[Contestant]) -> list[Contestant]:
    def place(one: Contestant) -> tuple[float, str]:
        return (1.0 if one.quality is None else -one.quality.sensitivity.overall), one.scorer

    return sorted(found, key=place)
