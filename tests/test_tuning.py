"""`nuwatch models compare --tune`: what is tried, what is chosen, and that a seed decides it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.scorer import FitRefused
from monitor.configuration import parse
from monitor.settings import AssetClass
from monitor.training import TrainingProgress
from monitor.training.candidates import Ground, prepared
from monitor.training.history import collect
from monitor.training.tuning import Tuned, halved, rungs, tune
from tests.worlds import autoregressive, batch_of, configuration_text

SENSORS, LENGTH, ROWS = 4, 8, 1200


def settings_of(seed: int = 0, margin: float = 0.03) -> AssetClass:
    scorers = f"{{pca: {{}}}}, seed: {seed}, auto: {{faults: 2, margin: {margin}}}"
    text = configuration_text(SENSORS, LENGTH, scorers)
    return parse(text, Path("world.yaml")).settings.asset_classes["unit"]


def ground_of(asset_class: AssetClass) -> Ground:
    rows = collect(asset_class, [batch_of({"plant/a": autoregressive(1, ROWS, SENSORS)})])
    return prepared(asset_class, rows)


def tuned(name: str, count: int, seed: int = 0, margin: float = 0.03) -> Tuned:
    return tune(name, {}, count, ground_of(settings_of(seed, margin)), TrainingProgress())


def value(options: Mapping[str, Any], windows: int) -> float:
    """Settings {x: v} see v, and the defaults .5; few windows hide nothing."""
    del windows
    if options.get("x") == 0.0:
        raise FitRefused("collapsed")
    return options.get("x", 0.5)


def test_the_best_of_what_is_drawn_wins_by_more_than_the_margin() -> None:
    drawn = [{"x": v} for v in (0.2, 0.9, 0.4, 0.52, 0.0)]
    found = halved(drawn, [100], 0.03, value)
    assert found is not None
    assert (found.best, found.seen, found.before) == ({"x": 0.9}, 0.9, 0.5)
    tie = halved([{"x": 0.52}], [100], 0.03, value)
    assert tie is not None
    assert (tie.best, tie.seen) == ({}, 0.5)


def test_what_cannot_be_fitted_is_told_and_never_chosen() -> None:
    found = halved([{"x": 0.0}], [100], -1.0, value)
    assert found is not None
    assert found.best == {}
    assert [trial.refused for trial in found.trials] == ["", "collapsed"]

    def nothing(*_: object) -> float:
        raise FitRefused("too few")

    assert halved([{"x": 1.0}], [100], 0.03, nothing) is None


def test_of_every_rung_the_better_third_goes_on_beside_the_defaults() -> None:
    drawn = [{"x": float(v)} for v in range(1, 10)]
    found = halved(drawn, [100, 300, 900], 0.03, value)
    assert found is not None
    by_rung = {
        size: [t.options.get("x") for t in found.trials if t.windows == size] for size in (100, 300, 900)
    }
    assert by_rung == {100: [None, *range(9, 0, -1)], 300: [None, 9, 8, 7], 900: [None, 9]}
    assert found.best == {"x": 9.0}


@pytest.mark.parametrize(
    ("count", "windows", "sizes"),
    [
        (9, 9000, [1000, 3000, 9000]),
        (8, 9000, [3000, 9000]),
        (2, 9000, [9000]),
        (9, 2000, [666, 2000]),
        (9, 300, [300]),
    ],
)
def test_few_tries_or_few_windows_make_few_rungs(count: int, windows: int, sizes: list[int]) -> None:
    assert rungs(count, windows) == sizes


def test_one_seed_makes_one_choice_and_another_seed_looks_elsewhere() -> None:
    first, again, other = tuned("pca", 2), tuned("pca", 2), tuned("pca", 2, seed=7)
    assert first == again
    assert [trial.options for trial in first.trials] != [trial.options for trial in other.trials]
    assert first.seed == 0
    assert len(first.trials) == 3


def test_a_search_finds_settings_that_see_more_where_the_defaults_are_poor() -> None:
    ground = ground_of(settings_of())
    poor = {"explained": 0.1, "lags": 4, "limit": 0.5}
    found = tune("pca", poor, 4, ground, TrainingProgress())
    assert found.seen_before is not None
    assert found.seen > found.seen_before + found.margin
    assert found.options["limit"] == 0.5, "what is not searched stays as the configuration has it"
    assert found.options["explained"] > 0.1
    worth = [trial.seen for trial in found.trials if trial.seen is not None]
    assert found.seen == max(worth)


def test_a_choice_is_written_as_json() -> None:
    found = tuned("mewma", 1)
    body = msgspec.json.decode(msgspec.json.encode(found))
    assert body["scorer"] == "mewma"
    assert {"options", "seen", "seen_before", "margin", "seed", "trials"} <= set(body)
    assert np.isfinite(body["seen"])
