"""`scorers: auto`: what is planted, how it is judged, what is chosen, and what the bundle says of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from connectors.records import Batch
from models import registry
from models.bundle import Bundle
from models.pca import PcaSpec
from models.scorer import Fitted, Params, Scorer, Scores, Windows
from monitor.configuration import parse
from monitor.errors import ConfigurationError
from monitor.model import Grouping, check_fit
from monitor.report.choice import choice_section, choice_text
from monitor.settings import AssetClass, Scoring
from monitor.training import Trained, TrainingRefused, train
from monitor.training.choice import Choice, pick
from monitor.training.history import LIMIT, SCALE, collect, parts_of, scaled, windows_of
from monitor.training.planting import KINDS, Case, Planting, cases_of, held_windows
from monitor.training.sensitivity import Scores as Raw
from monitor.training.sensitivity import Sensitivity, on_scale, sensitivity
from tests.worlds import batch_of, configuration_text

SENSORS, LENGTH, ROWS, SPAN = 4, 8, 1500, 32
DRIFTLESS = "    drift: {detector: none}"


def moving_together(seed: int = 1) -> Batch:
    """Four sensors that show one and the same slow quantity, each with a little noise of its own."""
    rng = np.random.default_rng(seed)
    common = np.empty(ROWS)
    common[0] = rng.normal()
    for t in range(1, ROWS):
        common[t] = 0.7 * common[t - 1] + np.sqrt(1 - 0.49) * rng.normal()
    own = 0.1 * rng.normal(size=(ROWS, SENSORS))
    return batch_of({"plant/a": 10.0 + common[:, None] + own})


def settings_of(candidates: str, **scoring: object) -> AssetClass:
    more = "".join(f", {key}: {value}" for key, value in scoring.items())
    scorers = f"auto, auto: {{candidates: {candidates}, faults: 3{more}}}"
    text = configuration_text(SENSORS, LENGTH, scorers, DRIFTLESS)
    return parse(text, Path("world.yaml")).settings.asset_classes["unit"]


def learnt(asset_class: AssetClass, history: Batch | None = None) -> Trained:
    return train(asset_class, "unit", [history or moving_together()], config_hash="c")


@cache
def chosen(candidates: str) -> Choice:
    choice = learnt(settings_of(candidates)).choice
    assert choice is not None
    return choice


def fit_nothing(rng: jax.Array, windows: Windows, spec: PcaSpec, progress: object) -> Fitted:
    del rng, windows, spec, progress
    return Fitted({"one": jnp.ones(())}, {})


def loudest(params: Params, spec: PcaSpec, windows: Windows) -> Scores:
    """Sensors one by one: the largest |z| of the last sample."""
    del spec
    last = jnp.abs(windows.values[:, -1, :])
    return Scores(jnp.max(last, axis=1) * params["one"], last, last)


def dice(params: Params, spec: PcaSpec, windows: Windows) -> Scores:
    """As good as random: the far digits of a sum."""
    del spec
    last = windows.values[:, -1, :]
    far = jnp.sin(1e4 * jnp.sum(last, axis=1)) * 1e3
    return Scores((far - jnp.floor(far)) * params["one"], jnp.abs(last), last)


@pytest.fixture(scope="module", autouse=True)
def others() -> Iterator[None]:
    """Two scorers of these tests, for their duration."""
    mine = {
        "loudest": Scorer("loudest", PcaSpec, fit_nothing, loudest),
        "dice": Scorer("dice", PcaSpec, fit_nothing, dice),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_registered", mine)
        yield


# -- what is chosen -------------------------------------------------------------------------------------------


def test_where_only_correlation_tells_a_multivariate_scorer_is_preferred() -> None:
    choice = chosen("{loudest: {}, pca: {}, var: {order: 9}}")
    assert choice.scorers == ("pca",)
    alone, together = (choice.candidates[name].sensitivity.kinds for name in ("loudest", "pca"))
    assert together["unrelated"] > alone["unrelated"] + 0.2
    assert together["disturbance"] <= alone["disturbance"] + 0.2, "which keeps the correlations"


def test_a_useless_scorer_is_never_chosen_though_it_costs_nothing() -> None:
    choice = chosen("{dice: {}, var: {}}")
    assert choice.scorers == ("var",)
    assert choice.candidates["dice"].learnt == 1 < choice.candidates["var"].learnt
    with pytest.raises(TrainingRefused, match=r"the best candidate, dice, has -?0\.\d+ .* above chance"):
        learnt(settings_of("{dice: {}}"))


def test_the_same_seed_gives_the_same_choice_and_the_same_bundle() -> None:
    first, again = (learnt(settings_of("{loudest: {}, dice: {}}")) for _ in range(2))
    assert first.bundle.id == again.bundle.id
    assert first.bundle.fields["chosen"] == again.bundle.fields["chosen"]
    assert first.choice is not None
    beside_others = chosen("{loudest: {}, pca: {}, var: {order: 9}}").candidates["loudest"]
    assert beside_others.sensitivity == first.choice.candidates["loudest"].sensitivity


def test_a_candidate_that_cannot_be_fitted_is_left_out_and_named() -> None:
    choice = chosen("{loudest: {}, pca: {}, var: {order: 9}}")
    assert choice.scorers == ("pca",)
    assert list(choice.refused) == ["var"]
    assert "10" in choice.refused["var"], "samples that order 9 needs"
    with pytest.raises(TrainingRefused, match="none of the candidates can be used: var: "):
        learnt(settings_of("{var: {order: 9}}"))


# -- why ------------------------------------------------------------------------------------------------------


def test_the_reasons_name_the_numbers_that_they_rest_on() -> None:
    choice = chosen("{loudest: {}, pca: {}, var: {order: 9}}")
    mine, next_best = (choice.candidates[name].sensitivity.overall for name in ("pca", "loudest"))
    first, second = choice.reasons
    assert f"pca has {mine:.2f}" in first
    assert f"loudest with {next_best:.2f}" in first
    both = choice.additions["pca+loudest"]
    assert both <= mine + 0.03
    assert f"would make it {both:.2f}, {both - mine:+.2f}, and the margin is 0.03" in second


def test_page_and_terminal_show_what_was_chosen_and_every_candidate() -> None:
    choice = chosen("{loudest: {}, pca: {}, var: {order: 9}}")
    page, text = str(choice_section(choice)), "\n".join(choice_text(choice))
    for shown in (page, text):
        assert all(name in shown for name in ("pca", "loudest", "var"))
        assert f"{choice.candidates['pca'].sensitivity.overall:.2f}" in shown
    assert all(kind in page for kind in KINDS)
    assert max(len(line) for line in text.splitlines() if re.match(" +(pca|loudest|cand).* s ", line)) <= 76
    assert choice_section(None) == ""


def judge(found: dict[str, float]):
    def of(names) -> Sensitivity:
        return Sensitivity(found["+".join(sorted(names))], {}, {}, 0.0, 0.0, 0.0, (0.0, 0.0), 0.0, 1.0, 0.0)

    return of


def test_a_tie_goes_to_the_scorer_that_learnt_less_and_what_gains_more_than_the_margin_is_added() -> None:
    learnt = {"large": 100, "small": 10, "blind": 1}
    found = {"large": 0.60, "small": 0.58, "blind": 0.20, "large+small": 0.60, "blind+small": 0.70}
    found |= {"blind+large+small": 0.72, "blind+large": 0.605}
    order, tried = pick(learnt, judge(found), 0.03)
    assert order == ["small", "blind"]
    assert tried[("small", "large")] == 0.60
    assert tried[("small", "blind", "large")] == 0.72
    assert pick(learnt, judge(found), 0.01)[0] == ["large"]
    assert pick(learnt, judge(found), 0.19)[0] == ["small"]


# -- what is planted ------------------------------------------------------------------------------------------


class Plot:
    """Held-out windows of the small world, ready for planting."""

    def __init__(self, stride: int = 1) -> None:
        base = settings_of("{pca: {}}")
        text = configuration_text(SENSORS, LENGTH, "{pca: {}}", DRIFTLESS)
        text = text.replace(f"length: {LENGTH}", f"length: {LENGTH}, stride: {stride}")
        self.asset_class = base if stride == 1 else parse(text, Path("w")).settings.asset_classes["unit"]
        self.rows = collect(self.asset_class, [moving_together()])
        part = parts_of(self.asset_class, self.rows.slots)
        self.normal = scaled(self.asset_class, self.rows, Grouping(None), part)[0]
        self.held = held_windows(self.asset_class, self.rows, self.normal)
        self.planting = Planting(self.asset_class, self.rows, self.normal, self.held, SPAN, seed=0)


@pytest.mark.parametrize("stride", [1, 3])
def test_windows_without_a_fault_are_those_of_training(stride: int) -> None:
    plot = Plot(stride)
    values, mask = plot.planting.normal(np.arange(len(plot.held.closing)))
    chunks = list(windows_of(plot.asset_class, plot.rows, plot.normal))
    closing = np.concatenate([c.closing for c in chunks])
    kept = np.isin(plot.normal.part[closing], (SCALE, LIMIT))
    np.testing.assert_array_equal(plot.held.closing, closing[kept])
    np.testing.assert_array_equal(values, np.concatenate([c.values for c in chunks])[kept])
    np.testing.assert_array_equal(mask, np.concatenate([c.mask for c in chunks])[kept])


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_fault_changes_its_sensor_in_its_span_and_grows_with_its_size(kind: str, stride: int) -> None:
    plot = Plot(stride)
    case = Case(kind, 2, int(np.flatnonzero(plot.held.runs >= SPAN)[5]))
    which = case.place + np.arange(SPAN)
    before = plot.planting.normal(which)[0]
    values = plot.planting.planted(case)[0].reshape(len(KINDS[kind][1]), *before.shape)
    changed = np.abs(values - before)
    if kind != "disturbance":
        assert not changed[..., [0, 1, 3]].any()
    assert not changed[:, 0, :-stride].any(), "the first window ends with the fault's first samples"
    np.testing.assert_array_equal(changed[:, 1, :-stride], changed[:, 0, stride:])
    sizes = np.sqrt((changed**2).mean(axis=(1, 2, 3)))
    assert sizes.min() > 0
    if kind not in ("stuck", "lag"):  # which come to no more than a sensor that is another one's
        assert (np.diff(sizes) > 0).all()


def test_a_bias_of_two_is_two_sigma_and_a_disturbance_keeps_the_correlations() -> None:
    plot = Plot()
    place = int(np.flatnonzero(plot.held.runs >= SPAN)[0])
    before = plot.planting.normal(place + np.arange(SPAN))[0]
    bias, disturbance = (
        plot.planting.planted(Case(kind, 1, place))[0].reshape(4, *before.shape)[2, -1] - before[-1]
        for kind in ("bias", "disturbance")
    )
    np.testing.assert_allclose(np.abs(bias), [[0, 2, 0, 0]] * LENGTH, atol=1e-6)
    first = plot.planting.planted(Case("bias", 1, place))[0].reshape(4, *before.shape)[2, 0] - before[0]
    np.testing.assert_allclose(np.abs(first[-2:]), [[0, 0, 0, 0], [0, 2, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(np.abs(disturbance), 2.0, atol=0.1, err_msg="all move with one another")


# -- how it is judged -----------------------------------------------------------------------------------------


def test_faults_without_effect_are_seen_as_often_as_chance_and_large_ones_always() -> None:
    plot = Plot()
    cases = cases_of(plot.held, SPAN, SENSORS, 6, seed=3)
    score = np.random.default_rng(5).gamma(2.0, size=(len(plot.held.closing), 1))
    places = np.array([case.place for case in cases])[:, None] + np.arange(SPAN)
    same = np.repeat(score[places][:, None], 4, axis=1)
    quiet = sensitivity(
        [on_scale(Raw(score, same), plot.held, 0.1)], plot.held, cases, Scoring(smoothing=0.1), 0.1
    )
    assert 0.0 < quiet.by_chance < 1.0, "or this shows nothing"
    assert np.mean(list(quiet.sizes.values())) == pytest.approx(quiet.by_chance)
    raised = on_scale(Raw(score, same + 100.0), plot.held, 0.1)
    loud = sensitivity([raised], plot.held, cases, Scoring(smoothing=0.1), 0.1)
    assert (loud.overall, loud.delay) == (1.0, 3.0)
    assert loud.realised == quiet.realised
    assert set(loud.kinds.values()) == {1.0}


def test_a_limit_that_holds_in_one_part_only_makes_nobody_look_sensitive() -> None:
    plot = Plot()
    cases = cases_of(plot.held, SPAN, SENSORS, 3, seed=3)
    score = np.random.default_rng(5).gamma(2.0, size=(len(plot.held.closing), 1))
    moved = score + 3.0 * (plot.held.part == LIMIT)[:, None]
    steady, drifting = (
        sensitivity(
            [on_scale(Raw(s, np.full((len(cases), 4, SPAN, 1), 5.0)), plot.held, 0.1)],
            plot.held,
            cases,
            Scoring(),
            0.1,
        )
        for s in (score, moved)
    )
    assert steady.overall > 0.9
    assert drifting.overall <= 0.0
    assert drifting.calibration_error > 2.0 > steady.calibration_error
    assert drifting.realised[1] > 0.99


# -- the bundle -----------------------------------------------------------------------------------------------


def test_a_bundle_of_auto_fits_auto_and_its_own_scorers_by_name_and_nothing_else() -> None:
    asset_class = settings_of("{pca: {}, var: {}}")
    trained = learnt(asset_class)
    back = Bundle.from_files(trained.bundle.to_files())
    assert trained.choice is not None
    names = trained.choice.scorers
    assert tuple(one.name for one in back.scorers) == names == tuple(back.fields["chosen"]["scorers"])
    check_fit(back, asset_class, "unit")
    named, other = (
        parse(configuration_text(SENSORS, LENGTH, f"{{{s}}}", DRIFTLESS), Path("w")).settings.asset_classes[
            "unit"
        ]
        for s in (", ".join(f"{name}: {{}}" for name in names), "ocnn: {}")
    )
    check_fit(back, named, "unit")
    with pytest.raises(ConfigurationError, match=r"scoring\.scorers"):
        check_fit(back, other, "unit")
    with pytest.raises(ConfigurationError, match=r"scoring\.scorers \['.*\], the configuration says auto"):
        check_fit(learnt(named).bundle, asset_class, "unit")
