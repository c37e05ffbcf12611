"""The paper's experiments: their data, their networks trained side by side, and what their figures are."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity
from sklearn.svm import OneClassSVM

from benchmarks.ocnn_paper import classical, digits, fleet, images, mnist, networks, synthetic
from benchmarks.ocnn_paper.__main__ import main
from benchmarks.ocnn_paper.fleet import Bound, Fleet, Length
from benchmarks.ocnn_paper.kept import Kept, Result
from benchmarks.ocnn_paper.tables import markdown
from models.ocnn_head import ACTIVATIONS, Head, respond

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Images of which each digit brightens a row of its own, as MNIST's npz."""
    path = tmp_path_factory.mktemp("mnist") / "mnist.npz"
    parts = {}
    for name, each in (("train", 120), ("test", 20)):
        labels = np.repeat(np.arange(10), each).astype(np.uint8)
        pixels = RNG.integers(0, 60, (len(labels), 28, 28))
        pixels[np.arange(len(labels)), 2 * labels + 3] += 150
        parts |= {f"x_{name}": pixels.astype(np.uint8), f"y_{name}": labels}
    np.savez(path, **parts)
    return path


def test_images_have_no_mean_and_a_mean_absolute_value_of_one():
    rows = mnist.normalised(np.array([[[0, 255], [0, 255]], [[10, 10], [10, 50]]], np.uint8))
    np.testing.assert_allclose(rows[0], [-1, 1, -1, 1], atol=1e-6)
    np.testing.assert_allclose(
        rows[1], [-2 / 3, -2 / 3, -2 / 3, 2], atol=1e-5
    )  # 20 off: 10, 10, 10 and 30, mean 15


def test_under_the_papers_protocol_what_is_learnt_is_judged_and_one_percent_is_anomalous(file):
    whole = mnist.read(file, "transductive")
    trial = mnist.trial(whole, "transductive", 3, 0)
    assert trial.learn is trial.judge
    assert len(trial.learn) == 100 + 20 + 1  # five sixths of 120, all 20 of the test, and 1 % of them
    assert trial.anomalous.sum() == 1
    assert trial.learn.min() == 0.0
    assert trial.learn.max() == 1.0
    np.testing.assert_array_equal(trial.learn, mnist.trial(whole, "transductive", 3, 0).learn)
    assert not np.array_equal(trial.learn, mnist.trial(whole, "transductive", 3, 1).learn)


def test_pixels_are_the_same_images_unnormalised(file):
    trial = mnist.trial(mnist.read(file, "pixels"), "pixels", 3, 0)
    normalised = mnist.trial(mnist.read(file, "transductive"), "transductive", 3, 0)
    rows = trial.learn - trial.learn.mean(axis=1, keepdims=True)
    rows /= np.abs(rows).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(
        (rows - rows.min()) / np.ptp(rows), normalised.learn, atol=1e-5
    )  # the same, in the same order, up to normalisation
    with np.load(file) as parts:
        brightest, darkest = parts["x_train"].max(), parts["x_train"].min()
    assert not np.allclose(trial.learn, normalised.learn, atol=0.01)
    back = trial.learn * (float(brightest) - float(darkest)) + float(darkest)
    np.testing.assert_allclose(back, np.round(back), atol=0.01)
    np.testing.assert_array_equal(trial.anomalous, normalised.anomalous)


def test_where_a_tenth_is_held_back_no_anomaly_is_learnt_and_all_are_judged(file):
    trial = mnist.trial(mnist.read(file, "held_back"), "held_back", 3, 0)
    assert len(trial.judge) == 121
    assert trial.learnt == len(trial.learn) == 108  # nine tenths of 121
    np.testing.assert_array_equal(trial.learn, trial.judge[:108])
    assert trial.anomalous.sum() == 1
    assert not trial.anomalous[:108].any()


def test_under_the_one_class_protocol_only_the_digit_is_learnt(file):
    whole = mnist.read(file, "one_class")
    trial = mnist.trial(whole, "one_class", 3, 0)
    assert trial.learn.shape == (120, 784)
    np.testing.assert_array_equal(trial.anomalous, whole.test_digits != 3)
    bright = trial.learn.reshape(-1, 28, 28).mean(axis=2).argmax(axis=1)
    assert set(bright) == {9}
    held = mnist.trial(whole, "development", 3, 0)
    assert len(held.learn) == 100
    assert len(held.judge) == 200


def test_the_area_under_the_roc_is_that_of_scikit_learn():
    scores, wrong = np.round(RNG.normal(size=300), 1), RNG.random(300) < 0.2
    assert mnist.auc(scores, wrong) == pytest.approx(roc_auc_score(wrong, scores))
    with pytest.raises(ValueError, match="not finite"):
        mnist.auc(np.array([1.0, np.nan]), np.array([True, False]))


def test_products_over_patches_are_xlas_convolutions():
    values = jnp.asarray(RNG.normal(size=(2, 8, 8, 3)), jnp.float32)
    for size, stride in ((4, 2), (3, 1)):
        kernel = jnp.asarray(RNG.normal(size=(size, size, 3, 5)), jnp.float32)
        edge = (size - 1) // 2
        pad = ((edge, size - stride - edge),) * 2
        wanted = jax.lax.conv_general_dilated(
            values, kernel, (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        found = images.patches(values, size, stride) @ kernel.reshape(-1, 5)
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_channels_become_sub_pixels():
    found = images.spread(jnp.arange(8.0).reshape(1, 1, 2, 4)[:, :, :1])
    np.testing.assert_array_equal(found[0, :, :, 0], [[0.0, 1.0], [2.0, 3.0]])


def test_a_settled_encoder_normalises_by_the_images_that_it_was_settled_on():
    layers = images.init(jax.random.key(0), images.ImageSpec(), 28, 28)["encoder"]
    learnt = jnp.asarray(RNG.random((40, 28, 28)), jnp.float32)
    settled = images.settled(layers, learnt)
    kernel = layers["down1"]["kernel"].reshape(4, 4, 1, -1)
    hidden = jax.lax.conv_general_dilated(
        learnt[..., None], kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    mean, variance = settled[images.MOMENTS]["down1"]
    np.testing.assert_allclose(mean.ravel(), np.asarray(hidden).mean(axis=(0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(variance.ravel(), np.asarray(hidden).var(axis=(0, 1, 2)), rtol=1e-3)
    together = images.encode(settled, learnt)
    np.testing.assert_allclose(together, images.encode(layers, learnt), atol=1e-4)
    np.testing.assert_allclose(images.encode(settled, learnt[:3]), together[:3], atol=1e-4)
    assert np.abs(images.encode(layers, learnt[:3]) - together[:3]).max() > 0.01


def test_many_images_are_seen_in_blocks_as_few_are():
    values = jnp.asarray(RNG.normal(size=(7, 4)), jnp.float32)
    seen: list[int] = []

    def tripled(block: jax.Array) -> jax.Array:
        seen.append(len(block))
        return 3.0 * block

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_BLOCK", 3)
        np.testing.assert_allclose(images.in_blocks(tripled, values), 3.0 * values)
    assert max(seen) < 7


class Seen(NamedTuple):
    """A task that adds up what it sees."""

    def step(self, state: Any, batch: jax.Array, key: jax.Array) -> tuple[Any, jax.Array]:
        del key
        return state + jnp.sum(batch), jnp.mean(batch)

    def judge(self, state: Any, held: jax.Array) -> jax.Array:
        return state + jnp.sum(held)


def test_networks_see_their_own_images_once_an_epoch_and_never_the_repeated_ones():
    values = jnp.full((2, 9), jnp.nan).at[0, :6].set(2.0).at[1, :4].set(3.0)
    keys = jax.random.split(jax.random.key(0), 2)
    ready = Fleet(values, jnp.array([6, 4]), values, 4)
    told: list[int] = []
    states = fleet.train(
        keys, Seen(), jnp.zeros(2), values, ready, Length(3, 2), lambda done, *_: told.append(done)
    )
    np.testing.assert_allclose(states, [3 * 4 * 2.0, 3 * 4 * 3.0])
    assert told == [1, 2, 3]


def test_a_network_learns_beside_others_what_it_learns_alone():
    rows = np.asarray(RNG.random((2, 40, 784)), np.float32)
    trials = [mnist.Trial(each, each, np.arange(40) < 4) for each in rows]
    keys = jax.random.split(jax.random.key(0), 2)

    def scores(some: slice) -> Any:
        ready = fleet.fleet_of(trials[some], 40)
        run = networks.Run(keys[some], ready, lambda *_: None, dict, 0.1, True)
        return networks.small_autoencoder(run)

    together, alone = scores(slice(0, 2)), scores(slice(1, 2))
    for name, each in together.items():
        np.testing.assert_allclose(each[1], alone[name][0], rtol=1e-3)


def test_networks_that_judge_different_numbers_of_images_fit_into_one_fleet():
    rows = np.asarray(RNG.random((50, 784)), np.float32)
    trials = [mnist.Trial(rows[:30], rows[:most], np.arange(most) > 35) for most in (40, 50)]
    ready = fleet.fleet_of(trials, 30)
    assert ready.judge.shape == (2, 50, 28, 28)
    np.testing.assert_array_equal(ready.judge[0, 40:].reshape(10, 784), rows[:10])


def test_equal_bound_functions_are_compiled_once():
    assert Bound(pow, (2,)) == Bound(pow, (2,))
    assert hash(Bound(pow, (2,))) == hash(Bound(pow, (2,)))
    assert Bound(pow, (2,))(3) == 8


def test_the_loss_of_ocnn_is_the_printed_one():
    task = networks.Alternation(networks.OcnnSpec(hidden=2, nu=0.5))
    moved = networks.OneClass(Head(jnp.array([1.0, 2.0]), jnp.eye(2)), {})
    y = np.array([1.0, 4.0])  # responses of the features below: 1 * 1 + 2 * 0 and 1 * 2 + 2 * 1
    features = jnp.array([[1.0, 0.0], [2.0, 1.0]])
    found = respond(moved.head, features, ACTIVATIONS["linear"])
    np.testing.assert_allclose(found, y)
    wanted = 0.5 * 5.0 + 0.5 * 2.0 + np.mean(np.maximum(0.0, 3.0 - y)) / 0.5 - 3.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "encode", lambda _, batch: batch)
        assert float(task.loss(moved, features, jnp.float32(3.0))) == pytest.approx(wanted)


def test_the_two_sided_score_is_the_distance_from_the_middle_of_what_was_learnt():
    task = networks.Alternation(networks.OcnnSpec(hidden=1))
    state = (networks.OneClass(Head(jnp.ones(1), jnp.ones((1, 1))), {}), None, jnp.float32(2.0))
    learn, judge = jnp.array([[1.0], [4.0], [5.0], [99.0]]), jnp.array([[3.0], [9.0]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "encode", lambda _, batch: batch)
        patch.setattr(images, "settled", lambda layers, _: layers)
        found = networks._below(task, 3, state, learn, judge)
    np.testing.assert_allclose(found[""], [-1.0, -7.0])
    np.testing.assert_allclose(found[networks.TWO_SIDED], [1.0, 5.0])


def test_the_soft_boundary_begins_with_a_radius_of_zero_and_then_renews_it():
    rows = np.asarray(RNG.random((40, 784)), np.float32)
    ready = fleet.fleet_of([mnist.Trial(rows, rows, np.arange(40) < 4)], 40)
    drawn = images.init(jax.random.key(0), networks.CONV, 28, 28)
    weights = jax.tree.map(lambda weight: weight[None], drawn)
    run = networks.Run(
        jax.random.split(jax.random.key(0), 1), ready, lambda *_: None, lambda: weights, 0.1, True
    )
    seen: list[tuple[Any, bool]] = []

    def watched(*given: Any) -> Any:
        states, between = given[2], given[7:]
        seen.append((np.asarray(states[0].radius), not between))
        return states

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "train", watched)
        networks.soft_svdd(run)
    (first, without), (second, also_without) = seen
    assert first == 0.0
    assert without
    assert second > 0.0
    assert not also_without


@pytest.mark.parametrize("activation", ["linear", "sigmoid"])
def test_opposite_rows_have_opposite_scores_whatever_the_weights(activation):
    rows = synthetic.drawn(np.random.default_rng(1)).rows
    judge = synthetic.as_printed(activation, rows, 0)
    both = judge(rows) + judge(-rows)
    np.testing.assert_allclose(both, both[0], atol=1e-3)
    assert np.ptp(judge(rows)) > 0.01, "the network has not collapsed"


def test_neighbours_leave_the_image_itself_out_where_it_was_learnt():
    rows = np.asarray(RNG.normal(size=(30, 4)), np.float32)
    learn = rows[:20]
    trial = mnist.Trial(learn, rows, np.zeros(30, bool), 20)
    squared = np.sort(((rows[:, None] - learn[None]) ** 2).sum(axis=2), axis=1)
    wanted = np.r_[squared[:20, 1:6].mean(axis=1), squared[20:, :5].mean(axis=1)]
    found = classical.neighbours(classical.Asked(trial, 0.1, 0))[""]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_the_density_and_its_bandwidth_are_those_of_scikit_learn():
    rows = np.asarray(RNG.normal(size=(100, 3)), np.float32)
    squared = classical.squared_distances(rows, rows)
    wanted = KernelDensity(bandwidth=0.7).fit(rows).score_samples(rows)
    np.testing.assert_allclose(classical.log_density(squared, 3, 0.7), wanted, rtol=1e-4)
    widths = (0.2, 0.4, 0.8, 1.6)
    folds = [
        (np.flatnonzero(np.arange(100) % 5 != one), np.flatnonzero(np.arange(100) % 5 == one))
        for one in range(5)
    ]
    search = GridSearchCV(KernelDensity(), {"bandwidth": list(widths)}, cv=folds).fit(rows)
    assert classical.best_bandwidth(squared, 3, widths) == search.best_params_["bandwidth"]
    assert KFold(5).get_n_splits() == len(folds)


def test_the_coded_machine_is_the_best_of_its_widths_by_labels_of_a_tenth():
    centre, ring = RNG.normal(scale=0.5, size=(200, 2)), RNG.normal(size=(20, 2))
    ring *= 4.0 / np.linalg.norm(ring, axis=1, keepdims=True)
    rows = np.concatenate([centre, ring]).astype(np.float32)
    wrong = np.arange(220) >= 200
    some = classical._tenth_of_both(wrong, 3)
    assert len(some) == 22
    assert wrong[some].sum() == 2
    asked = classical.Asked(mnist.Trial(rows, rows, wrong, 220), 0.01, 3)
    machines = [OneClassSVM(nu=0.1, gamma=2.0**-power).fit(rows) for power in range(10, 0, -1)]
    scores = [-machine.decision_function(rows) for machine in machines]
    reached = [roc_auc_score(wrong[some], each[some]) for each in scores]
    found = classical.ocsvm_as_coded(asked)[""]
    np.testing.assert_allclose(found, scores[int(np.argmax(reached))], rtol=1e-6)


def test_results_outlive_a_run_that_was_killed_in_the_middle_of_a_line(tmp_path):
    one = Result("mnist", "one_class", "pca", 3, 0, 0.9, 1.0)
    Kept(tmp_path).put([one])
    with (tmp_path / "results.jsonl").open("a") as lines:
        lines.write('{"experiment": "mni')
    again = Kept(tmp_path)
    assert again.all() == [one]
    assert one.name in again


def test_tables_show_mean_and_spread_over_seeds():
    results = [
        Result("mnist", "transductive", "kde", normal, seed, auc, 1.0)
        for normal, seed, auc in ((0, 0, 0.9), (0, 1, 0.8), (1, 0, 0.7), (1, 1, 0.7))
    ]
    table = markdown(results)
    # means over the digits: 80 and 75; their standard deviation is 5 / sqrt(2)
    assert "| `kde` | 85.0 ± 7.1 | 70.0 ± 0.0 | 77.50 ± 3.54 | 2 | 86.93 |" in table


def test_a_seed_of_fewer_digits_counts_in_their_cells_but_not_in_the_mean():
    results = [
        Result("mnist", "one_class", "kde", normal, seed, auc, 1.0)
        for normal, seed, auc in ((0, 0, 0.9), (1, 0, 0.7), (1, 1, 0.5))
    ]
    assert "| `kde` | 90.0 | 60.0 ± 14.1 | 80.00 | 1 |" in markdown(results)


def test_the_command_keeps_its_results_and_does_not_repeat_them(file, tmp_path, capsys):
    words = [
        "--experiment",
        "mnist",
        "--protocol",
        "one_class",
        "--methods",
        "pca",
        "neighbours",
        "--seeds",
        "2",
    ]
    words += ["--classes", "3", "4", "--data", str(file), "--out", str(tmp_path), "--jobs", "1"]
    main([*words, "--json", str(tmp_path / "all.json")])
    first = capsys.readouterr()
    assert "| `neighbours` | 100.0 | 100.0 | 100.00 | 1 |" in first.out
    found = json.loads((tmp_path / "all.json").read_text())
    assert {one["method"] for one in found} == {"pca", "pca_relative", "neighbours"}
    main(words)
    again = capsys.readouterr()
    assert again.out == first.out
    assert "AUC" not in again.err


def test_a_cpu_trains_one_network_after_another():
    names = [(3, 0), (4, 0)]
    assert digits.fleets(names, "cpu") == [[(3, 0)], [(4, 0)]]
    assert digits.fleets(names, "gpu") == [names]


def test_every_method_has_a_name_on_the_command_line():
    assert set(networks.METHODS) == set(digits.NETWORKS)
    assert set(digits.METHODS) == set(networks.METHODS) | set(classical.METHODS)
