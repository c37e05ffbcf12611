"""A scorer's hyperparameters, searched on the user's own normal data alone: no label is read.

What counts is what `scorers: auto` compares by: the share of the windows of planted faults over a limit that holds in
both held-out parts (`monitor.training.sensitivity`). The configuration's own settings take part, and what is drawn
must see more than they by `scoring.auto.margin`: a tie goes to what is known.

Successive halving (Jamieson & Talwalkar 2016, AISTATS; Li et al. 2018, Hyperband, JMLR 18:185): all settings are fitted
to a few of the windows, the better third of them to three times as many, and so on up to all. The best of many is lucky
too: its figure is read on the windows that it was chosen on, and will be lower on others.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct

from models.hyperparameters import draw
from models.registry import get_scorer
from models.scorer import FitRefused, Windows
from monitor.thresholds.threshold import ThresholdRefused
from monitor.training.candidates import Ground, tried
from monitor.training.history import few_lengths
from monitor.training.progress import TrainingProgress
from monitor.training.sensitivity import on_scale, sensitivity

_KEPT = 3
"""One of so many goes on to the next rung, which has so many times as many windows."""
_RUNGS = 3
"""At most: a ninth of the windows still tells a network that learns from one that does not."""
_FEWEST = 256
"""Windows of a rung, at least."""

Options = Mapping[str, Any]
Judge = Callable[[Options, int], float]
"""What settings see, fitted to so many windows; raises `FitRefused`, `ThresholdRefused` or `ValueError`."""


class Trial(Struct, frozen=True, kw_only=True):
    """Settings on one rung.

    Attributes:
        options: drawn, beside what the configuration says; none of a rung's first trial.
        windows: that they were fitted to.
        seen: overall sensitivity to planted faults; None where refused.
        refused: why they cannot be used.
    """

    options: Options
    windows: int
    seen: float | None
    refused: str = ""


class Tuned(Struct, frozen=True, kw_only=True):
    """What a search found.

    Attributes:
        scorer: its name.
        options: chosen: those of the configuration, and what is better.
        seen: what they see, fitted to all windows.
        seen_before: what the configuration's own see; None where refused.
        margin: by which something else must be better.
        seed: of the search.
        trials: rung by rung, on each the configuration's own first, then the best first.
    """

    scorer: str
    options: Options
    seen: float
    seen_before: float | None
    margin: float
    seed: int
    trials: tuple[Trial, ...]


class Found(NamedTuple):
    """The best of the last rung, and everything that was tried."""

    best: Options
    seen: float
    before: float | None
    trials: tuple[Trial, ...]


def tune(name: str, options: Options, count: int, ground: Ground, told: TrainingProgress) -> Tuned:
    """Search a scorer's hyperparameters.

    Args:
        name: the scorer.
        options: what the configuration sets; it stays unless something is better.
        count: settings that are drawn beside it.
        ground: held-out normal windows and planted faults.
        told: of stages and epochs.

    Raises:
        FitRefused: nothing that was tried can be used.
    """
    seed = ground.scoring.seed
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    drawn = [draw(get_scorer(name).spec, rng) for _ in range(count)]
    available = len(ground.windows.values)
    found = halved(
        drawn, rungs(count, available), ground.scoring.auto.margin, _judge(name, options, ground, told)
    )
    if found is None:
        raise FitRefused(f"tune: none of {count + 1} settings of {name} can be used")
    return Tuned(
        scorer=name,
        options={**options, **found.best},
        seen=found.seen,
        seen_before=found.before,
        margin=ground.scoring.auto.margin,
        seed=seed,
        trials=found.trials,
    )


def rungs(count: int, windows: int) -> list[int]:
    """Windows of each rung, ascending; the last has all. Few settings or few windows make few rungs."""
    sizes = [windows]
    while len(sizes) < _RUNGS and sizes[0] // _KEPT >= _FEWEST and count >= _KEPT ** len(sizes):
        sizes.insert(0, sizes[0] // _KEPT)
    return sizes


def halved(drawn: Sequence[Options], sizes: Sequence[int], margin: float, judge: Judge) -> Found | None:
    """Successive halving; the configuration's own settings, {}, are on every rung and win ties.

    Args:
        drawn: settings to try.
        sizes: windows of each rung.
        margin: by which they must be better than the configuration's own.
        judge: says what settings see.

    Returns:
        None where nothing can be used.
    """
    trials: list[Trial] = []
    alive: Sequence[Options] = drawn
    for size in sizes:
        own = _tried({}, size, judge)
        each = sorted((_tried(options, size, judge) for options in alive), key=_worth, reverse=True)
        trials += [own, *each]
        alive = [one.options for one in each[: max(1, len(alive) // _KEPT)] if one.seen is not None]
    own, *each = [one for one in trials if one.windows == sizes[-1]]
    best = each[0] if each and _worth(each[0]) > _worth(own) + margin else own
    return None if best.seen is None else Found(best.options, best.seen, own.seen, tuple(trials))


def _worth(trial: Trial) -> float:
    return -math.inf if trial.seen is None else trial.seen


def _tried(options: Options, windows: int, judge: Judge) -> Trial:
    try:
        return Trial(options=options, windows=windows, seen=judge(options, windows))
    except (FitRefused, ThresholdRefused, ValueError) as refused:
        return Trial(options=options, windows=windows, seen=None, refused=str(refused))


def _judge(name: str, base: Options, ground: Ground, told: TrainingProgress) -> Judge:
    def judge(options: Options, windows: int) -> float:
        fewer = ground._replace(windows=_thinned(ground.windows, windows))
        found = tried(name, {**base, **options}, fewer, told)
        ratios = on_scale(found.scores, ground.held, ground.nu)
        return sensitivity([ratios], ground.held, ground.cases, ground.scoring, ground.nu).overall

    return judge


def _thinned(windows: Windows, count: int) -> Windows:
    """So many windows, evenly spaced in time."""
    whole = len(windows.values)
    if count >= whole:
        return windows
    at = few_lengths(np.linspace(0, whole - 1, count).astype(np.int64))
    return Windows(windows.values[at], windows.mask[at])
