"""Cross-calibration over contiguous folds: what fits what, on which scale, and the rate that comes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectors.records import NO_CONTEXT, Batch, Context
from monitor.configuration import parse
from monitor.model import Grouping, Model
from monitor.settings import AssetClass
from monitor.training import Trained, TrainingProgress, train
from monitor.training.fit import Fit, fit
from monitor.training.history import FIT, LIMIT, Rows, collect, folds_of, part_without
from tests.worlds import SECOND, START, autoregressive, batch_of, configuration_text, pick

SENSORS, LENGTH, NU = 3, 10, 0.05
TOLD = TrainingProgress()


def settings(
    folds: int = 5, sensors: int = SENSORS, nu: float = NU, scorers: str = "{var: {}}"
) -> AssetClass:
    text = configuration_text(sensors, LENGTH, scorers, nu=nu)
    text = text.replace("enough: 1}", f"enough: 1, method: folds, folds: {folds}}}")
    return parse(text, Path("world.yaml")).settings.asset_classes["unit"]


def history(seed: int, rows: int, sensors: int = SENSORS, pull: float = 0.6) -> Batch:
    return batch_of({"plant/0": autoregressive(seed, rows, sensors, pull)})


def trained_on(asset_class: AssetClass, batch: Batch) -> Trained:
    return train(asset_class, "unit", [batch], config_hash="c")


def fitted_without(asset_class: AssetClass, rows: Rows, fold: int) -> Fit:
    part = part_without(folds_of(asset_class, rows.slots), fold)
    return fit(asset_class, rows, Grouping(None), part, TOLD)


def test_a_spike_in_a_fold_does_not_change_that_folds_model() -> None:
    asset_class, calm = settings(), history(1, 500)
    wild = calm.values.copy()
    wild[230:240] += 500.0
    models = [
        fitted_without(asset_class, collect(asset_class, [calm._replace(values=values)]), fold=2).draft
        for values in (calm.values, wild)
    ]
    calm_files, wild_files = ({k: v for k, v in m.to_files().items() if "json" not in k} for m in models)
    assert calm_files == wild_files
    other = fitted_without(asset_class, collect(asset_class, [calm._replace(values=wild)]), fold=1).draft
    assert not np.array_equal(other.scaling.std, models[1].scaling.std), "or the spike shows nowhere"


def test_folds_are_contiguous_alike_in_size_and_at_least_three_windows_long() -> None:
    rows = collect(settings(), [history(1, 500)])
    folds = folds_of(settings(), rows.slots)
    assert np.bincount(folds).tolist() == [100] * 5
    assert (np.diff(folds) >= 0).all()
    assert len(np.unique(folds_of(settings(folds=20), rows.slots))) == 500 // (3 * LENGTH)


def test_a_batch_lies_in_one_fold_as_a_whole() -> None:
    whole = history(1, 600)
    contexts = (NO_CONTEXT, *(Context(f"b{n}", "A", None) for n in range(24)))
    rows = collect(
        settings(),
        [whole._replace(contexts=contexts, context=np.repeat(np.arange(1, 25), 25).astype(np.int32))],
    )
    folds = folds_of(settings(), rows.slots).reshape(24, 25)
    assert (folds == folds[:, :1]).all()
    assert len(np.unique(folds)) == 5


def test_no_fitting_window_reaches_into_or_across_the_fold() -> None:
    asset_class = settings()
    rows = collect(asset_class, [history(1, 500)])
    fitted = fitted_without(asset_class, rows, fold=2)
    ends = [k for k in range(LENGTH - 1, 500) if not {n // 100 for n in range(k - LENGTH + 1, k + 1)} & {2}]
    z = fitted.normal.z
    assert fitted.available == len(ends) == 382
    newest = ends[-376:]  # 382 in six significant bits
    for window, k in zip(np.asarray(fitted.windows.values), newest, strict=True):
        np.testing.assert_array_equal(window, z[k - LENGTH + 1 : k + 1])


def test_windows_are_counted_once_and_none_straddles_a_cut() -> None:
    trained = trained_on(settings(), history(1, 500))
    assert trained.estimate.n == len(trained.limit_ratios) == 5 * (100 - LENGTH + 1)
    assert trained.counts == {"slots": 500, "slots_fit": 500, "folds": 5, "windows_folds": 455}
    assert trained.estimate.source == "out-of-fold (5 folds) combined, smoothed ratios"
    assert (trained.estimate.start_ns - START) // SECOND == LENGTH - 1


def test_the_bundles_models_are_fitted_to_all_of_the_history() -> None:
    batch = history(1, 500)
    trained = trained_on(settings(), batch)
    np.testing.assert_allclose(trained.bundle.scaling.mean, batch.values.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize(("rows", "folds"), [(500, True), (6000, False)])
def test_auto_takes_folds_where_a_held_out_part_is_too_little_for_nu(rows: int, folds: bool) -> None:
    text = configuration_text(SENSORS, LENGTH, "{var: {}}", nu=NU).replace("enough: 1}", "enough: 12}")
    asset_class = parse(text, Path("world.yaml")).settings.asset_classes["unit"]
    trained = trained_on(asset_class, history(1, rows))
    assert ("folds" in trained.counts) == folds
    assert trained.estimate.source.startswith("out-of-fold" if folds else "held-out")


def realised(asset_class: AssetClass, trained: Trained, seed: int, sensors: int) -> tuple[float, float]:
    """Share of fresh windows over the scorer's own limit and over the final one, restarting once."""
    model = Model(trained.bundle, asset_class)
    values = autoregressive(seed, 4000, sensors, 0.6)
    none = np.zeros(len(values), np.int64)
    z = model.trajectory.z(values, none.astype(np.int32), none)
    windows = np.lib.stride_tricks.sliding_window_view(z, LENGTH, axis=0).transpose(0, 2, 1)
    score = model.score(np.ascontiguousarray(windows), np.ones(windows.shape, np.bool_)).score
    u = model.scales.on_scale(score, np.full(len(score), LENGTH, np.int32))[:, 0]
    smooth, before = np.empty(len(u)), 0.0
    for t, x in enumerate(u.tolist()):
        smooth[t] = before = 0.2 * x + 0.8 * before
    return float(np.mean(u > 1.0)), float(np.mean(smooth > model.scales.final_limit))


def test_few_rows_and_many_regressors_realise_about_nu() -> None:
    """12 sensors, 24 regressors, 400 rows: in the fold models' own units nu would be missed by far."""
    sensors, asset_class = 12, settings(folds=10, sensors=12)
    rates = [
        realised(asset_class, trained_on(asset_class, history(seed, 400, sensors)), 100 + seed, sensors)
        for seed in range(5)
    ]
    own, final = np.mean(rates, axis=0)
    assert 0.6 * NU <= own <= 1.5 * NU
    assert 0.5 * NU <= final <= 1.6 * NU


def test_how_the_history_is_cut_into_batches_of_rows_changes_nothing() -> None:
    batch = history(1, 500)
    cut = [pick(batch, slice(low, low + 77)) for low in range(0, 500, 77)]
    asset_class = settings()
    whole, pieces = (train(asset_class, "unit", parts, config_hash="c") for parts in ([batch], cut))
    assert whole.bundle.id == pieces.bundle.id


def test_parts_around_a_fold_are_apart() -> None:
    folds = np.repeat(np.arange(3, dtype=np.int8), 2)
    assert part_without(folds, 1).tolist() == [FIT, FIT, LIMIT, LIMIT, 3, 3]
