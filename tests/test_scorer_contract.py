"""What every scorer owes, whatever it is made of."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models import registry
from models.imputation import fit_imputation, impute
from models.registry import get_scorer, register, scorer_names
from models.scaling import fit_scaling
from models.scorer import FitRefused, Fitted, Scorer, Scores, Windows, silent
from models.windows import gather_windows, window_ends
from tests.synthetic import (
    LENGTH,
    SENSORS,
    as_windows,
    data_folder,
    normal_rows,
    tennessee,
    with_masked,
    with_step,
)

QUICK = {"hidden": 16, "tail": 4, "epochs": 8, "epoch_windows": 1024, "alternations": 3, "weight": 0.8}
QUICK |= {"points": 400, "tried": 4}
"""Small networks; and averages with a short memory, because the planted steps are one sample old."""
TRAINING = normal_rows(3000, 1)
HELD_OUT = as_windows(normal_rows(700, 2), stride=3)
MANY = as_windows(normal_rows(4000, 5), stride=2)
"""Enough for a rate of some percent."""
STEP = 4.0


@dataclass(frozen=True)
class Trained:
    scorer: Scorer
    spec: object
    fitted: Fitted

    def __call__(self, windows: Windows) -> Scores:
        on_device = Windows(jnp.asarray(windows.values), jnp.asarray(windows.mask))
        return jax.jit(self.scorer.score, static_argnums=1)(self.fitted.params, self.spec, on_device)


def quick_spec(scorer: Scorer, **more: object) -> object:
    known = {one.name for one in dataclasses.fields(scorer.spec)}
    return scorer.spec(**{name: value for name, value in (QUICK | more).items() if name in known})


def fit(name: str, windows: Windows, **more: object) -> Trained:
    scorer = get_scorer(name)
    spec = quick_spec(scorer, **more)
    return Trained(scorer, spec, scorer.fit(jax.random.key(0), windows, spec, silent))


@pytest.fixture(scope="module", params=scorer_names())
def trained(request) -> Trained:
    return fit(request.param, as_windows(TRAINING))


def untrained(trained: Trained) -> Trained:
    """The same kind of parameters with nothing learnt: every array drawn at random, of the same sizes."""
    leaves, tree = jax.tree.flatten(dict(trained.fitted.params))
    keys = jax.random.split(jax.random.key(9), len(leaves))
    drawn = [_drawn_like(key, leaf) for key, leaf in zip(keys, leaves, strict=True)]
    return dataclasses.replace(trained, fitted=Fitted(jax.tree.unflatten(tree, drawn), {}))


def _drawn_like(key: jax.Array, leaf: jax.Array) -> jax.Array:
    """Random numbers; an index into other arrays stays one."""
    if jnp.issubdtype(leaf.dtype, jnp.integer):
        return jax.random.permutation(key, leaf, independent=True)
    return 0.3 * jax.random.normal(key, leaf.shape)


def faulty(size: float = STEP) -> tuple[list[Windows], Windows]:
    """Held-out windows, once per sensor with a step in that sensor at the last sample, and as they are."""
    return [with_step(HELD_OUT, sensor, size) for sensor in range(SENSORS)], HELD_OUT


def area(score, size: float = STEP) -> float:
    """ROC-AUC over the steps of all sensors against the windows without."""
    steps, normal = faulty(size)
    low, high = np.asarray(score(normal)), np.concatenate([np.asarray(score(one)) for one in steps])
    return roc_auc_score(np.r_[np.zeros(len(low)), np.ones(len(high))], np.r_[low, high])


def test_results_have_the_promised_shapes_and_types(trained):
    scores = trained(HELD_OUT)
    count = len(HELD_OUT.values)
    assert [(part.shape, str(part.dtype)) for part in scores] == [
        ((count,), "float32"),
        ((count, SENSORS), "float32"),
        ((count, SENSORS), "float32"),
    ]


def test_scores_are_finite_and_not_collapsed(trained):
    scores = trained(HELD_OUT)
    assert all(bool(jnp.isfinite(part).all()) for part in scores)
    assert len(np.unique(scores.score)) > 0.9 * len(HELD_OUT.values)


def test_features_are_finite_differ_between_windows_and_are_each_windows_own(trained):
    shown = jax.tree.map(jnp.asarray, HELD_OUT)
    features = jax.jit(trained.scorer.features_of, static_argnums=1)
    found = np.asarray(features(trained.fitted.params, trained.spec, shown))
    assert found.shape == (len(HELD_OUT.values), found.size // len(HELD_OUT.values))
    assert np.isfinite(found).all()
    assert len(np.unique(found.round(6), axis=0)) > 0.9 * len(found)
    alone = features(trained.fitted.params, trained.spec, Windows(shown.values[7:8], shown.mask[7:8]))
    np.testing.assert_allclose(alone[0], found[7], rtol=1e-3, atol=1e-4)


def test_a_larger_fault_scores_higher(trained):
    medians = [
        float(jnp.median(trained(with_step(HELD_OUT, 1, size)).score)) for size in (0.0, 2.0, 4.0, 8.0)
    ]
    assert medians == sorted(medians)
    assert medians[0] < medians[-1]


def test_trained_beats_untrained_random_and_always_fire(trained):
    reached = area(lambda windows: trained(windows).score)
    rng = np.random.default_rng(0)
    others = {
        "untrained": area(lambda windows: np.nan_to_num(untrained(trained)(windows).score)),
        "random": area(lambda windows: rng.normal(size=len(windows.values))),
        "always fire": area(lambda windows: np.ones(len(windows.values))),
    }
    assert reached > 0.9
    assert all(reached > other + 0.1 for other in others.values()), (reached, others)


def test_contributions_are_not_negative_and_name_the_planted_sensor_first(trained):
    for sensor, windows in enumerate(faulty(8.0)[0]):
        contributions = np.asarray(trained(windows).contributions)
        assert (contributions >= 0).all()
        assert np.mean(np.argmax(contributions, axis=1) == sensor) > 0.95, sensor


def test_permuting_sensors_permutes_contributions(trained):
    order = np.random.default_rng(3).permutation(SENSORS)
    permuted = fit(trained.scorer.name, as_windows(TRAINING[:, order]))
    for place, sensor in enumerate(order):
        windows = with_step(HELD_OUT, int(sensor), 8.0)
        moved = Windows(windows.values[:, :, order], windows.mask[:, :, order])
        before = np.mean(np.asarray(trained(windows).contributions), axis=0)[order]
        after = np.mean(np.asarray(permuted(moved).contributions), axis=0)
        assert np.argmax(after) == place
        assert np.corrcoef(before, after)[0, 1] > 0.95


def test_a_fixed_seed_gives_the_same_result(trained):
    again = fit(trained.scorer.name, as_windows(TRAINING))
    jax.tree.map(np.testing.assert_array_equal, dict(again.fitted.params), dict(trained.fitted.params))


def test_a_window_that_never_moves_gives_finite_results(trained):
    for value in (0.0, 1.0, -1e4):
        still = Windows(np.full((3, LENGTH, SENSORS), value, np.float32), np.ones((3, LENGTH, SENSORS), bool))
        assert all(bool(jnp.isfinite(part).all()) for part in trained(still))


@pytest.mark.parametrize("name", scorer_names())
def test_a_sensor_that_never_moved_in_training_gives_finite_results_or_a_refusal(name):
    rows = TRAINING[:1500].copy()
    rows[:, 2] = 0.0
    try:
        learnt = fit(name, as_windows(rows), epochs=2)
    except FitRefused:
        return
    assert all(bool(jnp.isfinite(part).all()) for part in learnt(HELD_OUT))


def test_a_masked_sensor_says_nothing_and_leaves_the_rest_working(trained):
    rows = jnp.asarray(TRAINING)
    imputation = fit_imputation(rows, jnp.ones(rows.shape, bool))

    def seen(windows: Windows) -> Scores:
        on_device = Windows(jnp.asarray(windows.values), jnp.asarray(windows.mask))
        return trained(jax.jit(impute)(imputation, on_device))

    limit = float(np.quantile(trained(MANY).score, 0.95))
    broken = seen(with_masked(with_step(MANY, 1, 50.0), 1))
    assert float(jnp.max(broken.contributions[:, 1])) == 0.0
    assert 0.5 * 0.05 <= float(jnp.mean(broken.score > limit)) <= 1.6 * 0.05
    other = seen(with_masked(with_step(HELD_OUT, 4, 8.0), 1))
    assert float(jnp.mean(other.score > limit)) > 0.9
    assert float(jnp.mean(jnp.argmax(other.contributions, axis=1) == 4)) > 0.9


def test_expected_is_nearer_to_the_truth_than_the_mean_is(trained):
    truth = HELD_OUT.values[:, -1, :]
    expected = np.asarray(trained(HELD_OUT).expected)
    assert np.mean((expected - truth) ** 2) < 0.8 * np.mean(truth**2)


@pytest.mark.parametrize("name", scorer_names())
def test_a_history_that_is_too_short_is_refused(name):
    with pytest.raises(FitRefused):
        fit(name, as_windows(TRAINING[: LENGTH + 1]))


@pytest.mark.parametrize("name", scorer_names())
def test_every_field_of_a_spec_is_documented_and_has_a_default(name):
    spec = get_scorer(name).spec
    documented = "".join(base.__doc__ or "" for base in spec.__mro__)
    assert spec() == spec()
    assert all(f"{one.name}:" in documented for one in dataclasses.fields(spec))


def test_a_scorer_of_ones_own_is_found_by_name_and_cannot_take_a_name(monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    own = dataclasses.replace(get_scorer("pca"), name="own_pca")
    register(own)
    assert get_scorer("own_pca") is own
    with pytest.raises(ValueError, match="'pca' is taken"):
        register(get_scorer("pca"))


@pytest.fixture(scope="module")
def process() -> tuple[Windows, list[Windows]]:
    """Tennessee Eastman, every fourth channel: training windows, and the test runs of faults 1, 6, 12 and 14."""
    folder = data_folder("tep")
    runs = np.load(folder / "normal_runs.npz")["train"][:6, :, ::4].astype(np.float64)
    rows = np.concatenate([tennessee(folder, "d00")[:, ::4], *runs])
    scaling = fit_scaling(rows, np.ones(rows.shape, bool))
    segments = np.arange(len(rows)) // 500
    z = scaling.z(rows)
    training = gather_windows(z, np.ones(z.shape, bool), window_ends(segments, 16), 16)
    tests = [
        as_windows(scaling.z(tennessee(folder, f"d{fault:02d}_te")[:, ::4]), 16) for fault in (1, 6, 12, 14)
    ]
    return training, tests


@pytest.mark.parametrize(
    ("name", "floor"), [("lstm_autoencoder", 0.85), ("ocnn", 0.85), ("pca", 0.85), ("var", 0.85)]
)
def test_faults_of_a_real_benchmark_are_ranked_above_normal(name, floor, process):
    training, tests = process
    learnt = fit(name, training)
    areas = [roc_auc_score(np.arange(15, 960) >= 160, learnt(test).score) for test in tests]
    assert np.mean(areas) > floor, areas
